//! `receive FILE`: from a signed release to a published version, in one pass.
//!
//! 1. Manifest and signature are read whole; the signature is checked over the
//!    very bytes that are parsed. Everything else is believed only as far as this
//!    manifest vouches for it.
//! 2. What can be refused is, before a byte of the stream is used: product, epoch,
//!    quarantine, another release of that name, a missing parent, too little space.
//! 3. Each chunk is checked, then decompressed, parsed, held against the policy
//!    and applied, below a private directory in `incoming/`.
//! 4. syncfs; then the tree is read back from the disk and must have the digest
//!    that the manifest names, and no privileged file it does not list.
//! 5. Under the store's lock: a read-only snapshot in `deploy/`, manifest and
//!    signature, synced; its identity; the receipt, which is what makes it a
//!    version; the audit log.
//!
//! The transfer itself holds only the lock of `incoming/`: a verdict on the
//! running version need not wait for a download. Whatever ends a run before the
//! receipt leaves nothing but a log line; the next run clears what a kill left.

mod incoming;
mod interrupt;
mod parent;
mod publish;
mod rules;
mod select;
mod source;
pub(crate) mod space;
mod transfer;

use std::cell::RefCell;
use std::path::Path;

use op_dbus_activator::steps::Steps;
use op_dbus_bootstate::Deployment;
use op_dbus_release::manifest::Stream;

use crate::cli::device as cli;
use crate::context::{Context, Report};
use crate::deployments::Deployments;
use crate::error::{Exit, Failure, Result};
use crate::progress::Progress;
use crate::refusals;
use crate::session::Session;
use crate::settings::Settings;
use crate::signed::{self, Signed};

pub(crate) use incoming::{Incoming, remove as remove_tree};
pub(crate) use interrupt::Interrupt;
pub(crate) use publish::settle;
pub(crate) use rules::name as free_name;
use source::Named;
pub(crate) use source::{beside, is_manifest, open, read_first};
pub(crate) use space::headroom;
use transfer::Input;
pub(crate) use transfer::{agrees, failure as stream_failure, policy, unrecognised};

/// What a run goes by.
struct Run<'c> {
    context: &'c Context,
    args: &'c cli::Receive,
    settings: Settings,
    interrupt: Interrupt,
    progress: Progress,
    steps: RefCell<Steps>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &cli::Receive) -> Result<Exit> {
    Context::require_root()?;
    context.require_store()?;
    let (_, report) = perform(context, args, Interrupt::install()?)?;
    context.print(&report)?;
    Ok(Exit::Done)
}

/// Brings in a release whose streams are beside its manifest, for another
/// command: by the same rules, and with the same line in the log if it is refused.
pub(crate) fn bring_in(
    context: &Context,
    manifest: &Path,
    interrupt: &Interrupt,
) -> Result<Deployment> {
    let args = cli::Receive {
        file: manifest.to_owned(),
        manifest: None,
        no_read_back: false,
        progress: false,
        overrides: cli::Override {
            allow_quarantined: false,
            allow_old_epoch: false,
        },
    };
    let (deployment, _) = perform(context, &args, interrupt.clone())?;
    Ok(deployment)
}

fn perform(
    context: &Context,
    args: &cli::Receive,
    interrupt: Interrupt,
) -> Result<(Deployment, Report)> {
    let named = Named::new(&args.file, args.manifest.as_deref());
    let run = Run {
        context,
        args,
        settings: Settings::load(context)?,
        interrupt,
        progress: Progress::told(context, args.progress),
        steps: RefCell::default(),
    };
    match named.and_then(|named| run.receive(&named)) {
        Ok(received) => Ok(received),
        Err(failure) => {
            // Whatever an interrupted read or write failed with, this is why.
            let failure = run.interrupt.check().err().unwrap_or(failure);
            log_refusal(context, &args.file, &failure);
            Err(failure)
        }
    }
}

