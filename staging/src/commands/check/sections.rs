//! One part of a check after the other, each in bounded time.
//!
//! A failing medium may not answer for minutes, and a check that hangs with it
//! says nothing. So each part runs in a thread of its own; one that is not done
//! in time becomes a finding, and is left behind: the program's end ends it.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::host::Host;
use crate::error::Exit;
use crate::findings::Findings;

/// How long a part may take. On a healthy device all of them together take less
/// than a second, images aside.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Runs one part.
pub(crate) fn run(
    subject: &'static str,
    host: &Host,
    limit: Duration,
    findings: &mut Findings,
    part: impl FnOnce(&Host, &mut Findings) + Send + 'static,
) {
    let (sender, receiver) = mpsc::channel();
    let host = host.clone();
    let work = move || {
        let mut found = Findings::default();
        part(&host, &mut found);
        // Nobody listens once the time is up.
        let _ = sender.send(found);
    };
    let started = thread::Builder::new().spawn(work);
    match started.map(|_| receiver.recv_timeout(limit)) {
        Ok(Ok(found)) => findings.append(found),
        Ok(Err(_)) => findings.error(
            Exit::Failure,
            subject,
            format!("looking at it was given up after {} s", limit.as_secs()),
            "does a medium not answer? See: journalctl -k; btrfs device stats",
        ),
        Err(why) => findings.error(
            Exit::Failure,
            subject,
            format!("can't be looked at: {why}"),
            "run the command again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing;

    #[test]
    fn what_hangs_is_a_finding() {
        let dir = tempfile::tempdir().unwrap();
        let host = testing::host(dir.path());
        let mut findings = Findings::default();
        let limit = Duration::from_millis(50);
        run("quick", &host, limit * 100, &mut findings, |_, findings| {
            findings.ok("quick", "done");
        });
        run("slow", &host, limit, &mut findings, |_, findings| {
            thread::sleep(Duration::from_secs(30));
            findings.ok("slow", "done");
        });
        let found: Vec<_> = findings.list().iter().map(|one| one.subject).collect();
        assert_eq!(found, ["quick", "slow"]);
        assert_eq!(findings.problems().count(), 1);
    }
}
