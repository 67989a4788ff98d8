//! Who activates: the initramfs, or a unit in the host.

use op_dbus_activator::config::{Mounts, Way};
use op_dbus_activator::files;

use crate::commands::check::target::places::{FSTAB_MAX, mounted_over};
use crate::context::Context;

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
