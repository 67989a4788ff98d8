//! Whether a watchdog owns up to having reset the machine.
//!
//! The kernel's watchdog core shows it as `bootstatus`, a decimal number
//! (Documentation/ABI/testing/sysfs-class-watchdog, `CONFIG_WATCHDOG_SYSFS`). Few
//! drivers know: i6300esb and `sp5100_tco` do, softdog has nothing to remember it
//! by, and `iTCO_wdt` never says.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use op_dbus_activator::files;
use op_dbus_activator::layout::Layout;

use crate::limited;

/// `WDIOF_CARDRESET` (linux/watchdog.h): the card was the one that reset.
const CARD_RESET: u32 = 0x20;
/// More than any machine has.
const DEVICES_MAX: usize = 16;
/// Between two looks at them.
const POLL: Duration = Duration::from_millis(250);

/// Looks at every watchdog that has a driver by now.
pub(crate) fn has_reset(layout: &Layout) -> bool {
    any(&layout.host("/sys/class/watchdog"))
}

/// Waits until no driver of a watchdog may be loaded any more, or one owns up, or
/// the time is over.
///
/// The drivers are loaded by udev. Its queue file says nothing until udevd runs:
/// on a slow machine the devices are announced ten seconds before that. So the one
/// who asks is `udevadm settle`, which waits for udevd itself first (as root it
/// sends it a message that is answered after all devices announced so far).
pub(crate) fn wait(layout: &Layout, limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    if has_reset(layout) {
        return Ok(());
    }
    let mut settle = Command::new("udevadm")
        .arg("settle")
        .arg(format!("--timeout={}", limit.as_secs()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|why| format!("udevadm settle: {why}"))?;
    let ended = loop {
        match settle.try_wait() {
            Ok(None) if Instant::now() < deadline && !has_reset(layout) => thread::sleep(POLL),
            Ok(_) => break Ok(()),
            Err(why) => break Err(format!("udevadm settle: {why}")),
        }
    };
    limited::kill_group(&settle);
    let _ = settle.wait();
    ended
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
