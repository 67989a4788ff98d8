//! The backup's configuration, over this device's or beside it.
//!
//! Where the store is, is this device's own affair: a backup's `[store]` names a
//! file system that may be gone. So its device and subvolume are kept, line by
//! line, and the result counts only if it says exactly what was meant.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use op_dbus_activator::config::{self, Config, Store};
use op_dbus_activator::files::{self, Durable};

use crate::backup::contents::Contents;
use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::settings::Settings;

/// What becomes of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Configuration {
    /// There is none in the backup.
    None,
    /// It says the same.
    Same,
    /// It differs, and this device's stays.
    Differs,
    /// It is to be written, in the place of this, if there is one.
    Install(String, Option<Vec<u8>>),
}

impl Configuration {
    /// Compares them. Nothing is written yet.
    pub(super) fn compare(context: &Context, contents: &Contents, is_wanted: bool) -> Result<Self> {
        let path = context.config_path().display();
        let Some(bytes) = &contents.configuration else {
            if !is_wanted {
                return Ok(Self::None);
            }
            return Err(Failure::new(
                Exit::Configuration,
                "--configuration",
                "there is no configuration in the backup",
                "leave the option out",
            ));
        };
        let old = match files::read_bounded(context.config_path(), config::MAX_LEN) {
            Ok(old) => Some(old),
            Err(why) if why.kind() == io::ErrorKind::NotFound => None,
            Err(why) => return Err(Failure::io(format_args!("{path}: read"), why)),
        };
        if !is_wanted {
            let text = String::from_utf8_lossy(bytes);
            let merged = match context.config() {
                Ok(own) => merge(&text, &own.store).ok(),
                Err(_) => None,
            };
            let is_same = merged.is_some_and(|merged| {
                let own = old.as_deref().map(String::from_utf8_lossy);
                own.is_some_and(|own| says_the_same(&merged, &own))
            });
            return Ok(if is_same { Self::Same } else { Self::Differs });
        }
        let refuse = |why: &str| {
            Failure::new(
                Exit::Configuration,
                "device/deploy.toml of the backup",
                why,
                "print it with backup show FILE --print device/deploy.toml and write the file by hand; leave --configuration out",
            )
        };
        let text = std::str::from_utf8(bytes).map_err(|_| refuse("is not UTF-8"))?;
        let new = match &old {
            Some(_) => merge(text, &context.config()?.store).map_err(|why| refuse(&why))?,
            None => text.to_owned(),
        };
        Config::parse(&new)
            .and_then(|_| Settings::parse(&new))
            .and_then(|_| op_dbus_health::settings::Settings::parse(&new))
            .map_err(|why| refuse(&why))?;
        let is_same = old.as_deref() == Some(new.as_bytes());
        Ok(if is_same {
            Self::Same
        } else {
            Self::Install(new, old)
        })
    }

    /// What the rest of the restore goes by: product, keys and headroom are those
    /// of the configuration that is going to be.
    pub(super) fn staged(&self, context: &Context) -> Result<Option<Staged>> {
        let Self::Install(text, _) = self else {
            return Ok(None);
        };
        let dir = context.layout.run_dir();
        let path = dir.join("restore.toml");
        std::fs::create_dir_all(&dir)
            .and_then(|()| files::replace(&path, text.as_bytes(), 0o600, Durable::No))
            .map_err(|why| Failure::io(format_args!("{}: write", path.display()), why))?;
        Ok(Some(Staged {
            context: context.with_config(&path),
            path,
        }))
    }

    /// Writes it, and keeps what was there as `deploy.toml.before-restore`.
    pub(super) fn install(&self, context: &Context) -> Result<()> {
        let Self::Install(text, old) = self else {
            return Ok(());
        };
        let path = context.config_path();
        let write = |path: &std::path::Path, bytes: &[u8]| {
            files::replace(path, bytes, 0o644, Durable::Yes)
                .map_err(|why| Failure::io(format_args!("{}: write", path.display()), why))
        };
        if let Some(old) = old {
            let mut before = path.as_os_str().to_owned();
            before.push(".before-restore");
            write(before.as_ref(), old)?;
        }
        write(path, text.as_bytes())
    }

