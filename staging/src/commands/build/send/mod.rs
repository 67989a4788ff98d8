//! `send VERSION`: a version's streams and their manifest, in files.
//!
//! 1. What was asked for is settled, and every file name is free. The tree holds
//!    nothing that no stream can carry, and nothing privileged that is not allowed.
//! 2. The content digests of the version and of the parents, each taken once.
//! 3. Each stream: `btrfs send` → the checks a device makes → zstd → chunk
//!    digests → a file without a name.
//! 4. The manifest; then all files get their names, it last.
//!
//! Whatever ends a run before that leaves nothing to be seen.

mod estimate;
mod plan;
pub(crate) mod program;
mod stream;

use std::path::Path;

use op_dbus_bootstate::{Digest, Version};
use op_dbus_release::manifest::{self, Allow, Manifest};
use op_dbus_release::tree::{self, Cache, Kind, Privileged};
use op_dbus_sendstream::Policy;
use sha2::{Digest as _, Sha256};

use super::area::{Area, Frozen, Use};
use super::check;
use super::epoch;
use super::output::{Output, Pending};
use super::size;
use crate::auditlog;
use crate::cli::build::Send;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};
use crate::progress::Progress;

use plan::Plan;
use program::Program;
use stream::{Form, Job};

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Send) -> Result<Exit> {
    Context::require_root()?;
    manifest::check_product(&args.product).map_err(|why| {
        Failure::new(
            Exit::Refused,
            "--product",
            why,
            "name what devices are told to take: --product NAME",
        )
    })?;
    let area = Area::new(&args.place);
    area.require()?;
    let _lock = area.lock(Use::Shared)?;
    // A change that is not committed yet would move the transaction numbers later.
    op_dbus_btrfs::sync_filesystem(area.root())?;
    let release = Release::plan(context, args, &area)?;
    let program = Program::find(&args.btrfs, args.compressed_data)?;
    let dir = args.output.clone().unwrap_or_else(|| area.releases());
    let output = Output::open(&dir)?;
    output.settle(&args.version, &release.names)?;
    output.require_free(&release.names)?;

    check::require_sendable(&release.version.path)?;
    let privileged = allowed(args, &release.version)?;
    let allow = allow(&privileged)?;
    let progress = Progress::new(context);
    let manifest = release.make(args, &program, &output, allow, progress)?;
    report(context, args, &manifest, &dir)
}

/// What a run makes, and of what.
struct Release {
    version: Frozen,
    plan: Plan,
    parents: Vec<Frozen>,
    /// Of all files, the manifest last.
    names: Vec<String>,
}

impl Release {
    fn plan(context: &Context, args: &Send, area: &Area) -> Result<Self> {
        let version = area.frozen(&args.version)?;
        let known: Vec<_> = area
            .all_frozen()?
            .0
            .into_iter()
            .map(|known| known.version)
            .collect();
        let plan = plan::plan(&args.version, args.full, &args.parent, &known)
            .map_err(|why| planless(&args.version, &why))?;
        if plan.nothing_older {
            context.warn(format!(
                "no version older than {} is there: only the full stream is made",
                args.version
            ));
        }
        let mut parents = Vec::new();
        for parent in &plan.parents {
            let parent = area.frozen(parent)?;
            if parent.sent_uuid() == version.sent_uuid() {
                return Err(same_uuid(&parent, &version));
            }
            parents.push(parent);
        }
        if usize::from(plan.full) + parents.len() > manifest::STREAMS_MAX {
            return Err(Failure::new(
                Exit::Refused,
                &args.version,
                format_args!("a release has at most {} streams", manifest::STREAMS_MAX),
                "name fewer parents",
            ));
        }
        let stem = args.version.as_str();
        let full = plan.full.then_some(None);
        let deltas = plan.parents.iter().map(|parent| Some(parent.as_str()));
        let mut names: Vec<_> = full
            .into_iter()
            .chain(deltas)
            .map(|parent| stream::file_name(stem, parent, args.compression))
            .collect();
        // A signature of another manifest must not lie beside the new one.
        names.extend([
            format!("{stem}.json.asc"),
            format!("{stem}.sha256"),
            format!("{stem}.json"),
        ]);
        Ok(Self {
            version,
            plan,
            parents,
            names,
        })
    }

