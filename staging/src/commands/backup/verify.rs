//! `backup verify FILE`. Reads only; needs neither root nor a store.

use super::{open_backup, read, require_digest};
use crate::cli::backup::Verify;
use crate::commands::receive::Interrupt;
use crate::context::{Context, Report};
use crate::error::{Exit, Result};

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Verify) -> Result<Exit> {
    let file = open_backup(&args.file)?;
    let interrupt = Interrupt::install()?;
    let contents = read(context, &args.file, file, &interrupt, "checking the backup")?;
    require_digest(&args.file, &contents, args.digest.as_deref())?;
    let mut report =
        super::summary(Report::new("backup-verify", "sound"), &contents).line(format!(
            "{} is sound: a backup of {} from {}, every byte of it checked.",
            args.file.display(),
            contents.info.host,
            contents.info.created
        ));
    for log in contents.logs.iter().filter(|log| log.broken.is_some()) {
        let why = log.broken.as_deref().unwrap_or_default();
        context.warn(format!(
            "the audit log {} in it does not verify: {why}; the device had it so",
            log.file
        ));
    }
    report = report.line(format!("Digest: {}", contents.digest));
    context.print(&report)?;
    Ok(Exit::Done)
}
