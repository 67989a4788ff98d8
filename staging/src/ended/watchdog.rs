//! Whether a watchdog owns up to having reset the machine.
//!
//! The kernel's watchdog core shows it as `bootstatus`, a decimal number
//! (Documentation/ABI/testing/sysfs-class-watchdog, `CONFIG_WATCHDOG_SYSFS`). Few
//! drivers know: i6300esb and `sp5100_tco` do, softdog has nothing to remember it
//! by, and `iTCO_wdt` never says.

use std::fs;
use std::path::Path;

use op_dbus_activator::files;
use op_dbus_activator::layout::Layout;

/// `WDIOF_CARDRESET` (linux/watchdog.h): the card was the one that reset.
const CARD_RESET: u32 = 0x20;
/// More than any machine has.
const DEVICES_MAX: usize = 16;

/// Looks at every watchdog that has a driver by now.
pub(crate) fn has_reset(layout: &Layout) -> bool {
    any(&layout.host("/sys/class/watchdog"))
}

/// Whether a watchdog's driver may be loaded yet: udevd keeps this file as long as
/// it has devices to deal with. A slow machine takes minutes until then.
pub(crate) fn may_come(layout: &Layout) -> bool {
    layout.run.join("udev/queue").exists()
}

fn any(class: &Path) -> bool {
    let Ok(devices) = fs::read_dir(class) else {
        return false;
    };
    devices.take(DEVICES_MAX).flatten().any(|device| {
        let text = files::read_text(&device.path().join("bootstatus"), 64).unwrap_or_default();
        text.trim()
            .parse()
            .is_ok_and(|status: u32| status & CARD_RESET != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_may_come_while_udev_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), "/");
        assert!(!may_come(&layout));
        fs::create_dir(dir.path().join("udev")).unwrap();
        fs::write(dir.path().join("udev/queue"), "").unwrap();
        assert!(may_come(&layout));
    }

    #[test]
    fn only_the_reset_flag_counts() {
        let dir = tempfile::tempdir().unwrap();
        let class = dir.path();
        assert!(!any(&class.join("missing")));
        assert!(!any(class));
        for (text, expected) in [
            ("0\n", false),
            ("32\n", true),
            // Also overheated.
            ("33\n", true),
            ("31\n", false),
            ("0x20\n", false),
            ("", false),
        ] {
            fs::create_dir_all(class.join("watchdog0")).unwrap();
            fs::create_dir_all(class.join("watchdog1")).unwrap();
            fs::write(class.join("watchdog1/bootstatus"), text).unwrap();
            assert_eq!(any(class), expected, "{text:?}");
        }
    }
}
