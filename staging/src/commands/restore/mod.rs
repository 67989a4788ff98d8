//! `restore FILE`: makes an empty store what a backup and signed releases say.
//!
//! 1. The whole backup is read and checked; then what may refuse does: a device
//!    that is in use, a release that is not there, keys, configuration, space.
//! 2. Each version is received from its signed release, by `receive`'s own rules.
//! 3. The backup is read once more, overlays are unpacked beside each other in
//!    `incoming/`, and count only once the digest over all of it is the same again.
//! 4. Under the store's lock: overlays get their names, then what is small, then
//!    the audit log goes on with a line, and last the boot record is written.
//!
//! Until the record is written nothing selects what is there, and a boot finds the
//! device as it was; after a power cut the same command goes on from there.

mod configuration;
mod fresh;
mod install;
mod keys;
mod plan;
mod record;
mod releases;
mod unpack;

use std::io::{Seek as _, SeekFrom};

use op_dbus_bootstate::{Deployment, Record};

use crate::backup::contents::{Contents, interrupted};
use crate::cli::backup::Restore;
use crate::commands::backup::{open_backup, read, require_digest, summary};
use crate::commands::receive::{self, Incoming, Interrupt};
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};
use crate::session::Session;

use configuration::Configuration;
use fresh::State;
use plan::Wanted;

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Restore) -> Result<Exit> {
    Context::require_root()?;
    context.require_store()?;
    let interrupt = Interrupt::install()?;
    let mut file = open_backup(&args.file)?;
    let handle = file
        .try_clone()
        .map_err(|why| Failure::io(args.file.display(), why))?;
    let contents = read(
        context,
        &args.file,
        handle,
        &interrupt,
        "checking the backup",
    )?;
    require_digest(&args.file, &contents, args.digest.as_deref())?;
    let record = record_of(args, &contents)?;
    let wanted = plan::wanted(&record, &contents, &args.version);

    let session = Session::open(context)?;
    let state = fresh::look(context, &session, &contents)?;
    drop(session);
    if state == State::Restored {
        return already(context, &contents);
    }
    let configuration = Configuration::compare(context, &contents, args.configuration)?;
    let staged = configuration.staged(context)?;
    let by = staged.as_ref().map_or(context, |staged| &staged.context);
    keys::trust(by, &contents, &args.trust_key)?;
    let found = releases::find(by, args, &contents, &wanted)?;
    let streams = unpack::choose(&contents, &wanted);
    unpack::require_space(by, &streams)?;

    let mut received = Vec::new();
    for release in &found.in_order {
        received.push(receive::bring_in(by, &release.manifest, &interrupt)?);
    }
    let incoming = Incoming::lock(context)?;
    incoming.clear()?;
    unpack::require_space(by, &streams)?;
    let area = incoming.area("restore")?;
    file.seek(SeekFrom::Start(0))
        .map_err(|why| Failure::io(args.file.display(), why))?;
    let unpacked = unpack::unpack(
        context,
        args,
        &contents,
        &streams,
        file,
        &interrupt,
        area.path(),
    )?;
    if interrupt.asked() {
        return Err(interrupted());
    }

    // From here on it takes a moment, and goes on whatever is asked.
    let mut session = Session::open(context)?;
    if fresh::look(context, &session, &contents)? != State::Fresh {
        return Err(fresh::changed(context));
    }
    let restored = unpacked.install(context, &contents, &wanted)?;
    configuration.install(context)?;
    op_dbus_btrfs::sync_filesystem(&context.layout.store)?;
    record::write(
        &mut session,
        &record,
        &received,
        &contents,
        restored.log.as_deref(),
    )?;
    fresh::clear_marks(context);
    drop(session);
    drop(area);
    if by.config_path() != context.config_path() {
        context.take_warnings(by);
    }
    context.print(&report(
        &contents,
        &record,
        &received,
        &found,
        &configuration,
        &restored,
    ))?;
    Ok(Exit::Done)
}

/// The record to restore.
fn record_of(args: &Restore, contents: &Contents) -> Result<Record> {
    match contents.record() {
        Some((record, _)) => Ok(record),
        None => Err(Failure::new(
            Exit::Record,
            args.file.display(),
            "the backup's boot record can't be read, and its audit log tells of no version that was blessed",
            "receive and stage a version; take files out of the backup with tar --zstd -xf (docs/BACKUP.md)",
        )),
    }
}

fn already(context: &Context, contents: &Contents) -> Result<Exit> {
    // A power cut may have come before these. What somebody who holds the lock
    // finds there, they clear away themselves.
    if let Ok(incoming) = Incoming::lock(context) {
        incoming.clear()?;
    }
    let mut session = Session::open(context)?;
    session.keep_blessed();
    fresh::clear_marks(context);
    let report = Report::new("restore", "already-restored");
    let report = summary(report, contents)
        .line("Nothing to do: this backup is restored, and nothing has happened since.");
    context.print(&report)?;
    Ok(Exit::Done)
}

fn report(
    contents: &Contents,
    record: &Record,
    received: &[Deployment],
    found: &releases::Found,
    configuration: &Configuration,
    restored: &install::Restored,
) -> Report {
    let missing: Vec<_> = found
        .missing
        .iter()
        .map(|one| one.version.as_str())
        .collect();
    let versions: Vec<_> = received.iter().map(|one| one.version.as_str()).collect();
    let mut report = summary(Report::new("restore", "restored"), contents)
        .object("versions", &versions)
        .object("missing", &missing)
        .object("overlays", &restored.places)
        .object("left_in_backup", &restored.left)
        .field("configuration", configuration.word())
        .line(format!(
            "Restored the backup of {} from {}.",
            contents.info.host, contents.info.created
        ));
    for deployment in received {
        let role = record
            .deployments()
            .find(|(_, held)| held.version == deployment.version)
            .map_or_else(|| "no role".to_owned(), |(role, _)| role.to_string());
        report = report.line(format!(
            "  {} ({role}), digest {}",
            deployment.version,
            deployment.digest.short()
        ));
    }
    for missing in &found.missing {
        report = report.line(format!(
            "  {} ({}) is MISSING: receive its release, and it is whole again",
            missing.version,
            missing.roles()
        ));
    }
    for place in &restored.places {
        report = report.line(format!("  {place}"));
    }
    if !restored.left.is_empty() {
        report = report.line(format!(
            "Left in the backup (restore them with --version): {}",
            restored.left.join(", ")
        ));
    }
    report = report.line(configuration.line());
    report.line("Next: op-dbus-stage status, then reboot")
}

/// The versions that are wanted, as text for messages.
fn names(wanted: &[&Wanted]) -> String {
    let names: Vec<_> = wanted.iter().map(|one| one.version.as_str()).collect();
    names.join(", ")
}
