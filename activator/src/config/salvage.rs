//! What booting needs from a configuration that has a mistake elsewhere.
//!
//! A typing mistake in `[health]` must not cost a device its service: the store
//! and the mount points are taken where they are beyond doubt, and the boot
//! activates good, uncounted, until the file is corrected.

use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::{Config, Device, Mounts, Store, check, default_subvolume, default_wait};

/// One key of a section, if it is there.
fn key<'a, 'i>(table: &'a DeTable<'i>, section: &str, key: &str) -> Option<&'a DeValue<'i>> {
    let section = table.get(section)?.get_ref();
    Some(section.as_table()?.get(key)?.get_ref())
}

/// A text of a section; the default where it is not there. `None`: it is there
/// and no text, so what was meant can't be told.
fn text(table: &DeTable<'_>, section: &str, name: &str, default: String) -> Option<String> {
    match key(table, section, name) {
        None => Some(default),
        Some(value) => value.as_str().map(str::to_owned),
    }
}

/// Without them a version would begin with old data, and write where no other
/// version looks. `None`: it can't be told which paths are meant.
fn shared_paths(table: &DeTable<'_>) -> Option<Vec<String>> {
    let Some(value) = key(table, "overlay", "shared_paths") else {
        return Some(Vec::new());
    };
    let paths = value.as_array()?.iter();
    paths
        .map(|path| path.get_ref().as_str().map(str::to_owned))
        .collect()
}

/// `None`: it can't be told where the store is, or where to mount a version.
pub(super) fn salvage(source: &str) -> Option<Config> {
    let (table, _mistakes) = DeTable::parse_recoverable(source);
    let table = table.get_ref();
    let device = text(table, "store", "device", String::new())?;
    let subvolume = text(table, "store", "subvolume", default_subvolume())?;
    let path = |name: &str, default: PathBuf| {
        let default = default.to_string_lossy().into_owned();
        text(table, "mounts", name, default).map(PathBuf::from)
    };
    let usual = Mounts::default();
    let config = Config {
        store: Store {
            device: Device::try_from(device).ok()?,
            subvolume,
            wait_seconds: default_wait(),
        },
        mounts: Mounts {
            lower: path("lower", usual.lower)?,
            overlay: path("overlay", usual.overlay)?,
        },
        activation: super::Activation::default(),
        limits: super::LimitsSection::default(),
        links: Vec::new(),
        health: super::Health::default(),
        overlay: super::Overlay {
            shared_paths: shared_paths(table)?,
            ..super::Overlay::default()
        },
        receive: super::IgnoredAny,
        lint: super::IgnoredAny,
        prune: super::IgnoredAny,
        audit: super::IgnoredAny,
        metrics: super::IgnoredAny,
    };
    check::check(&config).ok()?;
    Some(config)
}
