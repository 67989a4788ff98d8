//! PID 1 of the light guest.
//!
//! The whole machine is one initramfs: kernel modules, the shipped programs and
//! their configuration, no systemd. What matters is real: the kernel, the file
//! system, the activator and the command line tool.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use crate::channel::{Channel, find_port};
use crate::moment::Moment;
use crate::power::Manager;
use crate::proto::{Event, Exit, PORT_NAME, Request};
use crate::{entropy, exec, serve, tracer};

/// Modules to load, one path a line, in an order in which each finds what it
/// needs; written by the builder of the initramfs.
pub const MODULE_LIST: &str = "/etc/op-dbus-vm/modules";

/// The program that early boot runs.
pub const ACTIVATOR: &str = "/usr/libexec/op-dbus/op-dbus-activate";

/// Kernel command line key: stop the activator at this [`Moment`].
pub const CUT_KEY: &str = "vm.cut=";

/// Kernel command line key: hold the activator at this [`Moment`] until the host
/// lets it go on.
pub const HOLD_KEY: &str = "vm.hold=";

/// Kernel command line word: do not run the activator (preparing a disk).
pub const NO_ACTIVATION: &str = "vm.activate=no";

/// Kernel command line word: this machine becomes a template of many boots. It
/// says [`Event::Waiting`] before it loads the driver of its disks, so that a
/// copy of its memory holds nothing of any disk.
pub const TEMPLATE: &str = "vm.template";

/// The module that finds the disks.
const DISK_DRIVER: &str = "virtio_blk";

/// Kernel command line key: the disk with releases, mounted read-only on
/// [`RELEASES`].
pub const RELEASES_KEY: &str = "vm.releases=";

/// Where releases are found in every guest.
pub const RELEASES: &str = "/media/releases";

/// How long a device may take to appear after its module is loaded.
const DEVICE_WAIT: Duration = Duration::from_secs(20);

/// Runs the machine. Comes back only when something it can't do without
/// failed; the caller then has nothing left but to switch off.
pub fn run() -> io::Result<()> {
    mount_api_file_systems()?;
    let mut command_line = fs::read_to_string("/proc/cmdline")?;
    let is_template = has(&command_line, TEMPLATE);
    let modules = fs::read_to_string(MODULE_LIST)?;
    let (disks, others): (Vec<_>, Vec<_>) = modules
        .lines()
        .partition(|path| is_template && path.contains(DISK_DRIVER));
    load_modules(&others)?;
    let port = wait_for(|| find_port(Path::new("/sys"), PORT_NAME).ok().flatten())
        .ok_or_else(|| io::Error::other("no virtio-serial port appeared"))?;
    wait_for(|| port.exists().then_some(()))
        .ok_or_else(|| io::Error::other(format!("{} did not appear", port.display())))?;
    let mut channel = Channel::open(&port)?;
    if is_template {
        command_line = format!("{command_line} {}", wait_for_start(&mut channel)?);
        load_modules(&disks)?;
    }
    if let Some(device) = value(&command_line, RELEASES_KEY) {
        mount_releases(device)?;
    }
    if !has(&command_line, NO_ACTIVATION) {
        activate(&mut channel, &command_line)?;
    }
    serve::serve(&mut channel, Manager::Own)
}

/// Says `text` on the console.
pub fn say(text: &str) {
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        // Nobody is left to hear of a failure to speak.
        let _ = log.write_all(format!("<5>op-dbus-vm-guest: {text}\n").as_bytes());
    }
}

fn mount_api_file_systems() -> io::Result<()> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for (kind, target, flags) in [
        ("proc", "/proc", safe),
        ("sysfs", "/sys", safe),
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID),
        ("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV),
        ("tmpfs", "/tmp", MsFlags::MS_NOSUID | MsFlags::MS_NODEV),
    ] {
        fs::create_dir_all(target)?;
        match mount(Some(kind), target, Some(kind), flags, None::<&str>) {
            // The kernel may have mounted /dev itself.
            Ok(()) | Err(nix::errno::Errno::EBUSY) => {}
            Err(error) => {
                return Err(io::Error::other(format!(
                    "mount {kind} on {target}: {error}"
                )));
            }
        }
    }
    Ok(())
}

fn value<'a>(command_line: &'a str, key: &str) -> Option<&'a str> {
    command_line
        .split_whitespace()
        .find_map(|word| word.strip_prefix(key))
}

fn has(command_line: &str, wanted: &str) -> bool {
    command_line.split_whitespace().any(|word| word == wanted)
}

fn mount_releases(device: &str) -> io::Result<()> {
    let path = Path::new(device);
    wait_for(|| path.exists().then_some(()))
        .ok_or_else(|| io::Error::other(format!("{device} did not appear")))?;
    mount(
        Some(path),
        RELEASES,
        Some("ext4"),
        MsFlags::MS_RDONLY,
        None::<&str>,
    )
    .map_err(|error| io::Error::other(format!("mount {device} on {RELEASES}: {error}")))
}

/// The memory of this machine is copied here. Whatever comes after happens in
/// each copy anew: its boot id is drawn when it is first asked for. Comes back
/// with the copy's options.
fn wait_for_start(channel: &mut Channel) -> io::Result<String> {
    channel.send(&Event::Waiting)?;
    let start = match channel.receive()? {
        Some(Ok(Request::Start(start))) => start,
        other => {
            return Err(io::Error::other(format!(
                "waited for a start, got {other:?}"
            )));
        }
    };
    entropy::reseed()?;
    let now = rustix::time::Timespec {
        tv_sec: start.clock,
        tv_nsec: 0,
    };
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, now)?;
    Ok(start.options)
}

fn load_modules(paths: &[&str]) -> io::Result<()> {
    for path in paths {
        let file = File::open(path)
            .map_err(|error| io::Error::new(error.kind(), format!("open {path}: {error}")))?;
        match rustix::system::finit_module(file, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            // Optimised variants refuse a CPU that lacks what they use.
            Err(rustix::io::Errno::NODEV) => say(&format!("{path}: not for this machine")),
            Err(error) => return Err(io::Error::other(format!("load {path}: {error}"))),
        }
    }
    Ok(())
}

/// Polls, because nothing tells of new devices here without udev; the steps
/// are far below what a boot takes.
fn wait_for<T>(probe: impl Fn() -> Option<T>) -> Option<T> {
    let end = Instant::now() + DEVICE_WAIT;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn activate(channel: &mut Channel, command_line: &str) -> io::Result<()> {
    let argv = [ACTIVATOR.to_owned()];
    let held = value(command_line, HOLD_KEY);
    let exit = match held.or(value(command_line, CUT_KEY)) {
        None => exec::run(&argv)?,
        Some(text) => {
            let moment: Moment = text.parse().map_err(io::Error::other)?;
            match tracer::run_until(&argv, &moment)? {
                tracer::Outcome::Paused(stop) => {
                    channel.send(&stop.event(&moment))?;
                    if held.is_none() {
                        tracer::freeze();
                    }
                    match channel.receive()? {
                        Some(Ok(Request::GoOn)) => stop.go_on()?,
                        other => {
                            return Err(io::Error::other(format!("held, and told {other:?}")));
                        }
                    }
                }
                tracer::Outcome::Missed(exit) => {
                    channel.send(&Event::Missed(exit.clone()))?;
                    exit
                }
            }
        }
    };
    report(&exit);
    Ok(())
}

fn report(exit: &Exit) {
    for line in exit.stderr.lines() {
        say(line);
    }
    say(&format!("activator ended with {}", exit.code));
}
