//! Refusals in the audit log: who was refused what, and why.
//!
//! They are bounded, because whoever may ask may ask for ever: the same refusal is
//! logged once a boot, and no more than [`BOOT_MAX`] of one boot. Both are counted
//! in the open segment, which is all that is read for it.

use op_dbus_bootstate::Version;
use op_dbus_bootstate::audit::{Event, Kind};

use crate::cli::{Command, device};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::session::Session;

/// Refusals of one boot that are logged. The last says that it is the last.
const BOOT_MAX: usize = 64;

/// Logs that a command was refused, if it is one whose refusals matter later, and
/// it was a rule or a check that refused it. Where that is not possible the refusal
/// itself is what is reported.
pub(crate) fn note(context: &Context, command: &Command, failure: &Failure) {
    let Command::Device(command) = command else {
        return;
    };
    if let Some((name, version)) = asked(command).filter(|_| is_refusal(failure)) {
        log(context, name, version, failure);
    }
}

/// Whether a rule or a check said no; not that something failed on the way.
fn is_refusal(failure: &Failure) -> bool {
    matches!(failure.kind, Exit::Refused | Exit::Verification)
}

/// A command that changes what boots, and the version it names. `receive` knows
/// more about its failures, and logs them itself.
fn asked(command: &device::Command) -> Option<(&'static str, Option<Version>)> {
    use device::Command;
    Some(match command {
        Command::Stage(args) => ("stage", Some(args.version.clone())),
        Command::Rollback(args) => ("rollback", args.version.clone()),
        Command::Cancel => ("cancel", None),
        Command::Bless => ("bless", None),
        Command::Condemn(_) => ("condemn", None),
        _ => return None,
    })
}

/// Logs that a command failed; a refusal only if it was not logged in this boot
/// already.
pub(crate) fn log(context: &Context, command: &str, version: Option<Version>, failure: &Failure) {
    let event = Event {
        version,
        ..Event::general(Kind::Refused, format!("{command}: {failure}"))
    };
    let once = is_refusal(failure);
    let noted = Session::open(context).and_then(|mut session| {
        let before = session.refusals();
        match bounded(event, &before, once) {
            Some(event) => session.note(vec![event]),
            None => Ok(()),
        }
    });
    if let Err(why) = noted {
        context.warn(format!("the failure could not be logged: {why}"));
    }
}

/// What is to be logged after these refusals of the same boot.
fn bounded(event: Event, before: &[String], once: bool) -> Option<Event> {
    let event = event.shortened();
    if before.len() >= BOOT_MAX || once && before.contains(&event.detail) {
        return None;
    }
    if before.len() + 1 < BOOT_MAX {
        return Some(event);
    }
    let last = "too many refusals: no more of this boot are logged";
    Some(Event::general(Kind::Refused, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(detail: &str) -> Event {
        Event::general(Kind::Refused, detail)
    }

    #[test]
    fn the_same_refusal_is_logged_once_and_others_up_to_a_limit() {
        let mut before = Vec::new();
        for number in 0..3 * BOOT_MAX {
            // A text that is shortened in the log is recognised there.
            let detail = format!("stage v1.{number}.0: {}", "x".repeat(5000));
            for _ in 0..2 {
                let logged = bounded(refused(&detail), &before, true);
                before.extend(logged.map(|event| event.detail));
            }
        }
        assert_eq!(before.len(), BOOT_MAX);
        assert!(before[BOOT_MAX - 1].contains("no more of this boot"));
        assert!(before[BOOT_MAX - 2].starts_with("stage v1.62.0"));
        // What failed on the way may fail in the same way again.
        let before = ["receive x: interrupted".to_owned()];
        let again = || refused(&before[0]);
        assert!(bounded(again(), &before, false).is_some());
        assert!(bounded(again(), &before, true).is_none());
    }
}
