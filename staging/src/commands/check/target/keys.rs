//! The certificates that may sign releases.

use std::io;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use op_dbus_trust::{Certificate, Keyring, TrustError};

use crate::commands::check::host::Host;
use crate::error::Exit;
use crate::findings::Findings;
use crate::settings::Settings;

const SUBJECT: &str = "keys";
/// So long before a certificate ends is it told: time for a release to bring its
/// successor.
const SOON: Duration = Duration::from_secs(60 * 24 * 60 * 60);
const ADD: &str = "add a certificate that signs: op-dbus-stage prepare --key FILE";

/// Looks at the keys' directory.
pub(crate) fn check(host: &Host, settings: &Settings, findings: &mut Findings) {
    let dir = host.context.layout.host(&settings.keys);
    let shown = dir.display();
    let keyring = match Keyring::load(&dir) {
        Ok(keyring) => keyring,
        Err(TrustError::Io { ref source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return none(
                format!("{shown} is not there: no release can be received"),
                findings,
            );
        }
        Err(TrustError::NoKeys { problems, .. }) => {
            for problem in &problems {
                unusable(&problem.file.display().to_string(), &problem.why, findings);
            }
            return none(
                format!("{shown} holds no release key: no release can be received"),
                findings,
            );
        }
        Err(why) => {
            let text = why.to_string();
            let (found, remedy) = text.split_once("; ").unwrap_or((&text, ADD));
            return findings.error(Exit::Configuration, SUBJECT, found, remedy);
        }
    };
    for problem in keyring.problems() {
        unusable(&problem.file.display().to_string(), &problem.why, findings);
    }
    judge(keyring.certificates(), SystemTime::now(), findings);
}

fn none(found: String, findings: &mut Findings) {
    findings.error(Exit::Configuration, SUBJECT, found, ADD);
}

/// `why` holds the remedy too.
fn unusable(file: &str, why: &str, findings: &mut Findings) {
    let (why, remedy) = why.split_once("; ").unwrap_or((why, "remove it"));
    findings.warning(SUBJECT, format!("{file}: {why}"), remedy);
}

/// Here the clock is asked, because nothing is accepted or refused by what this says.
fn judge(certificates: &[Certificate], now: SystemTime, findings: &mut Findings) {
    let mut usable = 0;
    for one in certificates.iter().filter(|one| one.can_sign) {
        let name = one.user_ids.first().unwrap_or(&one.fingerprint);
        if let Some(why) = &one.revoked {
            findings.info(SUBJECT, format!("{name} was revoked: {why}"));
            continue;
        }
        let Some(ends) = one.expires else {
            usable += 1;
            findings.ok(SUBJECT, format!("{name}, which never ends"));
            continue;
        };
        let date = Timestamp::try_from(ends).map_or_else(
            |_| "a day far away".to_owned(),
            |time| time.strftime("%Y-%m-%d").to_string(),
        );
        if ends <= now {
            findings.info(
                SUBJECT,
                format!("{name} ended on {date}: only what it signed before counts"),
            );
            continue;
        }
        usable += 1;
        if ends <= now + SOON {
            findings.warning(
                SUBJECT,
                format!("{name} ends on {date}: what it signs later is not received"),
                "have it extended, or take its successor: op-dbus-stage prepare --key FILE",
            );
        } else {
            findings.ok(SUBJECT, format!("{name}, until {date}"));
        }
    }
    if usable == 0 {
        none(
            "none can sign any more: no new release can be received".to_owned(),
            findings,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::found;
    use crate::findings::Severity::{Error, Info, Ok, Warning};
    use std::time::UNIX_EPOCH;

    const DAY: u64 = 24 * 60 * 60;

    fn at(day: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(20_000 * DAY + day * DAY)
    }

    fn certificate(expires: Option<u64>, revoked: bool) -> Certificate {
        Certificate {
            fingerprint: "F".to_owned(),
            user_ids: vec!["release".to_owned()],
            files: Vec::new(),
            expires: expires.map(at),
            revoked: revoked.then(|| "lost".to_owned()),
            can_sign: true,
        }
    }

    #[test]
    fn what_ends_soon_is_told_in_time() {
        for (certificates, expected) in [
            (vec![certificate(None, false)], vec![Ok]),
            (vec![certificate(Some(100), false)], vec![Ok]),
            (vec![certificate(Some(50), false)], vec![Warning]),
            (vec![certificate(Some(0), false)], vec![Info, Error]),
            (vec![certificate(None, true)], vec![Info, Error]),
            (
                vec![certificate(Some(0), false), certificate(None, false)],
                vec![Info, Ok],
            ),
            (Vec::new(), vec![Error]),
        ] {
            let told = found(|findings| judge(&certificates, at(0), findings));
            let severities: Vec<_> = told.iter().map(|(severity, _)| *severity).collect();
            assert_eq!(severities, expected, "{certificates:?}");
        }
    }
}
