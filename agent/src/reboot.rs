//! `op-dbus-agent reboot`: reboots in order, once nobody inhibits it any more,
//! or the limit is up.
//!
//! Who inhibits is asked of logind (org.freedesktop.login1(5)): only locks of
//! mode `block` on `shutdown` count. Those of mode `delay` logind itself waits
//! for, within a bound of its own, and `block-weak` has no effect on root.
//! Without logind nobody can inhibit, and the reboot comes at once.
//!
//! Since systemd 257 logind refuses a reboot that a lock blocks even to root,
//! and where root asks to skip it, polkit decides. So when the limit is up,
//! systemd itself is asked for `reboot.target`, which is what logind would do.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use zbus::blocking::connection;

/// Between two looks at the locks.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// For one look. A logind or a bus that is stuck must not hold the reboot up.
const LOOK: Duration = Duration::from_secs(5);
/// … however short the limit on all of it is.
const LEAST: Duration = Duration::from_secs(1);

/// A lock that blocks shutdowns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inhibitor {
    /// The program that has it.
    pub who: String,
    /// Why it says it has.
    pub why: String,
}

/// One lock as logind lists it: what, who, why, mode, uid, pid.
type Listed = (String, String, String, String, u32, u32);

/// Those of all locks that block a shutdown.
pub fn blocking(listed: Vec<Listed>) -> Vec<Inhibitor> {
    listed
        .into_iter()
        .filter(|(what, _, _, mode, ..)| {
            mode == "block" && what.split(':').any(|what| what == "shutdown")
        })
        .map(|(_, who, why, ..)| Inhibitor { who, why })
        .collect()
}

/// Asks logind, for no longer than `limit`. In a thread of its own, since a bus
/// that takes a connection and then says nothing would hold it for ever; it ends
/// with the process.
///
/// # Errors
/// There is no system bus, no logind, or none that answers.
pub fn ask_logind(limit: Duration) -> Result<Vec<Inhibitor>, String> {
    let limit = limit.clamp(LEAST, LOOK);
    let (send, answer) = mpsc::channel();
    let begun = thread::Builder::new().spawn(move || {
        // Nobody listens any more where it came too late.
        let _ = send.send(ask(limit));
    });
    begun.map_err(|why| format!("thread: {why}"))?;
    match answer.recv_timeout(limit) {
        Ok(asked) => asked.map_err(|why| why.to_string()),
        Err(_) => Err("the system bus does not answer".to_owned()),
    }
}

fn ask(limit: Duration) -> zbus::Result<Vec<Inhibitor>> {
    let bus = connection::Builder::system()?
        .method_timeout(limit)
        .build()?;
    let listed: Vec<Listed> = bus
        .call_method(
            Some("org.freedesktop.login1"),
            "/org/freedesktop/login1",
            Some("org.freedesktop.login1.Manager"),
            "ListInhibitors",
            &(),
        )?
        .body()
        .deserialize()?;
    Ok(blocking(listed))
}

/// How the wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited {
    /// Nobody inhibits a reboot.
    Free,
    /// The limit is up, and these still do.
    Overrun(Vec<Inhibitor>),
    /// It can't be known who does; why.
    Unknown(String),
}

/// Looks at the locks until there are none, at most for `limit` by `elapsed`, the
/// time since the begin. `pause` sleeps; `say` is told whenever those who inhibit
/// change.
pub fn wait<E: std::fmt::Display>(
    limit: Duration,
    mut ask: impl FnMut() -> Result<Vec<Inhibitor>, E>,
    elapsed: impl Fn() -> Duration,
    mut pause: impl FnMut(Duration),
    mut say: impl FnMut(&[Inhibitor]),
) -> Waited {
    let mut known = Vec::new();
    loop {
        let inhibitors = match ask() {
            Ok(inhibitors) => inhibitors,
            Err(why) => return Waited::Unknown(why.to_string()),
        };
        if inhibitors.is_empty() {
            return Waited::Free;
        }
        let left = limit.saturating_sub(elapsed());
        if left.is_zero() {
            return Waited::Overrun(inhibitors);
        }
        if inhibitors != known {
            say(&inhibitors);
            known = inhibitors;
        }
        pause(INTERVAL.min(left));
    }
}

