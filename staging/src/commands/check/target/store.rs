//! The store: mounted, the right one, writable, on sound devices.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use op_dbus_activator::config::{Config, Device};
use op_dbus_activator::session;
use op_dbus_bootstate::Uuid;
use op_dbus_btrfs::Superblock;

use crate::commands::check::host::Host;
use crate::error::Exit;
use crate::findings::Findings;
use crate::mountinfo::{self, Mount};

const SUBJECT: &str = "store";
/// Devices of one file system that are looked at.
const DEVICES_MAX: usize = 64;
/// Longest file of sysfs that is read, in bytes.
const SYSFS_MAX: usize = 4096;

/// Whether the store is there to look into.
pub(crate) fn is_there(host: &Host) -> bool {
    host.context.require_store().is_ok()
}

/// Looks at its mount.
pub(crate) fn check(host: &Host, config: &Config, findings: &mut Findings) {
    let place = &host.context.layout.store;
    match session::mounted(&host.context.layout) {
        Ok(Some(_)) => {}
        // A store that an image's builder named with --store need not be a mount.
        Ok(None) if !host.is_running && is_there(host) => {
            return findings.info(
                SUBJECT,
                format!("{} (not a mount of its own)", place.display()),
            );
        }
        Ok(None) if !host.is_running => {
            return findings.info(
                SUBJECT,
                format!("{}: not mounted, so neither store nor record are looked at; name it: --store DIR", place.display()),
            );
        }
        Ok(None) => {
            return findings.error(
                Exit::Store,
                SUBJECT,
                format!("nothing is mounted at {}", place.display()),
                "mount it: op-dbus-stage prepare; why it is not, tells: journalctl -b -g op-dbus",
            );
        }
        Err(why) => {
            let text = why.to_string();
            let (found, remedy) = text
                .split_once("; ")
                .unwrap_or((&text, "see: journalctl -k"));
            return findings.error(Exit::Store, SUBJECT, found, remedy);
        }
    }
    if let Err(why) = host.context.require_store() {
        return findings.error(
            Exit::Store,
            SUBJECT,
            format!("{}: {}", why.what, why.why),
            why.remedy,
        );
    }
    let list = host
        .proc
        .text("self/mountinfo", mountinfo::MAX)
        .or_else(|_| {
            // In tests `/proc` is a directory like any other.
            std::fs::read_to_string("/proc/self/mountinfo")
        });
    let path = place.canonicalize().unwrap_or_else(|_| place.clone());
    let mount = list.ok().and_then(|list| mountinfo::at(&list, &path));
    if let Some(mount) = &mount {
        identity(mount, config, findings);
        writable(mount, findings);
    }
    mode(place, findings);
    devices(host, findings);
}

/// Whether it is the file system and the subvolume that the configuration names:
/// those are what the next boot will use.
fn identity(mount: &Mount, config: &Config, findings: &mut Findings) {
    let source = mount.source.display();
    let wanted = Path::new("/").join(&config.store.subvolume);
    if mount.root != wanted {
        findings.error(
            Exit::Store,
            SUBJECT,
            format!(
                "{} of {source} is mounted, and the configuration names {}",
                mount.root.display(),
                wanted.display()
            ),
            "correct [store] subvolume, or unmount it and run: op-dbus-stage prepare",
        );
        return;
    }
    let fsid = |device: &Path| Some(Uuid(Superblock::read(device).ok()??.fsid));
    let is_right = match &config.store.device {
        Device::Uuid(uuid) => fsid(&mount.source).map(|found| found == *uuid),
        Device::Path(path) => {
            let node = |path: &Path| path.canonicalize().ok();
            let same_node = node(path).is_some() && node(path) == node(&mount.source);
            Some(same_node || fsid(path).is_some_and(|one| fsid(&mount.source) == Some(one)))
        }
    };
    match is_right {
        Some(true) => findings.ok(SUBJECT, format!("{} of {source}", mount.root.display())),
        Some(false) => findings.error(
            Exit::Store,
            SUBJECT,
            format!(
                "{source} is mounted, and the configuration names {}: the next boot uses another store",
                config.store.device
            ),
            "correct [store] device (blkid), or unmount it and run: op-dbus-stage prepare",
        ),
        None => findings.info(
            SUBJECT,
            format!("{} of {source}, whose UUID can't be read", mount.root.display()),
        ),
    }
}

fn writable(mount: &Mount, findings: &mut Findings) {
    if mount.is_super_read_only() {
        findings.error(
            Exit::Store,
            SUBJECT,
            "its file system is read-only: no boot is counted, no trial runs",
            "was there an error? journalctl -k -g -i btrfs. If ro in fstab made it so: systemctl start op-dbus-store-rw",
        );
    } else if mount.is_read_only() {
        findings.error(
            Exit::Store,
            SUBJECT,
            "it is mounted read-only: no boot is counted, no trial runs",
            "systemctl start op-dbus-store-rw",
        );
    }
}

