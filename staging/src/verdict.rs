//! What the health check said of this boot: `/run/op-dbus/health.json`, which
//! op-dbus-agent writes at every verdict.
//!
//! A verdict counts only for the boot and the version it was made in. What is
//! missing, of another boot or version, or can't be understood, is silence: the
//! check did not end properly.

use std::io;
use std::path::PathBuf;

use op_dbus_activator::config::MAX_LEN;
use op_dbus_activator::files;
use op_dbus_bootstate::transition::Running;
use op_dbus_bootstate::{BootId, Version};
use serde::Deserialize;

use crate::context::Context;

/// Longest file that is read, in bytes.
const FILE_MAX: usize = 256 * 1024;
/// Longest text made of a verdict's reasons, in bytes: the log's bound on a
/// detail leaves room for a few words before it.
const REASONS_MAX: usize = 900;

/// What the health check said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well.
    Healthy,
    /// Something that decides is bad; what, for people.
    Unhealthy(String),
    /// Nothing is bad, but something was not known in time; what, for people.
    Unknown(String),
    /// It was stopped, or could not tell what to look at: nothing follows; why,
    /// for people.
    Stopped(String),
    /// Nothing that counts for this boot.
    Silent,
}

/// `unknown` in `[health]`: what follows when it can't be known whether a boot
/// is healthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Policy {
    /// A trial gets another boot; anything else stays up.
    #[default]
    Retry,
    /// As if it were healthy.
    Bless,
    /// As if it were not.
    Condemn,
}

/// The file.
#[derive(Debug, Deserialize)]
pub(crate) struct File {
    schema: u32,
    boot_id: BootId,
    #[serde(default)]
    version: Option<Version>,
    /// The verdict, in a word.
    pub(crate) verdict: String,
    /// What speaks against the version.
    #[serde(default)]
    pub(crate) failures: Vec<Failed>,
}

/// A check that failed.
#[derive(Debug, Deserialize)]
pub(crate) struct Failed {
    /// Which one.
    pub(crate) check: String,
    reason: String,
    /// What its failure means.
    #[serde(default)]
    pub(crate) kind: String,
}

/// Where the agent puts it.
pub(crate) fn path(context: &Context) -> PathBuf {
    context.layout.run_dir().join("health.json")
}

/// What was said of what runs in this boot, in the check's own words; none:
/// nothing that counts.
pub(crate) fn said(context: &Context, running: &Running) -> Option<File> {
    let text = files::read_text(&path(context), FILE_MAX).ok()?;
    let file: File = serde_json::from_str(&text).ok()?;
    let is_of_this = file.schema == 1
        && file.boot_id == running.boot_id
        && file.version.as_ref() == Some(&running.version);
    is_of_this.then_some(file)
}

/// Reads what was said of what runs in this boot.
pub(crate) fn read(context: &Context, running: &Running) -> Verdict {
    let path = path(context);
    let text = match files::read_text(&path, FILE_MAX) {
        Ok(text) => text,
        Err(why) => {
            if why.kind() != io::ErrorKind::NotFound {
                context.warn(format!("{}: {why}; it does not count", path.display()));
            }
            return Verdict::Silent;
        }
    };
    match parse(&text, running) {
        Ok(verdict) => verdict,
        Err(why) => {
            context.warn(format!("{}: {why}; it does not count", path.display()));
            Verdict::Silent
        }
    }
}

fn parse(text: &str, running: &Running) -> Result<Verdict, String> {
    let file: File = serde_json::from_str(text).map_err(|why| why.to_string())?;
    if file.schema != 1 {
        return Err(format!("schema {} instead of 1", file.schema));
    }
    if file.boot_id != running.boot_id {
        return Err("of another boot".to_owned());
    }
    if file.version.as_ref() != Some(&running.version) {
        return Err(format!("not about {}, which runs", running.version));
    }
    let of = |kinds: &[&str]| -> String {
        let those = file.failures.iter();
        let those = those.filter(|failed| kinds.contains(&failed.kind.as_str()));
        words(those)
    };
    match file.verdict.as_str() {
        "healthy" => Ok(Verdict::Healthy),
        "unhealthy" => Ok(Verdict::Unhealthy(of(&["required", ""]))),
        "unknown" => Ok(Verdict::Unknown(of(&["infrastructure", "required", ""]))),
        "none" => Ok(Verdict::Stopped(of(&["required", ""]))),
        other => Err(format!("no such verdict: {other:?}")),
    }
}

/// One line of everything, bounded, as plain text.
fn words<'f>(failures: impl Iterator<Item = &'f Failed>) -> String {
    let mut text = String::new();
    let mut left_out = 0_usize;
    for failed in failures {
        let plain = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let one = format!("{}: {}", plain(&failed.check), plain(&failed.reason));
        if !text.is_empty() && text.len().saturating_add(one.len()) > REASONS_MAX {
            left_out = left_out.saturating_add(1);
            continue;
        }
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.extend(one.chars().take(REASONS_MAX));
    }
    if left_out > 0 {
        text = format!("{text}; and {left_out} more");
    }
    if text.is_empty() {
        text.push_str("no reason was given");
    }
    text
}

