//! Version names of deployments.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest version name, in bytes. It is a directory name in the store, part of
/// overlay mount options, and stored several times in one 4 KiB record.
pub const MAX_LEN: usize = 64;

/// A deployment's version: semantic versioning 2.0 with an optional leading `v`.
///
/// It is also a file name in the store, and the grammar makes it a safe one: it
/// begins with a digit or `v`, and holds only ASCII letters, digits, `.`, `-`
/// and `+`. Ordering is semver precedence, never text order; names of equal
/// precedence (`v1.0.0` and `1.0.0`, or differing build metadata) are ordered
/// by text so that `Ord` agrees with `Eq`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    text: String,
    semver: semver::Version,
}

/// Why a text is not a version name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Longer than [`MAX_LEN`] bytes.
    #[error("version name is {0} bytes long; at most {MAX_LEN} are allowed")]
    TooLong(usize),
    /// Not semver with an optional leading `v`.
    #[error("\"{text}\" is not a version name ({why}); expected for example v1.2.3 or 1.2.3-rc.1")]
    Grammar {
        /// The refused text, shortened to what is safe to print.
        text: String,
        /// What the semver grammar objects to.
        why: String,
    },
}

impl Version {
    /// The name as given, for file names and output.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.len() > MAX_LEN {
            return Err(VersionError::TooLong(text.len()));
        }
        match semver::Version::parse(text.strip_prefix('v').unwrap_or(text)) {
            Ok(semver) => Ok(Self {
                text: text.to_owned(),
                semver,
            }),
            Err(why) => Err(VersionError::Grammar {
                text: text.escape_default().to_string(),
                why: why.to_string(),
            }),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.text
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.semver
            .cmp_precedence(&other.semver)
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn compares_as_semver_not_as_text() {
        assert!(version("v1.10.0") > version("v1.9.0"));
        assert!(version("1.0.0-rc.1") < version("v1.0.0"));
        assert_ne!(version("v1.0.0"), version("1.0.0"));
    }

    #[test]
    fn refuses_what_is_no_safe_file_name() {
        for text in [
            "",
            ".",
            "..",
            "v",
            "1",
            "1.2",
            "v1.2.3/..",
            "../1.2.3",
            "1.2.3 ",
            "1.2.3\n",
            "vv1.2.3",
            "-1.2.3",
            "1.2.3\0",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn length_limit_is_exact() {
        let fits = format!("1.0.0-{}", "a".repeat(MAX_LEN - 6));
        assert_eq!(version(&fits).as_str().len(), MAX_LEN);
        assert_eq!(
            format!("{fits}a").parse::<Version>(),
            Err(VersionError::TooLong(MAX_LEN + 1))
        );
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_one_safe_path_component(text in ".{0,80}") {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert!(version.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b)));
                prop_assert!(version.as_str().starts_with(|c: char| c.is_ascii_digit() || c == 'v'));
            }
        }
    }
}
