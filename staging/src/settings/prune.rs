//! `[prune]` of the configuration.

use std::collections::BTreeSet;

use op_dbus_activator::config::one_line;
use op_dbus_bootstate::Version;
use op_dbus_bootstate::retention::KEEP_DEFAULT;
use serde::Deserialize;

use super::section;
use crate::context::Context;
use crate::error::Result;

/// Most versions that may be named as parents.
const PARENTS_MAX: usize = 64;
/// MiB of a reserve that helps, and at most: more attributes of a file than that
/// can't be listed any more.
const RESERVE: std::ops::RangeInclusive<u32> = 4..=32;

/// `[prune]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Prune {
    /// How many of the newest versions stay, besides those that are needed.
    pub(crate) keep: u16,
    /// Whether the boot prunes after a bless.
    pub(crate) after_bless: bool,
    /// Versions that deltas are going to build on.
    pub(crate) parents: BTreeSet<Version>,
    /// Space in MiB held back for a full disk; zero: none. Else by the size of the
    /// file system.
    pub(crate) reserve_mib: Option<u32>,
}

impl Default for Prune {
    fn default() -> Self {
        Self {
            keep: KEEP_DEFAULT,
            after_bless: true,
            parents: BTreeSet::new(),
            reserve_mib: None,
        }
    }
}

/// The file, as far as it matters here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    prune: Prune,
}

impl Prune {
    /// Reads the section; without a file, its defaults.
    pub(crate) fn load(context: &Context) -> Result<Self> {
        section(context, Self::parse)
    }

    /// Parses the section out of a configuration. The error is one line.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|why| one_line(text, &why))?;
        file.prune.check()?;
        Ok(file.prune)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.keep == 0 {
            return Err("prune.keep = 0: must be 1 or more".to_owned());
        }
        if self.parents.len() > PARENTS_MAX {
            return Err(format!("prune.parents: at most {PARENTS_MAX} versions"));
        }
        match self.reserve_mib {
            Some(mib) if mib != 0 && !RESERVE.contains(&mib) => Err(format!(
                "prune.reserve_mib = {mib}: must be 0, or {} to {}",
                RESERVE.start(),
                RESERVE.end()
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_may_be_left_out() {
        for text in ["", "[prune]\n", "[store]\ndevice = 5\n"] {
            assert_eq!(Prune::parse(text).unwrap(), Prune::default(), "{text}");
        }
        let text =
            "[prune]\nkeep = 5\nafter_bless = false\nparents = [\"v1.0.0\"]\nreserve_mib = 0\n";
        let expected = Prune {
            keep: 5,
            after_bless: false,
            parents: BTreeSet::from(["v1.0.0".parse().unwrap()]),
            reserve_mib: Some(0),
        };
        assert_eq!(Prune::parse(text).unwrap(), expected);
    }

    #[test]
    fn mistakes_name_their_place() {
        for (line, words) in [
            ("kept = 1", "line 2: unknown field"),
            ("keep = 0", "prune.keep = 0: must be 1"),
            ("keep = -1", "line 2: "),
            ("keep = 70000", "line 2: "),
            ("parents = [\"x\"]", "line 2: "),
            ("parents = \"v1.0.0\"", "line 2: "),
            ("reserve_mib = 33", "must be 0, or 4 to 32"),
            ("reserve_mib = 3", "must be 0, or 4 to 32"),
        ] {
            let why = Prune::parse(&format!("[prune]\n{line}\n")).unwrap_err();
            assert!(why.contains(words) && !why.contains('\n'), "{line}: {why}");
        }
    }
}