    /// For JSON.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Same => "same",
            Self::Differs => "differs",
            Self::Install(..) => "installed",
        }
    }

    /// For people.
    pub(super) fn line(&self) -> &'static str {
        match self {
            Self::None => "The backup has no configuration.",
            Self::Same => "The configuration is the one of the backup.",
            Self::Differs => {
                "The configuration differs from the backup's, and was left as it is (backup show FILE --print device/deploy.toml)."
            }
            Self::Install(..) => {
                "The configuration is the backup's now, with this device's store; the one before is beside it (.before-restore). Run op-dbus-stage prepare, and bring the initramfs up to date (dracut --force)."
            }
        }
    }
}

/// A configuration that is gone by and not installed yet. Its file lasts as long
/// as this, and never longer than the boot.
#[derive(Debug)]
pub(super) struct Staged {
    /// The context with it.
    pub(super) context: Context,
    path: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether two configurations say the same.
fn says_the_same(one: &str, other: &str) -> bool {
    let parse = |text: &str| toml::from_str::<toml::Table>(text).ok();
    parse(one).is_some_and(|one| Some(one) == parse(other))
}

/// A configuration with another store's device and subvolume; all else, comments
/// and order, as it was.
fn merge(text: &str, store: &Store) -> std::result::Result<String, String> {
    let quote = |text: &str| serde_json::to_string(text).map_err(|why| why.to_string());
    let (device, subvolume) = (quote(&store.device.to_string())?, quote(&store.subvolume)?);
    let mut merged = String::new();
    let mut is_inside = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            is_inside = trimmed.trim_end_matches(|c| c != ']') == "[store]";
        }
        let key = trimmed.split('=').next().unwrap_or_default().trim();
        if is_inside && matches!(key, "device" | "subvolume") {
            continue;
        }
        // Writing to a string can't fail.
        let _ = writeln!(merged, "{line}");
        if is_inside && trimmed.starts_with('[') {
            let _ = writeln!(merged, "device = {device}\nsubvolume = {subvolume}");
        }
    }
    let parse =
        |text: &str| toml::from_str::<toml::Table>(text).map_err(|why| why.message().to_owned());
    let mut expected = parse(text)?;
    let Some(toml::Value::Table(section)) = expected.get_mut("store") else {
        return Err("has no [store]".to_owned());
    };
    section.insert("device".to_owned(), store.device.to_string().into());
    section.insert("subvolume".to_owned(), store.subvolume.clone().into());
    if parse(&merged)? == expected {
        Ok(merged)
    } else {
        Err("[store] is written in a way that is not understood".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        let text = "[store]\ndevice = \"/dev/sdz9\"\nsubvolume = \"@new\"\n";
        Config::parse(text).unwrap().store
    }

    #[test]
    fn a_store_stays_where_it_is_and_all_else_comes_along() {
        let text = "# mine\n[limits]\ntries = 2\n\n  [store]  # where\ndevice = \"/dev/sda1\"\nwait_seconds = 7\n\n[receive]\nproduct = \"gate\"\n# device = no\n";
        let merged = merge(text, &store()).unwrap();
        let config = Config::parse(&merged).unwrap();
        assert_eq!(config.store.device, store().device);
        assert_eq!(config.store.subvolume, "@new");
        assert_eq!(config.store.wait_seconds, 7);
        assert!(merged.starts_with("# mine\n[limits]\ntries = 2\n"));
        assert!(merged.ends_with("product = \"gate\"\n# device = no\n"));
        // Once more changes nothing.
        assert!(says_the_same(&merge(&merged, &store()).unwrap(), &merged));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "store = { device = \"/dev/sda1\" }\n",
            "store.device = \"/dev/sda1\"\n",
            "[receive]\nproduct = \"x\"\n",
            "[store]\n\"device\" = \"/dev/sda1\"\n",
            "[store]\ndevice = '''\n/dev/sda1'''\n",
            "[[store]]\ndevice = \"/dev/sda1\"\n",
            "not toml",
        ] {
            assert!(merge(text, &store()).is_err(), "{text}");
        }
    }
}
