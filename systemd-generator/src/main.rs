//! Called by systemd as `op-dbus-generator NORMAL-DIR EARLY-DIR LATE-DIR`.
//!
//! `OP_DBUS_GENERATOR_ROOT` redirects everything it reads, for tests and for a
//! look by hand; it then reports on standard error only.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Lines written at most: the kernel limits the rate, and keeps few.
const MAX_NOTES: usize = 16;

fn main() -> ExitCode {
    let redirected = std::env::var_os("OP_DBUS_GENERATOR_ROOT");
    let Some(output) = std::env::args_os().nth(1) else {
        eprintln!("usage: op-dbus-generator NORMAL-DIR [EARLY-DIR LATE-DIR]");
        return ExitCode::from(2);
    };
    let root = redirected
        .as_ref()
        .map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let notes = op_dbus_systemd_generator::run(&root, Path::new(&output));
    for note in notes.iter().take(MAX_NOTES) {
        report(note, redirected.is_none());
    }
    if let Some(more @ 1..) = notes.len().checked_sub(MAX_NOTES) {
        report(&format!("and {more} more like these"), redirected.is_none());
    }
    // Whatever happened, systemd must go on as if nothing had.
    ExitCode::SUCCESS
}

/// No journal is there yet: the kernel log, or standard error where that fails.
fn report(note: &str, to_kernel: bool) {
    let line = format!("op-dbus-generator: {note}\n");
    let logged = to_kernel
        && OpenOptions::new()
            .write(true)
            .open("/dev/kmsg")
            // One write is one record; <4> is a warning.
            .and_then(|mut kmsg| kmsg.write_all(format!("<4>{line}").as_bytes()))
            .is_ok();
    if !logged {
        eprint!("{line}");
    }
}
