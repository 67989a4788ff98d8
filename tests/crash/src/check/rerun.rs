//! What an operator does after a power cut: the same command again. It succeeds,
//! or says that it is done, and leaves nothing behind.

use std::collections::BTreeSet;
use std::io;

use super::observe::{all_names, copies, unsound};
use super::{Between, Copy, Violation};
use crate::facts::Version;
use crate::host::Host;
use crate::programs::Ran;
use crate::story::{Action, Again, Step};

/// Runs the command of the step in flight again, if it is one, looks for
/// leftovers, and whether everything is sound.
pub fn rerun(
    step: &Step,
    between: &Between<'_>,
    host: &Host,
    ran: &mut Vec<Ran>,
) -> io::Result<Vec<Violation>> {
    let mut found = Vec::new();
    let after = between.after.unwrap_or(between.before);
    let mut altered = after.altered.clone();
    if let (Action::Command { words, .. }, Again::Results { results, refused }) =
        (&step.action, step.again)
    {
        let again = host.stage(words)?;
        let result = again.result();
        let is_fine = result
            .as_deref()
            .is_some_and(|result| results.contains(&result))
            || (refused && again.code == Some(8));
        if !is_fine {
            let expected = format!("`{}` to come to one of {results:?}", step.name);
            found.push(Violation::new("again", expected, &again));
        }
        ran.push(again);
        found.extend(leftovers(words, host)?);
    } else {
        altered.extend(&between.before.altered);
    }
    found.extend(soundness(&altered, host, ran)?);
    Ok(found)
}

/// What nobody needs any more is gone. What a receive leaves in `incoming/`, those
/// remove that come after it: the others have other things to do.
fn leftovers(words: &[String], host: &Host) -> io::Result<Vec<Violation>> {
    let clears = words
        .first()
        .is_some_and(|word| ["receive", "prune"].contains(&word.as_str()));
    let mut found = Vec::new();
    let names = |dir: &str| all_names(&host.store().join(dir));
    let deploy: BTreeSet<_> = names("deploy")?.into_iter().collect();
    let mut left = Vec::new();
    for (dir, names) in [
        ("deploy", names("deploy")?),
        ("overlays", names("overlays")?),
    ] {
        let hidden = names.into_iter().filter(|name| name.starts_with('.'));
        left.extend(hidden.map(|name| format!("{dir}/{name}")));
    }
    for name in names("incoming")? {
        if clears && name != "lock" {
            left.push(format!("incoming/{name}"));
        }
    }
    for name in names("manifests")? {
        let version = [".deployment.json", ".json.asc", ".json"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        if !version.is_some_and(|version| deploy.contains(version)) {
            left.push(format!("manifests/{name}"));
        }
    }
    if !left.is_empty() {
        let expected = "no leftovers once the command was run again";
        found.push(Violation::new("leftovers", expected, left.join(", ")));
    }
    Ok(found)
}

/// Record, log and versions are sound once the command was run again.
fn soundness(
    altered: &BTreeSet<Version>,
    host: &Host,
    ran: &mut Vec<Ran>,
) -> io::Result<Vec<Violation>> {
    let mut found = Vec::new();
    match copies(&host.store()).as_slice() {
        [Copy::Valid(zero), Copy::Valid(one)] if zero.bytes == one.bytes => {
            let strangers: Vec<_> = zero
                .strangers
                .iter()
                .filter(|version| !altered.contains(version.as_str()))
                .collect();
            if !strangers.is_empty() {
                let expected = "the record to know its versions once the command was run again";
                let found_it = format!("strangers: {strangers:?}");
                found.push(Violation::new("identity", expected, found_it));
            }
        }
        other => {
            let expected = "two equal copies of the record once the command was run again";
            found.push(Violation::new("copies", expected, format!("{other:?}")));
        }
    }
    let verify = host.stage(&["verify"])?;
    let unsound = unsound(&verify.stdout);
    if !unsound
        .iter()
        .all(|version| altered.contains(version.as_str()))
    {
        let expected = "every version to be sound once the command was run again";
        found.push(Violation::new("verify", expected, &verify));
    }
    ran.push(verify);
    let audit = host.stage(&["audit", "verify"])?;
    if !audit.succeeded() {
        let expected = "the log to be whole once the command was run again";
        found.push(Violation::new("audit", expected, &audit));
    }
    ran.push(audit);
    let status = host.stage(&["status"])?;
    if altered.is_empty() && status.result().as_deref() != Some("ok") {
        let expected = "`status` to know of no problem once the command was run again";
        found.push(Violation::new("status", expected, &status));
    }
    ran.push(status);
    Ok(found)
}