/// One line on those who inhibit.
pub fn names(inhibitors: &[Inhibitor]) -> String {
    let plain = |text: &str| -> String {
        let plain = text.chars().filter(|c| !c.is_control());
        plain.take(100).collect()
    };
    let names = inhibitors.iter().map(|Inhibitor { who, why }| {
        if why.is_empty() {
            plain(who)
        } else {
            format!("{} ({})", plain(who), plain(why))
        }
    });
    names.collect::<Vec<_>>().join(", ")
}

/// What is asked of systemd, the politest first.
const REQUESTS: [&[&str]; 2] = [
    &["--check-inhibitors=no", "reboot"],
    &[
        "--job-mode=replace-irreversibly",
        "--no-block",
        "start",
        "reboot.target",
    ],
];

/// Asks for the reboot.
///
/// # Errors
/// Nothing that was asked was granted; the last answer.
pub fn reboot(systemctl: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for request in REQUESTS {
        last = match Command::new(systemctl).args(request).status() {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => Err(io::Error::other(format!(
                "{} {}: {status}",
                systemctl.display(),
                request.join(" ")
            ))),
            Err(why) => Err(why),
        };
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn inhibitor(who: &str) -> Inhibitor {
        Inhibitor {
            who: who.to_owned(),
            why: "flashing".to_owned(),
        }
    }

    #[test]
    fn only_what_blocks_a_shutdown_counts() {
        let listed = |what: &str, mode: &str| {
            let (who, why) = ("who".to_owned(), "why".to_owned());
            (what.to_owned(), who, why, mode.to_owned(), 0, 1)
        };
        for (what, mode, counts) in [
            ("shutdown", "block", true),
            ("sleep:shutdown:idle", "block", true),
            ("shutdown", "delay", false),
            ("shutdown", "block-weak", false),
            ("sleep:idle", "block", false),
            ("handle-shutdown-key", "block", false),
            ("", "block", false),
        ] {
            let found = blocking(vec![listed(what, mode)]);
            assert_eq!(!found.is_empty(), counts, "{what} {mode}");
        }
    }

    #[test]
    fn it_waits_until_nobody_inhibits() {
        let rounds = Cell::new(0);
        let mut said = Vec::new();
        let waited = wait(
            Duration::from_secs(120),
            || -> Result<_, String> {
                rounds.set(rounds.get() + 1);
                Ok(match rounds.get() {
                    1 | 2 => vec![inhibitor("a")],
                    3 => vec![inhibitor("b")],
                    _ => Vec::new(),
                })
            },
            || Duration::ZERO,
            |_| {},
            |who| said.push(names(who)),
        );
        assert_eq!(waited, Waited::Free);
        assert_eq!(rounds.get(), 4);
        assert_eq!(said, ["a (flashing)", "b (flashing)"]);
    }

    #[test]
    fn it_waits_no_longer_than_the_limit() {
        let slept = Cell::new(Duration::ZERO);
        let limit = Duration::from_secs(5);
        let waited = wait(
            limit,
            || -> Result<_, String> { Ok(vec![inhibitor("a")]) },
            || slept.get(),
            |step| {
                assert!(slept.get() < limit, "the limit is up");
                slept.set(slept.get() + step);
            },
            |_| {},
        );
        assert_eq!(waited, Waited::Overrun(vec![inhibitor("a")]));
        assert_eq!(slept.get(), limit);
    }

    #[test]
    fn without_logind_it_does_not_wait() {
        let waited = wait(
            Duration::from_secs(120),
            || Err("no bus"),
            || Duration::ZERO,
            |_| panic!("waited"),
            |_| {},
        );
        assert_eq!(waited, Waited::Unknown("no bus".to_owned()));
    }

    #[test]
    fn names_are_one_short_line() {
        let evil = Inhibitor {
            who: "a\nb\u{1b}[2J".to_owned() + &"x".repeat(500),
            why: String::new(),
        };
        let line = names(&[evil]);
        assert!(line.len() == 100 && !line.chars().any(char::is_control));
    }
}
