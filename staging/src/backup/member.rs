//! Names of the small files in a backup.

use std::fmt;

use op_dbus_activator::config;
use op_dbus_activator::layout::RECEIPT_SUFFIX;
use op_dbus_activator::overlay::plan;
use op_dbus_bootstate::store::Copy;
use op_dbus_bootstate::{Version, codec, receipt};
use op_dbus_release::manifest;
use op_dbus_trust::{MAX_CERTIFICATE, MAX_SIGNATURE};

use crate::commands::receive::free_name;

/// What a small file in a backup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Member {
    /// A file of `audit/`, by its name.
    Log(String),
    /// One copy of the boot record.
    Record(Copy),
    /// The configuration.
    Configuration,
    /// A certificate, by its number.
    Key(u16),
    /// What is kept beside a version.
    Paper(Paper, Version),
    /// A pin; empty.
    Pin(Version),
    /// A plan for a version's overlay.
    Plan(Version),
}

/// What is kept of a version in `manifests/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Paper {
    /// What it was published as.
    Receipt,
    /// Its manifest.
    Manifest,
    /// The signature over that.
    Signature,
}

impl Paper {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Receipt, Self::Manifest, Self::Signature];

    fn suffix(self) -> &'static str {
        match self {
            Self::Receipt => RECEIPT_SUFFIX,
            Self::Manifest => ".json",
            Self::Signature => ".json.asc",
        }
    }
}

impl Member {
    /// What a name in a backup is.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (dir, file) = name
            .strip_prefix("device/")?
            .rsplit_once('/')
            .unwrap_or(("", name.strip_prefix("device/")?));
        // Versions whose files would have another's names are never received.
        let version = |text: &str| {
            text.parse::<Version>()
                .ok()
                .filter(|version| free_name(version).is_ok())
        };
        match dir {
            "" => (file == "deploy.toml").then_some(Self::Configuration),
            "audit" => Some(Self::Log(file.to_owned())),
            "boot" => {
                let copy = Copy::ALL.into_iter().find(|copy| copy.file_name() == file);
                copy.map(Self::Record)
            }
            "keys" => {
                let number = file.parse().ok().map(Self::Key);
                number.filter(|key| key.to_string() == name)
            }
            "manifests" => Paper::ALL.into_iter().find_map(|paper| {
                let name = file.strip_suffix(paper.suffix())?;
                Some(Self::Paper(paper, version(name)?))
            }),
            "pins" => version(file).map(Self::Pin),
            "plans" => version(file).map(Self::Plan),
            _ => None,
        }
    }

    /// Most bytes it may have; none where it is not read into memory.
    pub(crate) fn max(&self) -> Option<usize> {
        Some(match self {
            Self::Log(_) => return None,
            // One more, so that a file of another size shows as that.
            Self::Record(_) => codec::BLOCK + 1,
            Self::Configuration => config::MAX_LEN,
            Self::Key(_) => MAX_CERTIFICATE,
            Self::Paper(Paper::Receipt, _) => receipt::MAX_LEN,
            Self::Paper(Paper::Manifest, _) => manifest::MAX_LEN,
            Self::Paper(Paper::Signature, _) => MAX_SIGNATURE,
            Self::Pin(_) => 0,
            Self::Plan(_) => plan::MAX_LEN,
        })
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(file) => write!(f, "device/audit/{file}"),
            Self::Record(copy) => write!(f, "device/boot/{}", copy.file_name()),
            Self::Configuration => f.write_str("device/deploy.toml"),
            Self::Key(number) => write!(f, "device/keys/{number:04}"),
            Self::Paper(paper, version) => {
                write!(f, "device/manifests/{version}{}", paper.suffix())
            }
            Self::Pin(version) => write!(f, "device/pins/{version}"),
            Self::Plan(version) => write!(f, "device/plans/{version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_as_they_are_written() {
        let version: Version = "v1.0.0-rc.1+x".parse().unwrap();
        let mut members = vec![
            Member::Log("log.jsonl".to_owned()),
            Member::Configuration,
            Member::Key(7),
            Member::Pin(version.clone()),
            Member::Plan(version.clone()),
        ];
        members.extend(Copy::ALL.map(Member::Record));
        members.extend(Paper::ALL.map(|paper| Member::Paper(paper, version.clone())));
        for member in members {
            let name = member.to_string();
            assert!(op_dbus_backup::is_plain(&name), "{name}");
            assert_eq!(Member::parse(&name), Some(member), "{name}");
        }
        for name in [
            "device/x",
            "device/keys/7",
            "device/keys/00007",
            "device/boot/record.2",
            "device/pins/x",
            "device/pins/v1.0.0/v1.0.0",
            "device/manifests/v1.0.0",
            "device/manifests/v1.0.0-x.old.json",
            "overlays/v1.0.0",
            "deploy.toml",
        ] {
            assert_eq!(Member::parse(name), None, "{name}");
        }
    }
}
