//! `condemn`: the running version was judged unhealthy, or (`--from-health`)
//! whatever the health check said of it.

use std::process::Command;
use std::time::Duration;

use op_dbus_bootstate::record::Next;
use op_dbus_bootstate::transition::{self, Running};
use op_dbus_health::settings::Policy;

use super::running::{self, ThisBoot};
use crate::cli::device as cli;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};
use crate::limited;
use crate::session::Session;
use crate::verdict::{self, Verdict};

/// Respects who inhibits a shutdown, for a while, and reboots.
const REBOOT_UNIT: &str = "op-dbus-reboot.service";
/// For systemd to say in which state it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// The reason of a run without `--reason`, by hand …
const BY_HAND: &str = "judged unhealthy";
/// … and after a health check that said nothing that counts.
const SILENT: &str = "the health check did not end properly";

/// What is to be done with the running version.
enum Ask {
    /// It is bad, and why.
    Condemn(String),
    /// It is not known whether it is; what of it.
    TryAgain(String),
    /// Nobody says that it is bad; why, as the end of a sentence.
    Leave(String),
}

/// Runs the command. With nothing active there is nothing to condemn and
/// nothing a reboot would better.
pub(crate) fn run(context: &Context, args: &cli::Condemn) -> Result<Exit> {
    Context::require_root()?;
    let running = match running::find(context)? {
        ThisBoot::Runs(running) => running,
        ThisBoot::Nothing(why) => {
            let report = Report::new("condemn", "nothing-to-do")
                .field("next", "stay-up")
                .field("reason", why)
                .line(format!("Nothing to condemn: {why}."));
            context.print(&report)?;
            return Ok(Exit::Done);
        }
    };
    let (report, next) = match ask(context, args, &running) {
        Ask::Condemn(reason) => condemn(context, &running, &reason)?,
        Ask::TryAgain(unknown) => try_again(context, &running, &unknown)?,
        Ask::Leave(why) => {
            let version = &running.version;
            let report = Report::new("condemn", "nothing-to-do")
                .field("version", version.as_str())
                .field("next", "stay-up")
                .field("reason", why.as_str())
                .line(format!("{version} is not condemned: {why}."));
            (report, Next::StayUp)
        }
    };
    context.print(&report)?;
    if args.reboot && next == Next::Reboot {
        reboot(context)?;
    }
    Ok(Exit::Done)
}

fn ask(context: &Context, args: &cli::Condemn, running: &Running) -> Ask {
    let given = |default: &str| args.reason.clone().unwrap_or_else(|| default.to_owned());
    if !args.from_health {
        return Ask::Condemn(given(BY_HAND));
    }
    match verdict::read(context, running) {
        Verdict::Unhealthy(reasons) => Ask::Condemn(reasons),
        Verdict::Unknown(reasons, policy) => match policy {
            Policy::Condemn => Ask::Condemn(format!("not known in time: {reasons}")),
            Policy::Retry => Ask::TryAgain(reasons),
            Policy::Bless => Ask::Leave(format!(
                "unknown = \"bless\" in [health], and only this is not known: {reasons}"
            )),
        },
        // The check is stopped by a shutdown, which is nobody's fault. At the
        // deadline there is no shutdown: nobody blessed in time.
        Verdict::Stopped(why) => match &args.reason {
            Some(reason) => Ask::Condemn(reason.clone()),
            None => Ask::Leave(format!("there is no verdict: {why}")),
        },
        // Stopped so early that it could not say so.
        Verdict::Healthy | Verdict::Silent if args.reason.is_none() && is_shutting_down() => {
            Ask::Leave("there is no verdict, and the host shuts down".to_owned())
        }
        // A check that said "healthy" and failed all the same, or a boot that
        // was not blessed in spite of it: nothing was said of what is wrong.
        Verdict::Healthy | Verdict::Silent => Ask::Condemn(given(SILENT)),
    }
}

/// Without an answer it does not: then there is nobody to shut it down either.
fn is_shutting_down() -> bool {
    let mut command = Command::new("systemctl");
    limited::said(command.arg("is-system-running"), PATIENCE)
        .is_ok_and(|said| said.text.trim() == "stopping")
}

fn condemn(context: &Context, running: &Running, reason: &str) -> Result<(Report, Next)> {
    // The lock must be free before the reboot stops the units that need it.
    let mut session = Session::open(context)?;
    let next = session.apply(running.version.as_str(), |record| {
        transition::condemn(record, running, reason)
    })?;
    let version = &running.version;
    let is_quarantined = session.record().quarantine.contains(&running.digest);
    let (result, line) = match next {
        _ if !running.counted => (
            "not-counted",
            format!(
                "{version} is unhealthy, but this boot was not counted: nothing is recorded, and the host stays up."
            ),
        ),
        Next::Reboot => (
            "condemned",
            format!("{version} is condemned ({reason}); a reboot brings a better choice."),
        ),
        Next::StayUp => (
            "condemned",
            format!(
                "{version} is condemned ({reason}); a reboot would bring nothing better, so the host stays up."
            ),
        ),
    };
    let report = Report::new("condemn", result)
        .field("version", version.as_str())
        .field("quarantined", is_quarantined)
        .field("reason", reason)
        .field("next", word(next))
        .line(line);
    Ok((report, next))
}

/// Nothing is recorded: the boot that comes is one more try of a trial, and the
/// shutdown before it gives this one back while refunds last.
fn try_again(context: &Context, running: &Running, unknown: &str) -> Result<(Report, Next)> {
    let session = Session::open(context)?;
    let next = transition::undecided(session.record(), running);
    let version = &running.version;
    let line = match next {
        Next::Reboot => {
            format!("Whether {version} is healthy is not known ({unknown}); another boot tries it.")
        }
        Next::StayUp => format!(
            "Whether {version} is healthy is not known ({unknown}); it is not on trial, so the host stays up."
        ),
    };
    let report = Report::new("condemn", "not-known")
        .field("version", version.as_str())
        .field("quarantined", false)
        .field("reason", unknown)
        .field("next", word(next))
        .line(line);
    Ok((report, next))
}

fn word(next: Next) -> &'static str {
    match next {
        Next::Reboot => "reboot",
        Next::StayUp => "stay-up",
    }
}

/// By the unit that waits for inhibitors; at once, where that can't be started.
fn reboot(context: &Context) -> Result<()> {
    let Err(why) = systemctl(&["--no-block", "start", REBOOT_UNIT]) else {
        return Ok(());
    };
    context.warn(format!("{REBOOT_UNIT} was not started: {why}"));
    systemctl(&["reboot"]).map_err(|why| {
        Failure::new(
            Exit::Failure,
            "systemctl reboot",
            why,
            "reboot by hand; the verdict is recorded",
        )
    })
}

fn systemctl(args: &[&str]) -> std::result::Result<(), String> {
    match Command::new("systemctl").args(args).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(why) => Err(why.to_string()),
    }
}
