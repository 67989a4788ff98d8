//! Whether the initramfs of every kernel will activate: whether our module is in
//! it, with the activator that is installed and the configuration as it is now.
//!
//! dracut may strip the programs it copies, so the activator in an image need not
//! be, byte for byte, the installed one. Our dracut module therefore leaves a
//! stamp beside the configuration, with the SHA-256 of the program as it was
//! installed then, and its version. What is the same byte for byte needs no stamp.

mod cpio;
mod images;
mod unpack;

use std::io;
use std::time::{Duration, Instant};

use op_dbus_activator::config::{Config, Health, Way};
use op_dbus_activator::layout::CONFIG;
use op_dbus_bootstate::{Digest, Version};
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use super::configuration::Said;
use super::installed::ACTIVATOR;
use super::kernel;
use crate::commands::check::host::Host;
use crate::commands::check::sections;
use crate::error::Exit;
use crate::findings::Findings;

use cpio::{Content, Take, Visitor};
use images::Image;

const SUBJECT: &str = "initramfs";
/// How long one image may take: large ones take a second on a PC.
const LIMIT: Duration = Duration::from_secs(90);
/// Images that are looked into, the running and the newest kernel's first.
const IMAGES_MAX: usize = 8;
/// What our dracut module leaves; see `dracut/50op-dbus/module-setup.sh`.
const STAMP: &str = "/etc/op-dbus/initramfs.stamp";
/// What starts the activator.
const UNIT: &[u8] = b"usr/lib/systemd/system/op-dbus-initrd.service";
const WANTS: &[u8] = b"initrd.target.wants/op-dbus-initrd.service";

/// Looks into all of them.
pub(super) fn check(host: &Host, said: &Said, findings: &mut Findings) {
    if said.config.activation.way == Way::Generator {
        return findings.info(SUBJECT, "not needed: way = \"generator\"");
    }
    let running = kernel::running(host);
    let mut kernels = kernel::installed(&host.root);
    // The kernels the next boot is most likely to take come first.
    if let Some(release) = running {
        kernels.retain(|other| *other != release);
        let after_newest = kernels.len().min(1);
        kernels.insert(after_newest, release);
    }
    let left_out = kernels.len().saturating_sub(IMAGES_MAX);
    for (index, release) in kernels.into_iter().take(IMAGES_MAX).enumerate() {
        let said = said.clone();
        sections::run(SUBJECT, host, LIMIT, findings, move |host, findings| {
            let kernel = Kernel {
                release,
                is_likely: index < 2,
            };
            one(host, &kernel, &said, findings);
        });
    }
    if left_out > 0 {
        findings.info(
            SUBJECT,
            format!("those of {left_out} more kernels were not looked into"),
        );
    }
}

/// A kernel whose image is looked at.
struct Kernel {
    release: String,
    /// Whether a boot without a hand is likely to take it: it runs, or is the newest.
    is_likely: bool,
}

impl Kernel {
    /// What keeps its image from activating: in the way if boots are likely to take it.
    fn bad(&self, findings: &mut Findings, found: String, remedy: impl Into<String>) {
        if self.is_likely {
            findings.error(Exit::Failure, SUBJECT, found, remedy);
        } else {
            findings.warning(SUBJECT, found, remedy);
        }
    }

    fn rebuild(&self) -> String {
        format!("dracut --force --kver {}", self.release)
    }
}

