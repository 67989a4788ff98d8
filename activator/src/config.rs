//! `/etc/op-dbus/deploy.toml`: parsed by every program, in one way.
//!
//! Every section but `[store]` may be left out, unknown keys are errors, and
//! every number has a range: a typing mistake shows when the file is checked,
//! and never as a device that behaves a little differently.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use op_dbus_bootstate::Uuid;
use op_dbus_bootstate::record::Limits;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::files;

mod check;
mod salvage;

/// Longest file a reader accepts, in bytes.
pub const MAX_LEN: usize = 64 * 1024;

/// The configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the store is.
    pub store: Store,
    /// Who activates.
    #[serde(default)]
    pub activation: Activation,
    /// How patient booting is.
    #[serde(default)]
    pub limits: LimitsSection,
    /// Where a version appears in the host.
    #[serde(default)]
    pub mounts: Mounts,
    /// Links from the host into the version.
    #[serde(default, rename = "link")]
    pub links: Vec<Link>,
    /// What makes a boot healthy.
    #[serde(default)]
    pub health: Health,
    /// What a version's overlay begins with.
    #[serde(default)]
    pub overlay: Overlay,
    /// `[receive]`: op-dbus-stage's own, and checked by it. Not looked at here,
    /// because every kind of value makes the early-boot programs larger.
    #[serde(default)]
    pub receive: IgnoredAny,
    /// `[lint]`: likewise.
    #[serde(default)]
    pub lint: IgnoredAny,
    /// `[prune]`: likewise.
    #[serde(default)]
    pub prune: IgnoredAny,
    /// `[audit]`: likewise.
    #[serde(default)]
    pub audit: IgnoredAny,
    /// `[metrics]`: likewise.
    #[serde(default)]
    pub metrics: IgnoredAny,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The device of its file system.
    pub device: Device,
    /// Its subvolume, from the file system's top level.
    #[serde(default = "default_subvolume")]
    pub subvolume: String,
    /// Longest time to wait for the device, in seconds.
    #[serde(default = "default_wait")]
    pub wait_seconds: u16,
}

fn default_subvolume() -> String {
    "@op-dbus".to_owned()
}

fn default_wait() -> u16 {
    10
}

impl Store {
    /// Longest time to wait for the device.
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_seconds.into())
    }
}

/// How the store's file system is found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Device {
    /// `UUID=…`: by the UUID of the Btrfs file system.
    Uuid(Uuid),
    /// `/dev/…`
    Path(PathBuf),
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(uuid) = text.strip_prefix("UUID=") {
            return uuid
                .parse()
                .map(Self::Uuid)
                .map_err(|why| format!("\"{text}\": {why} after UUID="));
        }
        let path = PathBuf::from(&text);
        if check::is_plain_absolute(&path) && path.starts_with("/dev") {
            Ok(Self::Path(path))
        } else {
            Err(format!("\"{text}\" is neither UUID=… nor a path in /dev"))
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => write!(f, "UUID={uuid}"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// `[activation]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// Who activates.
    #[serde(default)]
    pub way: Way,
}

/// Who activates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// The dracut module, in the initramfs.
    #[default]
    Initrd,
    /// A unit in the host.
    Generator,
}

/// `[limits]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Boots a trial gets.
    pub tries: u8,
    /// Orderly shutdowns of a trial that give the try back.
    pub refunds: u8,
    /// Unblessed boots of good (and of fallback) in a row before the next choice.
    pub good_boots: u8,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            tries: limits.tries,
            refunds: limits.refunds,
            good_boots: limits.good_boots,
        }
    }
}

/// `[mounts]`: the two constant mount points.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mounts {
    /// The version as published, read-only.
    pub lower: PathBuf,
    /// The same under a writable overlay.
    pub overlay: PathBuf,
}

impl Default for Mounts {
    fn default() -> Self {
        Self {
            lower: PathBuf::from("/opt/op-dbus"),
            overlay: PathBuf::from("/usr/local/op-dbus"),
        }
    }
}

/// One `[[link]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Where the link is, in the host.
    pub path: PathBuf,
    /// What it points to, relative to the version's tree.
    pub target: PathBuf,
}

/// `[health]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Units that must be active.
    pub units: Vec<String>,
    /// Names that must be owned on the system bus, and answer.
    pub bus_names: Vec<String>,
    /// How long everything must stay healthy before a bless, in seconds.
    pub settle_seconds: u32,
    /// Not healthy after this many seconds is bad.
    pub timeout_seconds: u32,
    /// Not blessed this many seconds after boot is condemned.
    pub deadline_seconds: u32,
    /// `[[health.check]]`: op-dbus-agent's own, and checked by it, like
    /// `[receive]`.
    pub check: IgnoredAny,
    /// `unknown`: likewise.
    pub unknown: IgnoredAny,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            units: Vec::new(),
            bus_names: Vec::new(),
            settle_seconds: 5,
            timeout_seconds: 60,
            deadline_seconds: 300,
            check: IgnoredAny,
            unknown: IgnoredAny,
        }
    }
}

/// `[overlay]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overlay {
    /// What the overlay of a version on trial begins with.
    pub mode: Mode,
    /// Paths within the version's tree that are the same for every version:
    /// relative, plain, none below another.
    pub shared_paths: Vec<String>,
}

/// What the overlay of a version on trial begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The changes made to good.
    #[default]
    Carry,
    /// Nothing.
    Fresh,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("{}: does not exist; make it with: op-dbus-stage prepare", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It can't be read.
    #[error("{}: read: {source}; it must be a text file of at most {MAX_LEN} bytes", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// It says something that means nothing.
    #[error("{}: {why}; correct the file, then run: op-dbus-stage prepare", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, in one line, with the line number if there is one.
        why: String,
    },
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = files::read_text(path, MAX_LEN).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ConfigError::Missing {
                path: path.to_owned(),
            },
            _ => ConfigError::Unreadable {
                path: path.to_owned(),
                source,
            },
        })?;
        Self::parse(&text).map_err(|why| ConfigError::Invalid {
            path: path.to_owned(),
            why,
        })
    }

    /// For a boot, which must go on: of a file with mistakes, what is needed to
    /// find the store and the mount points, and what the mistake is.
    pub fn load_for_boot(path: &Path) -> Result<(Self, Option<ConfigError>), ConfigError> {
        let why = match Self::load(path) {
            Ok(config) => return Ok((config, None)),
            Err(why) => why,
        };
        let salvaged = match &why {
            ConfigError::Invalid { .. } => files::read_text(path, MAX_LEN)
                .ok()
                .and_then(|text| salvage::salvage(&text)),
            _ => None,
        };
        match salvaged {
            Some(config) => Ok((config, Some(why))),
            None => Err(why),
        }
    }

    /// Parses and checks a configuration. The error is one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|why| one_line(text, &why))?;
        check::check(&config)?;
        Ok(config)
    }

    /// `[limits]` in the terms of the state machine.
    pub fn limits(&self) -> Limits {
        Limits {
            tries: self.limits.tries,
            refunds: self.limits.refunds,
            good_boots: self.limits.good_boots,
        }
    }

    /// What a link points to: an absolute path below the overlay's mount point.
    pub fn link_target(&self, link: &Link) -> PathBuf {
        self.mounts.overlay.join(&link.target)
    }
}

/// A parser's message with its line number, without its picture of the line.
pub fn one_line(text: &str, why: &toml::de::Error) -> String {
    let message = why.message().replace('\n', " ");
    let before = why.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => {
            let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
            format!("line {line}: {message}")
        }
        None => message,
    }
}

#[cfg(test)]
mod tests;
