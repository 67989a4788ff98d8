//! The kinds of Debian machine that are tested.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A Debian release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// Debian 12: kernel 6.1, systemd 252, dracut 059.
    Bookworm,
    /// Debian 13: kernel 6.12, systemd 257, dracut 106.
    Trixie,
}

impl Suite {
    /// The suite's name in the archive.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// The suite of this name.
    pub fn find(name: &str) -> Result<Self> {
        [Self::Bookworm, Self::Trixie]
            .into_iter()
            .find(|suite| suite.name() == name)
            .ok_or_else(|| Error::Scenario(format!("'{name}' is neither bookworm nor trixie")))
    }
}

/// What builds the initramfs, and with it who activates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Initramfs {
    /// dracut with our module: activation before the host starts.
    Dracut,
    /// Debian's default, which knows nothing of us: the generator way.
    InitramfsTools,
}

impl Initramfs {
    /// The package, and the word in a profile's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dracut => "dracut",
            Self::InitramfsTools => "initramfs-tools",
        }
    }
}

/// Where the root and the store are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// One Btrfs file system, read-only root, the store a subvolume of it.
    BtrfsRoot,
    /// A writable ext4 root and a Btrfs file system beside it for the store.
    SeparateStore,
}

/// One kind of machine. Its name is `<suite>-<initramfs>` or, with a separate
/// store, `<suite>-<initramfs>-ext4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    /// Debian release.
    pub suite: Suite,
    /// Initramfs builder.
    pub initramfs: Initramfs,
    /// Disk layout.
    pub layout: Layout,
}

/// Every profile.
pub fn all() -> impl Iterator<Item = Profile> {
    [Suite::Bookworm, Suite::Trixie]
        .into_iter()
        .flat_map(|suite| {
            [Initramfs::Dracut, Initramfs::InitramfsTools]
                .into_iter()
                .flat_map(move |initramfs| {
                    [Layout::BtrfsRoot, Layout::SeparateStore]
                        .into_iter()
                        .map(move |layout| Profile {
                            suite,
                            initramfs,
                            layout,
                        })
                })
        })
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.suite.name(), self.initramfs.name())?;
        match self.layout {
            Layout::BtrfsRoot => Ok(()),
            Layout::SeparateStore => f.write_str("-ext4"),
        }
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        all()
            .find(|profile| profile.to_string() == text)
            .ok_or_else(|| {
                let names: Vec<String> = all().map(|profile| profile.to_string()).collect();
                Error::Scenario(format!(
                    "no profile '{text}'; there are {}",
                    names.join(", ")
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        assert_eq!(all().count(), 8);
        for profile in all() {
            assert_eq!(profile.to_string().parse::<Profile>().unwrap(), profile);
        }
        assert!("woody".parse::<Profile>().is_err());
    }
}
