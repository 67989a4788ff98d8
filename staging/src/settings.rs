//! `[receive]` of the configuration, which only this program reads; and in
//! [`prune`], `[prune]`, in [`audit`], `[audit]`.
//!
//! Only the one section is looked at each time: a mistake elsewhere in the file
//! must not keep a device from receiving the release that mends it.

pub(crate) mod audit;
pub(crate) mod metrics;
pub(crate) mod prune;

use std::io;
use std::path::{Path, PathBuf};

use op_dbus_activator::config::{MAX_LEN, one_line};
use op_dbus_activator::files;
use op_dbus_release::manifest;
use serde::Deserialize;

use crate::context::Context;
use crate::error::{Exit, Failure, Result};

/// Where release keys are looked for unless the configuration says otherwise.
pub(crate) const KEYS: &str = "/etc/op-dbus/keys.d";
/// The product a device takes unless the configuration says otherwise.
pub(crate) const PRODUCT: &str = "op-dbus";
/// Most MiB that may be kept free: 1 TiB.
const HEADROOM_MAX: u32 = 1 << 20;

/// `[receive]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The product whose releases are taken.
    pub(crate) product: String,
    /// Directory of the certificates that may sign releases.
    pub(crate) keys: PathBuf,
    /// Space in MiB that a receive leaves free for the running system.
    pub(crate) headroom_mib: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            product: PRODUCT.to_owned(),
            keys: PathBuf::from(KEYS),
            headroom_mib: None,
        }
    }
}

/// The file, as far as it matters here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    receive: Settings,
}

impl Settings {
    /// Reads the section. Without a file everything is as by default: what has
    /// to be there is checked where it is used.
    pub(crate) fn load(context: &Context) -> Result<Self> {
        section(context, Self::parse)
    }

    /// Parses the section out of a configuration. The error is one line.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|why| one_line(text, &why))?;
        file.receive.check()?;
        Ok(file.receive)
    }

    fn check(&self) -> std::result::Result<(), String> {
        manifest::check_product(&self.product).map_err(|why| format!("receive.{why}"))?;
        if !is_plain_absolute(&self.keys) {
            return Err(format!(
                "receive.keys = \"{}\": must be an absolute path in its shortest form",
                self.keys.display()
            ));
        }
        match self.headroom_mib {
            Some(mib) if !(1..=HEADROOM_MAX).contains(&mib) => Err(format!(
                "receive.headroom_mib = {mib}: must be 1 to {HEADROOM_MAX}"
            )),
            _ => Ok(()),
        }
    }
}

/// A section of the configuration, by what parses it; of no file its defaults.
fn section<T: Default>(
    context: &Context,
    parse: impl FnOnce(&str) -> std::result::Result<T, String>,
) -> Result<T> {
    let path = context.config_path();
    let fail = |why: &dyn std::fmt::Display| {
        let remedy = "correct the file";
        Failure::new(Exit::Configuration, path.display(), why, remedy)
    };
    match files::read_text(path, MAX_LEN) {
        Ok(text) => parse(&text).map_err(|why| fail(&why)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(why) => Err(fail(&why)),
    }
}

fn is_plain_absolute(path: &Path) -> bool {
    let text = path.to_str().and_then(|text| text.strip_prefix('/'));
    text.is_some_and(|text| {
        !text.chars().any(char::is_control)
            && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_may_be_left_out() {
        for text in ["", "[receive]\n", "[store]\ndevice = 5\n[health]\nx = 1\n"] {
            assert_eq!(
                Settings::parse(text).unwrap(),
                Settings::default(),
                "{text}"
            );
        }
        let text = "[receive]\nproduct = \"gate.2\"\nkeys = \"/etc/k\"\nheadroom_mib = 64\n";
        let expected = Settings {
            product: "gate.2".to_owned(),
            keys: "/etc/k".into(),
            headroom_mib: Some(64),
        };
        assert_eq!(Settings::parse(text).unwrap(), expected);
    }

    #[test]
    fn mistakes_name_their_place() {
        for (line, words) in [
            ("produkt = \"x\"", "line 2: unknown field"),
            ("product = \"\"", "receive.product"),
            ("product = \"A b\"", "receive.product"),
            ("keys = \"keys.d\"", "receive.keys"),
            ("keys = \"/etc/../x\"", "receive.keys"),
            ("headroom_mib = 0", "receive.headroom_mib = 0: must be 1 to"),
            ("headroom_mib = 1048577", "must be 1 to 1048576"),
            ("headroom_mib = -1", "line 2: "),
        ] {
            let why = Settings::parse(&format!("[receive]\n{line}\n")).unwrap_err();
            assert!(why.contains(words) && !why.contains('\n'), "{line}: {why}");
        }
    }
}
