//! Where a version is mounted: the two mount points, and what fstab does to them.

use std::path::{Path, PathBuf};

use op_dbus_activator::config::{Config, Way};
use rustix::fs::FileType;

use crate::commands::check::host::Host;
use crate::error::Exit;
use crate::findings::Findings;
use crate::mountinfo;

const SUBJECT: &str = "mount points";
/// Longest fstab that is looked at, in bytes.
pub(crate) const FSTAB_MAX: usize = 256 * 1024;

/// Looks at both.
pub(crate) fn check(host: &Host, config: &Config, findings: &mut Findings) {
    let fstab = host.root.text("/etc/fstab", FSTAB_MAX).unwrap_or_default();
    let mut fine = Vec::new();
    for point in [&config.mounts.lower, &config.mounts.overlay] {
        let shown = point.display();
        match host.root.kind(point) {
            Ok(FileType::Directory) => {}
            Ok(_) => {
                findings.error(
                    Exit::Failure,
                    SUBJECT,
                    format!("{shown} is not a directory"),
                    "move it away, then: op-dbus-stage prepare",
                );
                continue;
            }
            Err(why) => {
                findings.error(
                    Exit::Failure,
                    SUBJECT,
                    format!("{shown}: {why}: nothing can be mounted there"),
                    "op-dbus-stage prepare",
                );
                continue;
            }
        }
        match mounted_over(&fstab, point) {
            Some(over) if config.activation.way == Way::Initrd => findings.error(
                Exit::Configuration,
                SUBJECT,
                format!(
                    "{shown} is hidden: fstab mounts {} after the initramfs",
                    over.display()
                ),
                format!(
                    "set way = \"generator\" in [activation] of {}, or add x-initrd.mount to that line of fstab",
                    host.context.config_path().display()
                ),
            ),
            Some(over) if over == *point => findings.error(
                Exit::Configuration,
                SUBJECT,
                format!("fstab mounts something else on {shown} itself"),
                "take that line out of /etc/fstab, or set other [mounts] in the configuration",
            ),
            _ => fine.push(shown.to_string()),
        }
    }
    if !fine.is_empty() {
        findings.ok(SUBJECT, fine.join(", "));
    }
}

/// What fstab mounts over a directory or a parent of it, once the host is up.
pub(crate) fn mounted_over(fstab: &str, point: &Path) -> Option<PathBuf> {
    fstab.lines().find_map(|line| {
        let line = line.trim_start();
        if line.starts_with('#') {
            return None;
        }
        let mut fields = line.split_whitespace().skip(1);
        let over = PathBuf::from(mountinfo::unescape(fields.next()?));
        let options = fields.nth(1).unwrap_or_default();
        // These the initramfs mounts itself, before it activates.
        let is_early = options.split(',').any(|option| option == "x-initrd.mount");
        (over != Path::new("/") && over.is_absolute() && point.starts_with(&over) && !is_early)
            .then_some(over)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::{bad, host, put};
    use std::fs;

    #[test]
    fn finds_mounts_over_a_parent() {
        let over = |fstab: &str, point: &str| mounted_over(fstab, Path::new(point));
        let fstab = "# comment\nUUID=1 / btrfs subvol=@ 0 0\nUUID=2 none swap sw 0 0\nUUID=3 /opt ext4 defaults 0 2\n";
        assert_eq!(over(fstab, "/opt/op-dbus"), Some(PathBuf::from("/opt")));
        assert_eq!(over(fstab, "/usr/local/op-dbus"), None);
        assert_eq!(
            over("UUID=3 /usr/local ext4\n", "/usr/local/op-dbus"),
            Some(PathBuf::from("/usr/local"))
        );
        assert_eq!(
            over(
                "UUID=3 /usr ext4 rw,x-initrd.mount 0 2\n",
                "/usr/local/op-dbus"
            ),
            None
        );
        assert_eq!(over("UUID=3 /opt2 ext4\n/dev/x\n\n", "/opt/op-dbus"), None);
    }

    #[test]
    fn mount_points_are_there_and_seen() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let host = host(at);
        let look = |way: &str| {
            let text = format!("[store]\ndevice = \"/dev/vda\"\n[activation]\nway = \"{way}\"\n");
            let config = Config::parse(&text).unwrap();
            bad(|findings| check(&host, &config, findings))
        };
        fs::create_dir_all(at.join("root")).unwrap();
        assert_eq!(look("initrd").len(), 2);
        for path in ["root/opt/op-dbus/x", "root/usr/local/op-dbus/x"] {
            put(at, path, "");
        }
        assert_eq!(look("initrd"), []);
        put(at, "root/etc/fstab", "UUID=1 /opt ext4 rw 0 0\n");
        let told = look("initrd");
        assert!(
            told.len() == 1 && told[0].1.contains("is hidden"),
            "{told:?}"
        );
        assert_eq!(look("generator"), []);
        put(at, "root/etc/fstab", "UUID=1 /opt/op-dbus ext4 rw 0 0\n");
        let told = look("generator");
        assert!(told.len() == 1 && told[0].1.contains("itself"), "{told:?}");
        fs::remove_dir_all(at.join("root/opt/op-dbus")).unwrap();
        put(at, "root/opt/op-dbus", "");
        let told = look("generator");
        assert!(told[0].1.contains("not a directory"), "{told:?}");
    }
}
