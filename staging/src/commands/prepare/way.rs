//! Who activates: the initramfs, or a unit in the host.

use std::path::{Path, PathBuf};

use op_dbus_activator::config::{Mounts, Way};
use op_dbus_activator::files;

use crate::context::Context;
use crate::mountinfo::unescape;

/// Longest fstab that is looked at, in bytes.
const FSTAB_MAX: usize = 256 * 1024;

/// The way that fits this host, and why it is not the usual one.
pub(crate) fn choose(context: &Context, mounts: &Mounts) -> (Way, Option<String>) {
    let host = |path: &str| context.layout.host(path);
    let fstab = files::read_text(&host("/etc/fstab"), FSTAB_MAX).unwrap_or_default();
    for point in [&mounts.lower, &mounts.overlay] {
        if let Some(over) = mounted_over(&fstab, point) {
            let why = format!(
                "fstab mounts {} after the initramfs, which would hide {}: the generator way is used",
                over.display(),
                point.display()
            );
            return (Way::Generator, Some(why));
        }
    }
    if host("/usr/lib/dracut").is_dir()
        || host("/usr/bin/dracut").is_file()
        || host("/sbin/dracut").is_file()
    {
        return (Way::Initrd, None);
    }
    (
        Way::Generator,
        Some("dracut is not installed: the generator way is used".to_owned()),
    )
}

/// What fstab mounts over a directory or a parent of it, once the host is up.
fn mounted_over(fstab: &str, point: &Path) -> Option<PathBuf> {
    fstab.lines().find_map(|line| {
        let line = line.trim_start();
        if line.starts_with('#') {
            return None;
        }
        let mut fields = line.split_whitespace().skip(1);
        let over = PathBuf::from(unescape(fields.next()?));
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
}