/// Reads the policy. A configuration that can't be read or understood has the
/// default one: it condemns nothing that is only unknown.
pub(crate) fn policy(context: &Context) -> Policy {
    let text = files::read_text(context.config_path(), MAX_LEN).unwrap_or_default();
    parse_policy(&text)
}

fn parse_policy(text: &str) -> Policy {
    #[derive(Default, Deserialize)]
    struct Section {
        #[serde(default)]
        unknown: Policy,
    }
    #[derive(Default, Deserialize)]
    struct Whole {
        #[serde(default)]
        health: Section,
    }
    let whole: Whole = toml::from_str(text).unwrap_or_default();
    whole.health.unknown
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::{Digest, Slot};

    fn running() -> Running {
        Running {
            boot_id: BootId([7; 16]),
            slot: Slot::Trial,
            version: "v1.2.0".parse().unwrap(),
            digest: Digest([1; 32]),
            counted: true,
        }
    }

    fn said(verdict: &str, failures: &str) -> Result<Verdict, String> {
        let id = BootId([7; 16]);
        let text = format!(
            r#"{{"schema":1,"boot_id":"{id}","version":"v1.2.0","verdict":"{verdict}","decided_ms":5,"failures":[{failures}]}}"#
        );
        parse(&text, &running())
    }

    const WEB: &str =
        r#"{"check":"unit web.service","reason":"failed\n(exit-code)","kind":"required"}"#;
    const NICE: &str = r#"{"check":"free /var","reason":"2 MiB","kind":"wanted"}"#;
    const DNS: &str = r#"{"check":"dns example.org","reason":"timed out","kind":"infrastructure"}"#;

    #[test]
    fn reasons_are_those_that_decided() {
        let all = format!("{WEB},{NICE},{DNS}");
        assert_eq!(said("healthy", NICE), Ok(Verdict::Healthy));
        let words = "unit web.service: failed (exit-code)";
        assert_eq!(
            said("unhealthy", &all),
            Ok(Verdict::Unhealthy(words.to_owned()))
        );
        let words = "dns example.org: timed out";
        assert_eq!(
            said("unknown", &format!("{NICE},{DNS}")),
            Ok(Verdict::Unknown(words.to_owned()))
        );
        let stopped = r#"{"check":"op-dbus-agent","reason":"was stopped","kind":"required"}"#;
        assert_eq!(
            said("none", stopped),
            Ok(Verdict::Stopped("op-dbus-agent: was stopped".to_owned()))
        );
        assert_eq!(
            said("unhealthy", ""),
            Ok(Verdict::Unhealthy("no reason was given".to_owned()))
        );
    }

    #[test]
    fn reasons_are_bounded() {
        let one = format!(
            r#"{{"check":"a","reason":"{}","kind":"required"}}"#,
            "ö".repeat(300)
        );
        let all = vec![one.as_str(); 50].join(",");
        let Ok(Verdict::Unhealthy(words)) = said("unhealthy", &all) else {
            panic!("no verdict");
        };
        assert!(words.len() <= REASONS_MAX + 20, "{}", words.len());
        assert!(words.ends_with("and 49 more"), "{words}");
        let long = format!(
            r#"{{"check":"a","reason":"{}","kind":"required"}}"#,
            "x".repeat(100_000)
        );
        let Ok(Verdict::Unhealthy(words)) = said("unhealthy", &long) else {
            panic!("no verdict");
        };
        assert_eq!(words.len(), REASONS_MAX);
    }

    #[test]
    fn a_verdict_on_anything_else_does_not_count() {
        let id = BootId([7; 16]);
        let other = BootId([8; 16]);
        for text in [
            String::new(),
            "{}".to_owned(),
            format!(r#"{{"schema":2,"boot_id":"{id}","version":"v1.2.0","verdict":"healthy"}}"#),
            format!(r#"{{"schema":1,"boot_id":"{other}","version":"v1.2.0","verdict":"healthy"}}"#),
            format!(r#"{{"schema":1,"boot_id":"{id}","version":"v1.1.0","verdict":"healthy"}}"#),
            format!(r#"{{"schema":1,"boot_id":"{id}","version":null,"verdict":"unhealthy"}}"#),
            format!(r#"{{"schema":1,"boot_id":"{id}","version":"v1.2.0","verdict":"well"}}"#),
        ] {
            assert!(parse(&text, &running()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_policy_that_is_not_understood_condemns_nothing() {
        for (text, policy) in [
            ("", Policy::Retry),
            ("[health]\nunknown = \"bless\"\n", Policy::Bless),
            ("[health]\nunknown = \"condemn\"\n", Policy::Condemn),
            ("[health]\nunknown = \"retry\"\ncheck = 5\n", Policy::Retry),
            ("[health]\nunknown = \"kondemn\"\n", Policy::Retry),
            ("[health\n", Policy::Retry),
        ] {
            assert_eq!(parse_policy(text), policy, "{text}");
        }
    }
}
