//! Runs an executable as a check: exit code 0 is well, 75 not known yet (as
//! systemd and sendmail have it), anything else bad. The last line it
//! wrote is the reason.

use std::ffi::OsString;
use std::time::Duration;

use super::judge::Finding;
use crate::child::{Ended, How, Job, Runner};

/// "Not known yet", from an executable and from this program.
pub const NOT_KNOWN: u8 = 75;
/// How much of its output is looked at, in bytes, from the end.
const KEEP: usize = 4096;
/// Longest reason, in bytes.
const REASON: usize = 200;

/// One run.
pub fn look(runner: &Runner, argv: &[OsString], limit: Duration) -> Finding {
    let job = Job {
        argv: argv.to_vec(),
        stdin: Vec::new(),
        limit,
        keep: KEEP,
    };
    finding(&runner.run(&job), limit)
}

fn finding(ended: &Ended, limit: Duration) -> Finding {
    let said = ended.last_line(REASON);
    match &ended.how {
        How::Exited(0) => Finding::well(),
        How::Exited(code) if *code == i32::from(NOT_KNOWN) => {
            Finding::Unknown(if said.is_empty() {
                format!("exit code {NOT_KNOWN}")
            } else {
                said
            })
        }
        How::Exited(_) if !said.is_empty() => Finding::NotYet(said),
        How::TimedOut => {
            let mut reason = format!("still ran after {} s, and was killed", limit.as_secs());
            if ended.stuck > 0 {
                reason.push_str("; it waits for a device and could not be ended");
            }
            if !said.is_empty() {
                reason = format!("{reason}; its last words: {said}");
            }
            Finding::NotYet(reason)
        }
        how if said.is_empty() => Finding::NotYet(how.to_string()),
        how => Finding::NotYet(format!("{how}; its last words: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(how: How, output: &str) -> Finding {
        let ended = Ended {
            how,
            output: output.to_owned(),
            dropped: 0,
            swept: 0,
            stuck: 0,
        };
        finding(&ended, Duration::from_secs(10))
    }

    #[test]
    fn exit_codes_are_findings() {
        assert_eq!(ended(How::Exited(0), "noise\n"), Finding::well());
        assert_eq!(
            ended(How::Exited(75), "no carrier\n"),
            Finding::Unknown("no carrier".to_owned())
        );
        assert_eq!(
            ended(How::Exited(1), "first\nlast\n"),
            Finding::NotYet("last".to_owned())
        );
        assert_eq!(
            ended(How::Exited(2), ""),
            Finding::NotYet("exit code 2".to_owned())
        );
        assert_eq!(
            ended(How::Signalled(11), "x"),
            Finding::NotYet("killed by signal 11; its last words: x".to_owned())
        );
        assert_eq!(
            ended(How::TimedOut, ""),
            Finding::NotYet("still ran after 10 s, and was killed".to_owned())
        );
        let Finding::NotYet(reason) = ended(How::NotStarted("no such file".to_owned()), "") else {
            panic!("well");
        };
        assert!(reason.contains("no such file"));
    }
}
