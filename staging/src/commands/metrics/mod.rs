//! `metrics`: numbers for Prometheus, as text of its format.
//!
//! Everything is read as `status` reads it, and without a lock. What can't be
//! read has no sample, rather than a wrong one.

mod counts;
mod exposition;
mod gather;
#[cfg(test)]
mod strict;

use std::io;
use std::path::Path;

use op_dbus_activator::files::{self, Durable};

use crate::cli::device as cli;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};
use crate::settings::metrics::Metrics as Settings;
use counts::Counter;

/// Runs the command.
pub(crate) fn run(context: &Context, args: &cli::Metrics) -> Result<Exit> {
    let settings = Settings::load(context)?;
    let textfile = match (&settings.textfile, args.write) {
        (Some(path), true) => Some(path.as_path()),
        (None, true) => {
            let report = Report::new("metrics", "nothing-to-do")
                .line("Nothing to do: [metrics] names no textfile.");
            context.print(&report)?;
            return Ok(Exit::Done);
        }
        (_, false) => None,
    };
    let mut counter = Counter::open(&context.layout);
    let families = gather::families(context, &mut counter);
    let text = exposition::text(&families);
    let samples: usize = families.iter().map(exposition::Family::len).sum();
    let report = match textfile {
        Some(path) => {
            write(path, &text)?;
            keep(context, &counter);
            Report::new("metrics", "written")
                .line(format!("{}: {samples} samples.", path.display()))
        }
        None => Report::new("metrics", "printed").line(text.trim_end()),
    };
    let report = report
        .field("samples", samples)
        .field("textfile", textfile.map(|path| path.to_string_lossy()))
        .field("text", text);
    context.print(&report)?;
    Ok(Exit::Done)
}

/// In one step: the collector reads the old file or the new one. It is worth
/// nothing after a power cut, so it is not synced.
fn write(path: &Path, text: &str) -> Result<()> {
    files::replace(path, text.as_bytes(), 0o644, Durable::No).map_err(|why| {
        if why.kind() == io::ErrorKind::NotFound {
            let why = "its directory does not exist";
            let remedy = "make it, or correct textfile in [metrics]";
            return Failure::new(Exit::Configuration, path.display(), why, remedy);
        }
        Failure::io(format_args!("{}: write", path.display()), why)
    })
}

/// Counting goes on from here; if that can't be kept, from where it was.
fn keep(context: &Context, counter: &Counter) {
    let layout = &context.layout;
    // Without a store mounted there, the directory is the host's.
    if context.require_store().is_err() {
        return;
    }
    match counter.keep(layout) {
        Ok(()) => {}
        Err(why) if why.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
        Err(why) => context.warn(format!("{}: write: {why}", counts::path(layout).display())),
    }
}
