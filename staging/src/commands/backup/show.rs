//! `backup show FILE`: what is in it, all of it checked; or one small file of it.

use std::io::Write as _;
use std::path::Path;

use op_dbus_backup::{Entry, Reader};
use op_dbus_bootstate::{Record, Version};
use serde_json::json;

use super::report::record_line;
use super::{open_backup, read, size};
use crate::backup::contents::{Contents, Source};
use crate::backup::failure;
use crate::cli::backup::Show;
use crate::commands::receive::Interrupt;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};
use crate::progress::Meter;

/// Longest file that is printed, in bytes.
const PRINT_MAX: usize = 256 << 20;

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Show) -> Result<Exit> {
    let file = open_backup(&args.file)?;
    let interrupt = Interrupt::install()?;
    if let Some(name) = &args.print {
        return print(&args.file, file, name, &interrupt);
    }
    let contents = read(context, &args.file, file, &interrupt, "reading the backup")?;
    context.print(&report(&contents))?;
    Ok(Exit::Done)
}

fn report(contents: &Contents) -> Report {
    let record = contents.record();
    let info = &contents.info;
    let mut report = super::summary(Report::new("backup-show", "shown"), contents)
        .object(
            "quarantine",
            &quarantine(record.as_ref().map(|(record, _)| record)),
        )
        .object("keys", &info.keys)
        .object("pins", &contents.pins)
        .field("configuration", contents.configuration.is_some())
        .line(format!(
            "Backup of {}, {}, by {}",
            info.host, info.created, info.program
        ))
        .line(format!("Digest         {}", contents.digest))
        .line(format!("Boot record    {}", record_line(record.as_ref())));
    for log in &contents.logs {
        let state = log.broken.clone().unwrap_or_else(|| "sound".to_owned());
        report = report.line(format!(
            "Audit log      {}: {} lines, {state}",
            log.file, log.head.length
        ));
    }
    let configuration = if contents.configuration.is_some() {
        "device/deploy.toml (print it: --print device/deploy.toml)"
    } else {
        "none"
    };
    report = report.line(format!("Configuration  {configuration}"));
    for key in &info.keys {
        let whose = if key.fingerprints.is_empty() {
            "could not be read".to_owned()
        } else {
            key.fingerprints.join(", ")
        };
        report = report.line(format!("Certificate    {}: {whose}", key.file));
    }
    for (version, papers) in &contents.papers {
        let mut notes = Vec::new();
        if !papers.is_signed {
            notes.push("no signature".to_owned());
        }
        if contents.pins.contains(version) {
            notes.push("pinned".to_owned());
        }
        if contents.plans.contains_key(version) {
            notes.push("with a plan for its overlay".to_owned());
        }
        notes.extend(role(record.as_ref().map(|(record, _)| record), version));
        let files: Vec<_> = papers.files.iter().map(|(file, _)| file.as_str()).collect();
        notes.push(format!("comes back from {}", files.join(" or ")));
        report = report.line(format!("Version        {version}: {}", notes.join(", ")));
    }
    for held in &contents.streams {
        report = report.line(format!(
            "Changes        {}: {} of content, {} as a stream",
            held.stream.place,
            size(held.content),
            size(held.bytes)
        ));
    }
    report.line("The versions themselves are not in it: they come back from their signed releases.")
}

fn role(record: Option<&Record>, version: &Version) -> Option<String> {
    let mut named = record?.deployments();
    let (role, _) = named.find(|(_, deployment)| deployment.version == *version)?;
    Some(role.to_string())
}

fn quarantine(record: Option<&Record>) -> Vec<serde_json::Value> {
    let entries = record.map(|record| record.quarantine.entries());
    let shown = |entry: &op_dbus_bootstate::quarantine::Entry| json!({ "version": entry.version, "digest": entry.digest, "cause": entry.cause });
    entries.unwrap_or_default().iter().map(shown).collect()
}

/// Prints a file of a backup once all of the backup was found right.
fn print(path: &Path, file: std::fs::File, name: &str, interrupt: &Interrupt) -> Result<Exit> {
    let fail = |why: &op_dbus_backup::BackupError| failure(path, why);
    let source = Source::new(file, Meter::default(), interrupt.clone());
    let mut reader = Reader::new(source).map_err(|why| fail(&why))?;
    let mut found = None;
    while let Some(entry) = reader.next_entry().map_err(|why| fail(&why))? {
        if matches!(&entry, Entry::File(file, _) if file == name) {
            found = Some(reader.bounded(PRINT_MAX).map_err(|why| fail(&why))?);
        }
    }
    reader.finish().map_err(|why| fail(&why))?;
    let Some(bytes) = found else {
        return Err(Failure::new(
            Exit::Failure,
            path.display(),
            format_args!("holds no file {name:?}"),
            "see what it holds: op-dbus-stage backup show FILE; or tar --zstd -tf FILE",
        ));
    };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&bytes).and_then(|()| stdout.flush());
    match written {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::io("standard output: write", why))
        }
        _ => Ok(Exit::Done),
    }
}