fn mode(place: &Path, findings: &mut Findings) {
    let Ok(found) = place.metadata() else { return };
    if found.mode() & 0o077 != 0 || found.uid() != 0 {
        findings.warning(
            SUBJECT,
            format!(
                "others than root may look into it (mode {:04o})",
                found.mode() & 0o7777
            ),
            format!("chown root: {0} && chmod 0700 {0}", place.display()),
        );
    }
}

/// What the kernel counted and knows of the devices (`/sys/fs/btrfs`).
fn devices(host: &Host, findings: &mut Findings) {
    let Some(dir) = sysfs(host) else {
        return findings.info("devices", "/sys does not tell of them");
    };
    let infos = format!("{dir}/devinfo");
    let ids = host.sys.names(&infos, DEVICES_MAX).unwrap_or_default();
    let mut are_sound = true;
    for id in &ids {
        let read = |name: &str| host.sys.text(format!("{infos}/{id}/{name}"), SYSFS_MAX);
        if read("missing").is_ok_and(|text| text.trim() == "1") {
            are_sound = false;
            findings.error(
                Exit::Store,
                "devices",
                format!("device {id} is missing: the store runs on what is left"),
                "attach it, or replace it: btrfs replace",
            );
        }
        let counted = errors(&read("error_stats").unwrap_or_default());
        if !counted.is_empty() {
            are_sound = false;
            findings.warning(
                "devices",
                format!("device {id} had errors: {}", counted.join(", ")),
                format!(
                    "is the medium failing? journalctl -k; op-dbus-stage verify --deep; once mended: btrfs device stats --reset {}",
                    host.context.layout.store.display()
                ),
            );
        }
    }
    let profiles: Vec<_> = ["data", "metadata", "system"]
        .iter()
        .filter_map(|kind| Some(format!("{kind} {}", profile(host, &dir, kind)?)))
        .collect();
    let words = format!(
        "{}, {}",
        super::counted(ids.len(), "device"),
        profiles.join(", ")
    );
    if are_sound {
        findings.ok("devices", format!("no errors counted; {words}"));
    } else {
        findings.info("devices", words);
    }
}

/// Lines are `write_errs 0`.
fn errors(stats: &str) -> Vec<String> {
    let is_bad = |line: &&str| {
        let count = line.split_whitespace().next_back();
        count.is_some_and(|count| count != "0" && count.parse::<u64>().is_ok())
    };
    stats.lines().filter(is_bad).map(str::to_owned).collect()
}

/// `single`, `dup`, `raid1`: the directories beside the numbers.
fn profile(host: &Host, dir: &str, kind: &str) -> Option<String> {
    let dir = format!("{dir}/allocation/{kind}");
    let names = host.sys.names(&dir, 64).ok()?;
    let is_dir = |name: &String| host.sys.is_dir(format!("{dir}/{name}"));
    let profiles: Vec<_> = names.into_iter().filter(is_dir).collect();
    Some(profiles.join("+"))
}

/// The file system's directory in sysfs.
pub(crate) fn sysfs(host: &Host) -> Option<String> {
    let store = op_dbus_btrfs::open_dir(&host.context.layout.store).ok()?;
    let fsid = op_dbus_btrfs::filesystem_uuid(store).ok()??;
    let dir = format!("fs/btrfs/{}", Uuid(fsid));
    host.sys.is_dir(&dir).then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::bad;

    fn mount(options: &str, super_options: &str) -> Mount {
        let line = format!("1 2 0:3 /@op-dbus /s {options} - btrfs /none/vda2 {super_options}\n");
        mountinfo::at(&line, Path::new("/s")).unwrap()
    }

    #[test]
    fn a_read_only_store_is_an_error_whatever_made_it_so() {
        let look = |options, supers| bad(|findings| writable(&mount(options, supers), findings));
        assert!(look("rw,noatime", "rw,subvolid=5").is_empty());
        assert!(look("ro,noatime", "rw")[0].1.contains("mounted read-only"));
        assert!(
            look("rw", "ro")[0]
                .1
                .contains("its file system is read-only")
        );
    }

    #[test]
    fn another_subvolume_or_device_is_an_error() {
        let look = |subvolume: &str, device: &str| {
            let text = format!("[store]\ndevice = \"{device}\"\nsubvolume = \"{subvolume}\"\n");
            let config = Config::parse(&text).unwrap();
            bad(|findings| identity(&mount("rw", "rw"), &config, findings))
        };
        assert!(look("@other", "/dev/vda2")[0].1.contains("names /@other"));
        assert!(
            look("@op-dbus", "/dev/vdz9")[0]
                .1
                .contains("uses another store")
        );
        // What can't be read is no reason to be alarmed.
        let uuid = "UUID=66902c99-550e-4dd7-a5bb-ef6bfa70f4d5";
        assert_eq!(look("@op-dbus", uuid), []);
    }

    #[test]
    fn counted_errors_are_named() {
        let stats = "write_errs 0\nread_errs 3\nflush_errs 0\ncorruption_errs 12\n";
        assert_eq!(errors(stats), ["read_errs 3", "corruption_errs 12"]);
        assert!(errors("").is_empty());
    }
}