    fn make(
        &self,
        args: &Send,
        program: &Program,
        output: &Output,
        allow: Allow,
        progress: Progress,
    ) -> Result<Manifest> {
        let tree = digest(&self.version, progress)?;
        let epoch = epoch::read(&self.version.path).map_err(|why| unusable(&self.version, why))?;
        let mut jobs = Vec::new();
        if self.plan.full {
            jobs.push(None);
        }
        for parent in &self.parents {
            jobs.push(Some((parent, digest(parent, progress)?.digest)));
        }
        let form = Form {
            compression: args.compression,
            level: args.level,
            chunk_size: stream::chunk_size(tree.bytes.saturating_mul(jobs.len() as u64)),
        };
        let policy = policy(&allow);
        let (mut streams, mut pending) = (Vec::new(), Vec::new());
        for parent in jobs {
            let parent_name = parent.map(|(parent, _)| parent.version.as_str());
            let name = stream::file_name(args.version.as_str(), parent_name, args.compression);
            let file = output.create(&name)?;
            let bytes = match parent {
                None => Some(tree.bytes),
                Some((parent, _)) if progress.shows_what_is_left() => {
                    estimate::content(program, &self.version, parent)
                }
                Some(_) => None,
            };
            let job = Job {
                version: &self.version,
                parent,
                file: &file,
            };
            let phase = progress.phase(format!("sending {name}"), bytes);
            let made = stream::make(program, &job, &policy, form, &phase.meter())?;
            streams.push(made);
            pending.push(file);
        }
        self.require_unchanged()?;
        let manifest = Manifest {
            schema: manifest::SCHEMA,
            product: args.product.clone(),
            version: args.version.clone(),
            epoch,
            created: auditlog::now(),
            tree,
            allow,
            chunk_size: form.chunk_size,
            streams,
        };
        publish(output, &manifest, pending)?;
        Ok(manifest)
    }

    /// Digests and streams are of the same content only if nothing was written.
    fn require_unchanged(&self) -> Result<()> {
        for frozen in [&self.version].into_iter().chain(&self.parents) {
            let now = op_dbus_btrfs::info_of(&frozen.path)?;
            let same = now.uuid == frozen.info.uuid && now.ctransid == frozen.info.ctransid;
            if !same || !now.is_read_only() {
                return Err(Failure::new(
                    Exit::Verification,
                    frozen.path.display(),
                    "was changed while it was sent",
                    "make the version anew; nothing may write to a frozen one",
                ));
            }
        }
        Ok(())
    }
}

fn digest(frozen: &Frozen, progress: Progress) -> Result<manifest::Tree> {
    let _phase = progress.phase(format!("content digest of {}", frozen.version), None);
    let found = tree::digest(&frozen.path, Cache::Keep).map_err(|why| unusable(frozen, why))?;
    Ok(found.tree)
}

fn unusable(frozen: &Frozen, why: impl std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Refused,
        &frozen.version,
        why,
        "correct the tree and make a new version; see: op-dbus-stage check source",
    )
}

/// What the tree holds that needs permission; refused unless it is allowed.
fn allowed(args: &Send, frozen: &Frozen) -> Result<Vec<Privileged>> {
    let found = tree::survey(&frozen.path).map_err(|why| unusable(frozen, why))?;
    if found.is_empty() || args.allow_privileged {
        return Ok(found);
    }
    let list: Vec<_> = found
        .iter()
        .map(|entry| format!("{} ({})", entry.path.escape_ascii(), entry.kind))
        .collect();
    Err(Failure::new(
        Exit::Refused,
        &frozen.version,
        format_args!("the tree holds what needs permission: {}", list.join(", ")),
        "take it out and make a new version, or have the manifest allow it: --allow-privileged",
    ))
}

/// What a device will allow by this manifest, so that it is what is published.
fn policy(allow: &Allow) -> Policy {
    Policy {
        devices: !allow.devices.is_empty(),
        setuid: !allow.setuid.is_empty(),
        capabilities: !allow.capabilities.is_empty(),
        ..Policy::default()
    }
}

