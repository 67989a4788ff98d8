//! Ranges and paths: what the types do not say.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use super::{Config, Health, Mounts, Overlay};
use crate::layout;

/// Links a configuration may have. Each costs system calls in every boot.
const MAX_LINKS: usize = 1024;
/// Units, and likewise bus names, a health check may ask for.
const MAX_CHECKS: usize = 64;
/// Shared paths a configuration may have. Each is a mount in every boot.
const MAX_SHARED: usize = 8;
/// Longest path, in bytes. It leaves room for the root and a temporary name.
const MAX_PATH: usize = 1024;
/// Longest unit name and bus name, in bytes (systemd.unit(5), D-Bus specification).
const MAX_NAME: usize = 255;

pub(super) fn check(config: &Config) -> Result<(), String> {
    subvolume(&config.store.subvolume)?;
    range("store.wait_seconds", config.store.wait_seconds, 0..=60)?;
    range("limits.tries", config.limits.tries, 1..=10)?;
    range("limits.refunds", config.limits.refunds, 0..=10)?;
    range("limits.good_boots", config.limits.good_boots, 1..=100)?;
    mounts(&config.mounts)?;
    links(config)?;
    overlay(&config.overlay)?;
    health(&config.health)
}

fn range<N: PartialOrd + Copy + std::fmt::Display>(
    key: &str,
    value: N,
    allowed: RangeInclusive<N>,
) -> Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (from, to) = allowed.into_inner();
    Err(format!("{key} = {value}: must be {from} to {to}"))
}

/// Absolute, below the root, in its shortest form, without control characters:
/// what is printed, compared and put into mount options means the same everywhere.
pub(super) fn is_plain_absolute(path: &Path) -> bool {
    path.to_str()
        .and_then(|text| text.strip_prefix('/'))
        .is_some_and(is_plain_relative)
}

fn is_plain_relative(text: &str) -> bool {
    text.len() <= MAX_PATH
        && !text.chars().any(char::is_control)
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn subvolume(text: &str) -> Result<(), String> {
    // It becomes a part of the option string of mount(2), which commas divide.
    if is_plain_relative(text) && !text.contains([',', '\\']) {
        return Ok(());
    }
    Err(format!(
        "store.subvolume = {text:?}: must be a path from the file system's top level, such as \"@op-dbus\", without \"..\", comma or backslash"
    ))
}

fn mounts(mounts: &Mounts) -> Result<(), String> {
    for (key, path) in [("lower", &mounts.lower), ("overlay", &mounts.overlay)] {
        if !is_plain_absolute(path) {
            let path = path.to_string_lossy();
            return Err(format!(
                "mounts.{key} = {path:?}: must be an absolute path without \"..\""
            ));
        }
    }
    if mounts.lower.starts_with(&mounts.overlay) || mounts.overlay.starts_with(&mounts.lower) {
        return Err(
            "mounts.lower and mounts.overlay: one must not lie within the other".to_owned(),
        );
    }
    Ok(())
}

fn links(config: &Config) -> Result<(), String> {
    if config.links.len() > MAX_LINKS {
        return Err(format!("more than {MAX_LINKS} [[link]] sections"));
    }
    let mut seen = BTreeSet::new();
    for link in &config.links {
        let shown = link.path.to_string_lossy();
        if !is_plain_absolute(&link.path) {
            return Err(format!(
                "link.path = {shown:?}: must be an absolute path without \"..\""
            ));
        }
        let mounts = &config.mounts;
        if link.path.starts_with(&mounts.lower) || link.path.starts_with(&mounts.overlay) {
            return Err(format!(
                "link.path = {shown:?}: must not lie within the version itself"
            ));
        }
        if !link.target.to_str().is_some_and(is_plain_relative) {
            let target = link.target.to_string_lossy();
            return Err(format!(
                "link.target = {target:?}: must be a path within the version, relative and without \"..\""
            ));
        }
        if !seen.insert(&link.path) {
            return Err(format!("link.path = {shown:?}: is there twice"));
        }
    }
    Ok(())
}

fn overlay(overlay: &Overlay) -> Result<(), String> {
    let shared = &overlay.shared_paths;
    if shared.len() > MAX_SHARED {
        return Err(format!(
            "overlay.shared_paths: more than {MAX_SHARED} paths"
        ));
    }
    for (number, path) in shared.iter().enumerate() {
        // Its name in the store is a file name, longer than the path by what is escaped.
        if !is_plain_relative(path) || layout::escaped(path).len() > MAX_NAME {
            return Err(format!(
                "overlay.shared_paths: {path:?} must be a short path within the version, relative and without \"..\""
            ));
        }
        let clash = |other: &&String| {
            Path::new(path).starts_with(other) || Path::new(other).starts_with(path)
        };
        if let Some(other) = shared.iter().take(number).find(clash) {
            return Err(format!(
                "overlay.shared_paths: {path:?} and {other:?}: one must not lie within the other"
            ));
        }
    }
    Ok(())
}

fn health(health: &Health) -> Result<(), String> {
    range("health.settle_seconds", health.settle_seconds, 0..=3600)?;
    range("health.timeout_seconds", health.timeout_seconds, 1..=3600)?;
    range(
        "health.deadline_seconds",
        health.deadline_seconds,
        1..=86_400,
    )?;
    let needed = health.settle_seconds.saturating_add(health.timeout_seconds);
    if health.deadline_seconds < needed {
        return Err(format!(
            "health.deadline_seconds = {}: must be at least settle_seconds + timeout_seconds, {needed}",
            health.deadline_seconds
        ));
    }
    for (key, names) in [("units", &health.units), ("bus_names", &health.bus_names)] {
        if names.len() > MAX_CHECKS {
            return Err(format!("health.{key}: more than {MAX_CHECKS} names"));
        }
        for name in names {
            let inner_dot = name.trim_matches('.').contains('.');
            let plain = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:@\\".contains(&byte));
            if !plain || !inner_dot || name.len() > MAX_NAME || name.starts_with(['-', ':']) {
                return Err(format!(
                    "health.{key}: {name:?} is not a full name, such as \"example.service\" or \"org.example.Name\""
                ));
            }
        }
    }
    Ok(())
}
