//! `boot-report`: how did the boots before this one end?

use std::time::Duration;

use serde_json::json;

use crate::cli::device as cli;
use crate::context::{Context, Report};
use crate::ended::report::{self, Told};
use crate::ended::watchdog;
use crate::error::{Exit, Result};
use crate::session::Session;

/// How long another run is waited for. Nothing waits for this one.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the command. In a boot that has told already there is nothing to do.
pub(crate) fn run(context: &Context, args: &cli::BootReport) -> Result<Exit> {
    Context::require_root()?;
    context.require_store()?;
    let begun = report::begin(context)?;
    let wait = Duration::from_secs(args.watchdog_wait.into());
    if !wait.is_zero() && begun.is_open(context) {
        if let Err(why) = watchdog::wait(&context.layout, wait) {
            context.warn(format!("{why}; no driver of a watchdog is waited for"));
        }
    }
    let mut session = Session::open_patiently(context, PATIENCE)?;
    let told = begun.weigh(context);
    // What runs at every boot does not make up a record: that is for whoever
    // decides something.
    let is_logged = if session.certain_record().is_some() {
        report::log(&mut session, &told)?
    } else {
        context.warn("the boot record is lost, or was; nothing is logged until it is whole");
        false
    };
    let report = describe(&told, is_logged);
    if is_logged {
        begun.finish(context, told, false);
    }
    drop(session);
    context.print(&report)?;
    Ok(Exit::Done)
}

fn describe(told: &Told, is_logged: bool) -> Report {
    let word = match (told.ended.is_empty(), is_logged) {
        (_, false) => "not-logged",
        (true, true) => "nothing-to-do",
        (false, true) => "told",
    };
    let boots: Vec<_> = told
        .ended
        .iter()
        .map(|ended| {
            json!({
                "boot": ended.boot.id,
                "version": ended.boot.version,
                "ending": ended.ending,
                "why": ended.sentence,
            })
        })
        .collect();
    let mut report = Report::new("boot-report", word).field("boots", boots);
    for ended in &told.ended {
        let of = match &ended.boot.version {
            Some(version) => format!(" (of {version})"),
            None => String::new(),
        };
        report = report.line(format!(
            "Boot {}{of}: {}: {}.",
            ended.boot.id, ended.ending, ended.sentence
        ));
    }
    if told.ended.is_empty() {
        report = report.line("Nothing to tell of the boots before.");
    }
    report
}
