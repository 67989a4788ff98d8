//! `backup create`, `backup verify`, `backup show`.

mod create;
mod report;
mod show;
mod verify;

use std::fs::File;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use crate::backup::contents::{Contents, Source};
use crate::cli::backup::Backup;
use crate::commands::receive::{Interrupt, open};
use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::progress::Progress;

pub(crate) use report::{size, summary};

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Backup) -> Result<Exit> {
    match command {
        Backup::Create(args) => create::run(context, args),
        Backup::Verify(args) => verify::run(context, args),
        Backup::Show(args) => show::run(context, args),
    }
}

/// Opens a backup, which is read more than once: a regular file.
pub(crate) fn open_backup(path: &Path) -> Result<File> {
    let file = open(path)?;
    let found = file
        .metadata()
        .map_err(|why| Failure::io(path.display(), why))?;
    if found.file_type().is_fifo() {
        return Err(Failure::new(
            Exit::Failure,
            path.display(),
            "is a pipe, and a backup is read more than once",
            "save it to a file first",
        ));
    }
    Ok(file)
}

/// Reads and checks a backup, with a bar.
pub(crate) fn read(
    context: &Context,
    path: &Path,
    file: File,
    interrupt: &Interrupt,
    doing: &str,
) -> Result<Contents> {
    let length = file
        .metadata()
        .map_err(|why| Failure::io(path.display(), why))?
        .len();
    let phase = Progress::new(context).phase(doing, Some(length));
    let source = Source::new(file, phase.meter(), interrupt.clone());
    Contents::read(source, path)
}

/// That a backup has the digest somebody wrote down.
pub(crate) fn require_digest(path: &Path, contents: &Contents, wanted: Option<&str>) -> Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let found = contents.digest.to_string();
    if found.eq_ignore_ascii_case(wanted.trim()) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Verification,
        path.display(),
        format_args!("is a whole backup, but not the one with digest {wanted}: its own is {found}"),
        "find the right file, or find out who made this one",
    ))
}
