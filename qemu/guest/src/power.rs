//! The ways a guest ends by itself.

use std::fs::{self, File};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::reboot::{RebootMode, reboot};

/// Who carries out a reboot or a power-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// systemd, in good order.
    Systemd,
    /// Nobody: this program is PID 1 and asks the kernel itself.
    Own,
}

/// Restarts the machine.
pub fn restart(manager: Manager) -> io::Result<()> {
    leave(manager, "reboot", RebootMode::RB_AUTOBOOT)
}

/// Switches the machine off.
pub fn off(manager: Manager) -> io::Result<()> {
    leave(manager, "poweroff", RebootMode::RB_POWER_OFF)
}

/// Crashes the kernel, as a real defect in it would.
pub fn panic() -> io::Result<()> {
    fs::write("/proc/sysrq-trigger", "c")
}

/// How long the watchdog's driver may take to be loaded.
const DRIVER: Duration = Duration::from_secs(300);

/// Starts the hardware's watchdog, and leaves it alone: it restarts the machine
/// when its time is over. Closed without the magic character, or never, it goes on.
pub fn bite() -> io::Result<()> {
    let device = "/dev/watchdog";
    let end = Instant::now() + DRIVER;
    loop {
        match File::options().write(true).open(device) {
            Ok(file) => {
                std::mem::forget(file);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && Instant::now() < end => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => {
                let text = format!("open {device}: {error}");
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
}

fn leave(manager: Manager, verb: &str, mode: RebootMode) -> io::Result<()> {
    match manager {
        Manager::Systemd => {
            let argv = ["systemctl", "--no-block", verb].map(String::from);
            crate::exec::run(&argv).map(drop)
        }
        Manager::Own => {
            rustix::fs::sync();
            reboot(mode).map(drop).map_err(io::Error::from)
        }
    }
}
