//! Whether a version is what was signed.

use super::Case;
use crate::commands::check::host::Host;
use crate::commands::verify;
use crate::error::Exit;
use crate::findings::Findings;

const SUBJECT: &str = "content";

/// Identity, receipt, manifest, signature; with `deep` all that it holds.
pub(super) fn check(host: &Host, case: &Case, deep: bool, findings: &mut Findings) {
    let version = &case.deployment.version;
    match verify::version(&host.context, version, deep) {
        Ok((problems, checked)) => {
            for problem in &problems {
                findings.error(
                    Exit::Verification,
                    SUBJECT,
                    problem,
                    format!("receive it again: op-dbus-stage receive {version}.json"),
                );
            }
            if problems.is_empty() {
                findings.ok(SUBJECT, format!("sound by {checked}"));
                if !deep {
                    findings.info(
                        SUBJECT,
                        "what the files hold was not read from the disk; that does: --deep",
                    );
                }
            }
        }
        Err(why) => findings.error(
            why.kind,
            SUBJECT,
            format!("{}: {}", why.what, why.why),
            why.remedy,
        ),
    }
}