fn one(host: &Host, kernel: &Kernel, said: &Said, findings: &mut Findings) {
    let release = &kernel.release;
    let path = match images::of(&host.root, release) {
        Image::At(path) => path,
        Image::Unified(path) => {
            return findings.info(
                SUBJECT,
                format!("{path} is one file with the kernel, and not looked into"),
            );
        }
        Image::None => {
            return kernel.bad(
                findings,
                format!("none of kernel {release} is in /boot"),
                format!(
                    "is /boot a file system of its own that is not mounted? Else: {}",
                    kernel.rebuild()
                ),
            );
        }
    };
    let deadline = Instant::now() + LIMIT;
    let mut held = Held::default();
    let read = host
        .root
        .open(&path)
        .and_then(|file| unpack::read(file, &mut held, deadline));
    match read {
        Ok(()) => {}
        // What is missing is a program to look with, not the image.
        Err(why) if why.kind() == io::ErrorKind::Unsupported => {
            return findings.warning(
                SUBJECT,
                format!("{path}: {why}"),
                "install it, and check again",
            );
        }
        Err(why) => {
            let why = match why.kind() {
                io::ErrorKind::UnexpectedEof => "it is cut short".to_owned(),
                _ => why.to_string(),
            };
            return kernel.bad(findings, format!("{path}: {why}"), kernel.rebuild());
        }
    }
    let installed = Installed {
        activator: digest_of(host),
        text: said.text.clone(),
        config: said.config.clone(),
        has_built_in: kernel::FILE_SYSTEMS
            .into_iter()
            .filter(|name| kernel::is_built_in(&host.root, release, name))
            .collect(),
    };
    judge(
        &path,
        &held,
        &installed,
        env!("CARGO_PKG_VERSION"),
        kernel,
        findings,
    );
}

/// SHA-256 of the installed activator.
fn digest_of(host: &Host) -> Option<Digest> {
    let mut file = host.root.open(ACTIVATOR).ok()?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).ok()?;
    Some(Digest(hasher.finalize().into()))
}

/// What an image holds of ours.
#[derive(Debug, Default)]
struct Held {
    activator: Option<Digest>,
    config: Option<Vec<u8>>,
    stamp: Stamp,
    has_unit: bool,
    is_wanted: bool,
    file_systems: Vec<&'static str>,
}

/// What the dracut module wrote down.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stamp {
    activator: Option<Digest>,
    version: Option<Version>,
}

impl Stamp {
    /// Lines of `key=value`; others are of a later release.
    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            lines
                .filter(|(name, _)| *name == key)
                .map(|(_, value)| value.trim())
                .next_back()
        };
        Self {
            activator: value("activator-sha256").and_then(|text| text.parse().ok()),
            version: value("activator-version").and_then(|text| text.parse().ok()),
        }
    }
}

fn is_at(path: &[u8], place: &str) -> bool {
    place.strip_prefix('/').map(str::as_bytes) == Some(path)
}

impl Visitor for Held {
    fn wants(&self, path: &[u8]) -> Take {
        if is_at(path, ACTIVATOR) {
            Take::Digest
        } else if is_at(path, CONFIG) || is_at(path, STAMP) {
            Take::Bytes
        } else {
            Take::Pass
        }
    }

    fn entry(&mut self, path: &[u8], content: Content) {
        match content {
            Content::Digest(digest) => self.activator = Some(digest),
            Content::Bytes(bytes) if is_at(path, STAMP) => {
                let text = bytes.unwrap_or_default();
                self.stamp = Stamp::parse(&String::from_utf8_lossy(&text));
            }
            Content::Bytes(bytes) => self.config = Some(bytes.unwrap_or_default()),
            Content::Passed if path == UNIT => self.has_unit = true,
            Content::Passed if path.ends_with(WANTS) => self.is_wanted = true,
            Content::Passed => {
                let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
                let fits = |file_system: &&&str| {
                    let rest = name.strip_prefix(file_system.as_bytes());
                    rest.is_some_and(|rest| rest.starts_with(b".ko"))
                };
                self.file_systems
                    .extend(kernel::FILE_SYSTEMS.iter().find(fits));
            }
        }
    }
}

/// What an image is compared with.
struct Installed {
    activator: Option<Digest>,
    text: String,
    config: Config,
    has_built_in: Vec<&'static str>,
}

