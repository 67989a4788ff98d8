//! `[lint]` of the configuration: who wins where.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};
use op_dbus_activator::config::{MAX_LEN, one_line};
use op_dbus_activator::files;
use serde::Deserialize;

use super::classify::Policy;
use crate::context::Context;
use crate::error::{Exit, Failure, Result};

/// Rules a configuration may have: each path that clashes is held against all.
const RULES_MAX: usize = 64;
/// Longest pattern, in bytes. A pattern becomes a regular expression.
const PATTERN_MAX: usize = 256;

/// Who wins, by path.
#[derive(Debug, Clone)]
pub(crate) struct Policies {
    default: Policy,
    rules: Vec<(String, GlobMatcher, Policy)>,
}

/// The section, as it stands in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Section {
    default: Option<Policy>,
    rule: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    path: String,
    policy: Policy,
}

/// The file, as far as it matters here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    lint: Section,
}

impl Policies {
    /// The same everywhere.
    pub(crate) fn only(policy: Policy) -> Self {
        Self {
            default: policy,
            rules: Vec::new(),
        }
    }

    /// Reads the section. Without a file everything is as by default.
    pub(crate) fn load(context: &Context) -> Result<Self> {
        let path = context.config_path();
        let fail = |why: &dyn std::fmt::Display| {
            let remedy = "correct the file";
            Failure::new(Exit::Configuration, path.display(), why, remedy)
        };
        match files::read_text(path, MAX_LEN) {
            Ok(text) => Self::parse(&text).map_err(|why| fail(&why)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Self::only(Policy::KeepMine)),
            Err(why) => Err(fail(&why)),
        }
    }

    /// Parses the section out of a configuration. The error is one line.
    pub(super) fn parse(text: &str) -> std::result::Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|why| one_line(text, &why))?;
        let Section { default, rule } = file.lint;
        if rule.len() > RULES_MAX {
            return Err(format!("more than {RULES_MAX} [[lint.rule]] sections"));
        }
        let rules = rule.into_iter().map(|rule| {
            let matcher = pattern(&rule.path)?;
            Ok((rule.path, matcher, rule.policy))
        });
        Ok(Self {
            default: default.unwrap_or(Policy::KeepMine),
            rules: rules.collect::<std::result::Result<_, String>>()?,
        })
    }

    /// Who wins at a path, and the pattern that says so.
    pub(crate) fn of(&self, path: &[u8]) -> (Policy, Option<&str>) {
        let path = Path::new(OsStr::from_bytes(path));
        let rule = self.rules.iter().find(|rule| rule.1.is_match(path));
        rule.map_or((self.default, None), |(pattern, _, policy)| {
            (*policy, Some(pattern.as_str()))
        })
    }

    /// Whether a clash can keep a version from being staged.
    pub(crate) fn may_refuse(&self) -> bool {
        let mut all = self.rules.iter().map(|rule| rule.2);
        self.default == Policy::Refuse || all.any(|policy| policy == Policy::Refuse)
    }
}

/// `*` and `?` stay within a directory, `**` does not.
fn pattern(text: &str) -> std::result::Result<GlobMatcher, String> {
    let fail = |why: &str| format!("lint.rule.path = {text:?}: {why}");
    if text.len() > PATTERN_MAX {
        return Err(fail(&format!("longer than {PATTERN_MAX} bytes")));
    }
    let parts = || text.split('/');
    if text.chars().any(char::is_control) || parts().any(|part| matches!(part, "" | "." | "..")) {
        return Err(fail(
            "must be a pattern for paths relative to the version's tree, such as \"etc/**\"",
        ));
    }
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    let glob = glob.map_err(|why| fail(&why.kind().to_string()))?;
    Ok(glob.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(lint: &str) -> Policies {
        Policies::parse(lint).unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let found = policies(
            "[store]\ndevice = 5\n[lint]\ndefault = \"refuse\"\n\
             [[lint.rule]]\npath = \"etc/*.conf\"\npolicy = \"take-new\"\n\
             [[lint.rule]]\npath = \"etc/**\"\npolicy = \"keep-mine\"\n",
        );
        for (path, policy, pattern) in [
            (&b"etc/a.conf"[..], Policy::TakeNew, Some("etc/*.conf")),
            (b"etc/d/a.conf", Policy::KeepMine, Some("etc/**")),
            (b"etc/\xff\n", Policy::KeepMine, Some("etc/**")),
            (b"etc", Policy::Refuse, None),
            (b"usr/etc/a.conf", Policy::Refuse, None),
        ] {
            assert_eq!(found.of(path), (policy, pattern), "{path:?}");
        }
        assert!(found.may_refuse());
    }

    #[test]
    fn everything_may_be_left_out() {
        for text in ["", "[lint]\n", "[receive]\nx = 1\n"] {
            let found = policies(text);
            assert_eq!(found.of(b"a"), (Policy::KeepMine, None));
            assert!(!found.may_refuse());
        }
    }

    #[test]
    fn mistakes_name_their_place() {
        let rule = |path: &str| format!("[[lint.rule]]\npath = \"{path}\"\npolicy = \"refuse\"");
        for (text, words) in [
            (
                "[lint]\ndefault = \"mine\"".to_owned(),
                "line 2: unknown variant",
            ),
            ("[lint]\nrules = 1".to_owned(), "line 2: unknown field"),
            (
                "[[lint.rule]]\npath = \"a\"".to_owned(),
                "missing field `policy`",
            ),
            (rule(""), "relative to the version's tree"),
            (rule("/etc/**"), "relative to the version's tree"),
            (rule("etc/../x"), "relative to the version's tree"),
            (rule("etc/[a"), "lint.rule.path = \"etc/[a\": unclosed"),
            (rule(&"a".repeat(257)), "longer than 256"),
            (
                rule("a").repeat(65).replace("\"[[", "\"\n[["),
                "more than 64",
            ),
        ] {
            let why = Policies::parse(&text).unwrap_err();
            assert!(why.contains(words) && !why.contains('\n'), "{text}: {why}");
        }
    }
}