/// The manifest's lists.
fn allow(privileged: &[Privileged]) -> Result<Allow> {
    let list = |kind| -> Result<Vec<String>> {
        let of_kind = privileged.iter().filter(|entry| entry.kind == kind);
        let mut paths = of_kind
            .map(|entry| String::from_utf8(entry.path.clone()).map_err(|_| not_text(entry)))
            .collect::<Result<Vec<_>>>()?;
        paths.sort_unstable();
        Ok(paths)
    };
    Ok(Allow {
        devices: list(Kind::Device)?,
        setuid: list(Kind::Setuid)?,
        capabilities: list(Kind::Capability)?,
    })
}

fn not_text(entry: &Privileged) -> Failure {
    Failure::new(
        Exit::Refused,
        entry.path.escape_ascii(),
        format_args!(
            "{} whose name is not UTF-8 can't be listed in a manifest",
            entry.kind
        ),
        "rename it and make a new version",
    )
}

/// The manifest and the list of checksums, and names for all files.
fn publish(output: &Output, manifest: &Manifest, mut pending: Vec<Pending>) -> Result<()> {
    let bytes = manifest.to_bytes();
    let name = format!("{}.json", manifest.version);
    // What no device would read must not be signed.
    Manifest::parse(&bytes).map_err(|why| {
        Failure::new(
            Exit::Refused,
            &name,
            why,
            "correct what it names, or make fewer streams in one run",
        )
    })?;
    let mut sums = Vec::new();
    let own = Digest(Sha256::digest(&bytes).into());
    let streams = manifest
        .streams
        .iter()
        .map(|stream| (&stream.sha256, stream.file.as_str()));
    for (digest, file) in streams.chain([(&own, name.as_str())]) {
        sums.push(format!("{digest}  {file}\n"));
    }
    for (name, content) in [
        (
            format!("{}.sha256", manifest.version),
            sums.concat().as_bytes(),
        ),
        (name.clone(), &bytes),
    ] {
        let mut file = output.create(&name)?;
        file.write(content).map_err(|why| {
            Failure::io(format_args!("{}: write", output.path(&name).display()), why)
        })?;
        pending.push(file);
    }
    output.publish(&manifest.version, pending)
}

fn planless(version: &Version, why: &plan::PlanError) -> Failure {
    let text = why.to_string();
    let (why, remedy) = text
        .split_once("; ")
        .unwrap_or((&text, "name other versions"));
    Failure::new(Exit::Refused, version, why, remedy)
}

fn same_uuid(parent: &Frozen, version: &Frozen) -> Failure {
    Failure::new(
        Exit::Refused,
        &version.version,
        format_args!(
            "has the UUID of {} in streams: both were frozen from a subvolume that was itself received",
            parent.version
        ),
        "make golden a writable snapshot of that subvolume, and the versions anew",
    )
}

fn report(context: &Context, args: &Send, manifest: &Manifest, dir: &Path) -> Result<Exit> {
    let path = dir.join(format!("{}.json", args.version));
    let mut report = Report::new("send", "written")
        .field("manifest", path.to_string_lossy())
        .object("version", &manifest.version)
        .field("epoch", manifest.epoch)
        .object("tree", &manifest.tree)
        .object("allow", &manifest.allow)
        .line(format!(
            "{} is written to {}:",
            manifest.version,
            dir.display()
        ));
    let mut streams = Vec::new();
    let width = manifest
        .streams
        .iter()
        .map(|stream| stream.file.len())
        .max()
        .unwrap_or(0);
    for stream in &manifest.streams {
        let needs = match &stream.parent {
            Some(parent) => format!("for devices that have {}", parent.version),
            None => "for any device".to_owned(),
        };
        report = report.line(format!(
            "  {:<width$}  {:>11}  {needs}",
            stream.file,
            size(stream.size)
        ));
        streams.push(serde_json::json!({
            "file": stream.file,
            "size": stream.size,
            "stream_bytes": stream.stream_bytes,
            "content_bytes": stream.content_bytes,
            "parent": stream.parent.as_ref().map(|parent| &parent.version),
        }));
    }
    let report = report
        .field("streams", streams)
        .line(format!(
            "  {:<width$}  content {}",
            format!("{}.json", args.version),
            manifest.tree.digest.short()
        ))
        .line(format!("  {}.sha256", args.version))
        .line(format!("Next: op-dbus-stage sign {}", path.display()));
    context.print(&report)?;
    Ok(Exit::Done)
}