fn judge(
    path: &str,
    held: &Held,
    installed: &Installed,
    own: &str,
    kernel: &Kernel,
    findings: &mut Findings,
) {
    let Some(activator) = held.activator else {
        return kernel.bad(
            findings,
            format!("{path} has no activator: a boot with it activates nothing"),
            format!(
                "see that /etc/dracut.conf.d/50-op-dbus.conf is there, then: {}",
                kernel.rebuild()
            ),
        );
    };
    let mut is_fine = true;
    if !(held.has_unit && held.is_wanted) {
        is_fine = false;
        kernel.bad(
            findings,
            format!("{path} has an activator and nothing that starts it"),
            kernel.rebuild(),
        );
    }
    for name in kernel::FILE_SYSTEMS {
        if !held.file_systems.contains(&name) && !installed.has_built_in.contains(&name) {
            is_fine = false;
            kernel.bad(
                findings,
                format!("{path} has no {name} module, and its kernel has none built in"),
                kernel.rebuild(),
            );
        }
    }
    is_fine &= same_activator(path, activator, held, installed, own, kernel, findings);
    let Some(configuration) = same_configuration(path, held, installed, kernel, findings) else {
        return;
    };
    if is_fine {
        findings.ok(
            SUBJECT,
            format!("{path}: the installed activator, {configuration}"),
        );
    }
}

/// Whether the activator in an image is the installed one.
fn same_activator(
    path: &str,
    activator: Digest,
    held: &Held,
    installed: &Installed,
    own: &str,
    kernel: &Kernel,
    findings: &mut Findings,
) -> bool {
    let Some(expected) = installed.activator else {
        // That it is not installed is told elsewhere.
        return true;
    };
    if activator == expected || held.stamp.activator == Some(expected) {
        return true;
    }
    let own_version = own.parse::<Version>().ok();
    match held.stamp.version.as_ref().zip(own_version) {
        Some((version, own)) if *version >= own => findings.warning(
            SUBJECT,
            format!("{path} has another build of the activator ({version}) than the installed one"),
            kernel.rebuild(),
        ),
        Some((version, _)) => kernel.bad(
            findings,
            format!("{path} has an older activator ({version}) than this program ({own})"),
            kernel.rebuild(),
        ),
        None => kernel.bad(
            findings,
            format!("{path} has another activator than the installed one, of an unknown version"),
            kernel.rebuild(),
        ),
    }
    false
}

/// Whether a boot will go by the configuration as it is: in a few words, or what
/// is wrong is a finding. What only the host's programs read may differ.
fn same_configuration(
    path: &str,
    held: &Held,
    installed: &Installed,
    kernel: &Kernel,
    findings: &mut Findings,
) -> Option<&'static str> {
    let Some(bytes) = &held.config else {
        kernel.bad(
            findings,
            format!("{path} has no configuration: a boot with it activates nothing"),
            kernel.rebuild(),
        );
        return None;
    };
    if bytes == installed.text.as_bytes() {
        return Some("and the configuration as it is");
    }
    match Config::parse(&String::from_utf8_lossy(bytes)) {
        Ok(config) if for_boot(&config) == for_boot(&installed.config) => {
            Some("and a configuration that differs in nothing a boot goes by")
        }
        Ok(config) => {
            let sections = differing(&config, &installed.config);
            kernel.bad(
                findings,
                format!("{path} has an older copy of the configuration, with another {sections}: a boot with it goes by that"),
                kernel.rebuild(),
            );
            None
        }
        Err(why) => {
            kernel.bad(
                findings,
                format!("{path} has a configuration with a mistake: {why}"),
                format!("correct {CONFIG}, then: {}", kernel.rebuild()),
            );
            None
        }
    }
}

/// What of a configuration the activator in the initramfs goes by.
fn for_boot(config: &Config) -> Config {
    Config {
        links: Vec::new(),
        health: Health::default(),
        receive: IgnoredAny,
        lint: IgnoredAny,
        prune: IgnoredAny,
        ..config.clone()
    }
}

/// The sections that differ.
fn differing(old: &Config, new: &Config) -> String {
    let sections = [
        ("[store]", old.store != new.store),
        ("[activation]", old.activation != new.activation),
        ("[limits]", old.limits != new.limits),
        ("[mounts]", old.mounts != new.mounts),
        ("[overlay]", old.overlay != new.overlay),
    ];
    let names: Vec<_> = sections
        .iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| *name)
        .collect();
    if names.is_empty() {
        return "sections".to_owned();
    }
    names.join(" and ")
}

#[cfg(test)]
mod tests;