impl Run<'_> {
    fn receive(&self, named: &Named) -> Result<(Deployment, Report)> {
        let context = self.context;
        let keyring = signed::keyring(context, &self.settings)?;
        let signed = Signed::read(named.manifest(), &keyring)?;
        rules::product(&signed, &self.settings.product)?;
        rules::name(&signed.manifest.version)?;

        let incoming = Incoming::lock(context)?;
        // What would stop the end of a long transfer stops it before its beginning.
        let record = Session::open(context)?.record().clone();
        incoming.clear()?;
        publish::settle(context)?;
        if let Some(deployment) = publish::already_there(context, &signed, &keyring, &record)? {
            let report = already_there(&deployment);
            return Ok((deployment, report));
        }
        let overridden = rules::may_be_received(&signed, &record, self.args.overrides)?;
        self.bring(named, &signed, &incoming, overridden)
    }

    /// From a release that may be received to a published version.
    fn bring(
        &self,
        named: &Named,
        signed: &Signed,
        incoming: &Incoming,
        overridden: &'static str,
    ) -> Result<(Deployment, Report)> {
        let context = self.context;
        let deployments = Deployments::read(&context.layout)?;
        let (stream, input) = self.input(named, signed, &deployments)?;
        let parent = parent::find(&context.layout, &deployments, &signed.manifest, stream)?;
        let available = incoming.available();
        self.require_space(signed, stream, incoming)?;
        self.done("checks");

        let transferred = transfer::Transfer {
            run: self,
            signed,
            stream,
            parent,
            overridden,
        }
        .complete(input, incoming);
        if matches!(&transferred, Err(failure) if failure.kind == Exit::NoSpace) {
            incoming.reclaim(available);
        }
        let receipt = transferred?;
        let version = &receipt.deployment.version;
        let report = report("received", &receipt.deployment)
            .field("bytes", receipt.bytes)
            .field("stream", stream.file.as_str())
            .field("signer", signed.signer.fingerprint.as_str())
            .field("read_back", !self.args.no_read_back)
            .object("steps_us", &self.steps.borrow().laps())
            .line(format!(
                "{version} is in the store ({} MiB, digest {}), signed by {}.",
                space::mib(receipt.bytes),
                receipt.deployment.digest.short(),
                signed.signer_name(),
            ))
            .line(format!("Next: op-dbus-stage stage {version}"));
        Ok((receipt.deployment, report))
    }

    /// Ends a step, for the report.
    fn done(&self, step: &str) {
        self.steps.borrow_mut().done(step);
    }

    /// The stream to take, and where it is read from.
    fn input<'s>(
        &self,
        named: &Named,
        signed: &'s Signed,
        deployments: &Deployments,
    ) -> Result<(&'s Stream, Input)> {
        let layout = &self.context.layout;
        match named {
            Named::Stdin(_) => {
                let stdin = Path::new("standard input");
                Input::recognise(source::stdin()?, stdin, signed, &self.interrupt)
            }
            Named::Stream(path, _) => Input::recognise(open(path)?, path, signed, &self.interrupt),
            Named::Manifest(path) => {
                let facts = select::Facts {
                    is_beside: &|name| path.with_file_name(name).exists(),
                    has_parent: &|stream| parent::is_here(layout, deployments, stream),
                };
                let stream = select::best(&signed.manifest, &facts)
                    .ok_or_else(|| select::none_is_there(path))?;
                let file = path.with_file_name(&stream.file);
                let input = Input::of(open(&file)?, &file, &self.interrupt);
                Ok((stream, input))
            }
        }
    }

    fn require_space(&self, signed: &Signed, stream: &Stream, incoming: &Incoming) -> Result<()> {
        let needed = space::needed(stream, &signed.manifest.tree);
        let headroom = space::headroom(incoming.size(), self.settings.headroom_mib);
        let available = incoming.available();
        if available >= needed.saturating_add(headroom) {
            return Ok(());
        }
        let mib = space::mib;
        Err(Failure::new(
            Exit::NoSpace,
            &stream.file,
            format_args!(
                "needs about {} MiB, and {} MiB are kept free for the running system, but the store has {} MiB left",
                mib(needed),
                mib(headroom),
                // Rounded down: what is left is not to look like enough.
                available >> 20
            ),
            space::remedy(&signed.manifest, stream),
        ))
    }
}

fn already_there(deployment: &Deployment) -> Report {
    report("already-there", deployment).line(format!(
        "Nothing to do: {} is in the store already and intact.",
        deployment.version
    ))
}

fn report(result: &str, deployment: &Deployment) -> Report {
    Report::new("receive", result)
        .field("version", deployment.version.as_str())
        .field("epoch", deployment.epoch)
        .object("digest", &deployment.digest)
}

/// A failure leaves one line in the log. Where even that is not possible, the
/// failure itself is what is reported.
fn log_refusal(context: &Context, file: &Path, failure: &Failure) {
    if matches!(failure.kind, Exit::Locked | Exit::Record | Exit::Usage) {
        return;
    }
    refusals::log(
        context,
        &format!("receive {}", file.display()),
        None,
        failure,
    );
}
