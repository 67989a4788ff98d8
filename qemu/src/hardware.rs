//! What a machine is made of, and QEMU's words for it.

use std::path::PathBuf;

use op_dbus_vm_guest::proto::PORT_NAME;
use serde_json::{Value, json};

use crate::devices::{Devices, escaped};

/// The emulation to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU's own emulation: everywhere, slow.
    #[default]
    Tcg,
    /// The kernel's: only where asked for.
    Kvm,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The image.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// Where to log its writes, if they shall be.
    pub log: Option<PathBuf>,
    /// Requests that fail, from power-on.
    pub faults: Vec<Fault>,
}

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Io {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Flushing the disk's cache.
    Flush,
}

/// Requests that fail: a rule of QEMU's blkdebug driver (docs/devel/blkdebug.rst,
/// `BlkdebugInjectErrorOptions` in qapi/block-core.json). Whatever the error, a
/// virtio-blk disk has but one word for it: the guest sees EIO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which kind.
    pub io: Io,
    /// Only those that touch this sector of 512 bytes.
    pub sector: Option<u64>,
    /// The error, as the host's number.
    pub errno: i32,
    /// Only the first of them.
    pub once: bool,
}

/// The block node `name` that passes requests on to the node `image`, but for
/// those that fail.
pub fn failing(name: &str, image: &str, faults: &[Fault]) -> Value {
    let rule = |fault: &Fault| {
        let io = match fault.io {
            Io::Read => "read",
            Io::Write => "write",
            Io::Flush => "flush",
        };
        // Always: not only at an event of an image format.
        let mut rule = json!({
            "event": "none", "iotype": io, "errno": fault.errno, "once": fault.once,
        });
        if let (Some(sector), Some(rule)) = (fault.sector, rule.as_object_mut()) {
            rule.insert("sector".into(), sector.into());
        }
        rule
    };
    let rules: Vec<Value> = faults.iter().map(rule).collect();
    json!({"driver": "blkdebug", "node-name": name, "image": image, "inject-error": rules})
}

/// An image's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Plain bytes.
    Raw,
    /// Copy-on-write over a base.
    Qcow2,
}

/// Where a machine's memory is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Memory {
    /// With the machine, and gone with it.
    #[default]
    Own,
    /// In this file: the machine becomes a template.
    Template(PathBuf),
    /// A private copy of what a template left in this file. The machine waits
    /// for the rest of its state.
    Copy(PathBuf),
}

/// A machine to start.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// Emulation.
    pub accelerator: Accelerator,
    /// Virtual processors.
    pub processors: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Where that is.
    pub memory: Memory,
    /// The kernel's image.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: PathBuf,
    /// Its command line.
    pub command_line: String,
    /// Disks, in the order the guest sees them.
    pub disks: Vec<Disk>,
    /// What else it has.
    pub devices: Devices,
}

/// The machine itself.
pub(crate) fn machine(hardware: &Hardware) -> Vec<String> {
    let (accelerator, processor) = match hardware.accelerator {
        // Without erms and fsrm the kernel clears and copies memory by words, not by
        // bytes. Each store to a page that once held code makes the emulator look
        // for what it translated of it: a third of a boot's time, and at times so
        // many seconds in one place that the kernel reported a soft lockup.
        Accelerator::Tcg => ("tcg,thread=multi", "max,-erms,-fsrm"),
        Accelerator::Kvm => ("kvm", "max"),
    };
    let mut words: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| {
        words.push(option.to_owned());
        words.push(value);
    };
    let in_file = match &hardware.memory {
        Memory::Own => None,
        Memory::Template(path) => Some((path, "on")),
        Memory::Copy(path) => Some((path, "off")),
    };
    match in_file {
        None => add("-machine", "q35,vmport=off".into()),
        Some((path, share)) => {
            add(
                "-object",
                format!(
                    "memory-backend-file,id=ram,size={}M,mem-path={},share={share}",
                    hardware.memory_mib,
                    escaped(path)
                ),
            );
            add("-machine", "q35,vmport=off,memory-backend=ram".into());
        }
    }
    add("-accel", accelerator.into());
    add("-cpu", processor.into());
    add("-smp", hardware.processors.to_string());
    add("-m", hardware.memory_mib.to_string());
    add("-display", "none".into());
    add("-kernel", hardware.kernel.display().to_string());
    add("-initrd", hardware.initrd.display().to_string());
    add("-append", hardware.command_line.clone());
    add("-device", "virtio-serial-pci".into());
    add(
        "-device",
        format!("virtserialport,chardev=channel,name={PORT_NAME}"),
    );
    for (number, disk) in hardware.disks.iter().enumerate() {
        for node in nodes(number, disk) {
            add("-blockdev", node);
        }
        let mut drive = format!("disk{number}");
        if !disk.faults.is_empty() {
            let faulty = format!("faulty{number}");
            let node = failing(&faulty, &drive, &disk.faults).to_string();
            add("-blockdev", node);
            drive = faulty;
        }
        // An error is for the guest to deal with: for a full host disk QEMU would
        // stop it instead.
        let device = format!("virtio-blk-pci,id=blk{number},drive={drive}");
        add("-device", format!("{device},werror=report,rerror=report"));
    }
    words.extend(hardware.devices.words());
    if matches!(hardware.memory, Memory::Copy(_)) {
        words.extend(["-incoming", "defer"].map(String::from));
    }
    // A guest that restarts ends this QEMU: one process, one boot. Only what a
    // watchdog remembers is lost with the process.
    if !hardware.devices.watchdog {
        words.push("-no-reboot".into());
    }
    words.extend(["-nodefaults", "-no-user-config"].map(String::from));
    words
}

/// The block nodes of one disk; the last is called `disk<number>`.
fn nodes(number: usize, disk: &Disk) -> Vec<String> {
    let driver = match disk.format {
        Format::Raw => "raw",
        Format::Qcow2 => "qcow2",
    };
    let read_only = if disk.read_only { "on" } else { "off" };
    let name = if disk.log.is_some() {
        format!("inner{number}")
    } else {
        format!("disk{number}")
    };
    // What a logged disk keeps over a power cut, its log tells: the host need
    // not wait for its own disk.
    let flush = if disk.log.is_some() { "on" } else { "off" };
    let mut nodes = vec![format!(
        "driver={driver},node-name={name},read-only={read_only},discard=ignore,\
         cache.no-flush={flush},file.driver=file,file.filename={},file.locking=off",
        escaped(&disk.path)
    )];
    if let Some(log) = &disk.log {
        nodes.push(format!(
            "driver=blklogwrites,node-name=disk{number},file={name},log-sector-size=512,\
             log.driver=file,log.filename={},log.locking=off,log.cache.no-flush=on",
            escaped(log)
        ));
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_disk_is_two_nodes_and_commas_survive() {
        let disk = Disk {
            path: "/a,b".into(),
            format: Format::Raw,
            read_only: false,
            log: Some("/log".into()),
            faults: Vec::new(),
        };
        let nodes = nodes(0, &disk);
        assert!(nodes[0].contains("node-name=inner0") && nodes[0].contains("/a,,b"));
        assert!(nodes[1].starts_with("driver=blklogwrites,node-name=disk0,file=inner0"));
    }

    #[test]
    fn a_failing_disk_says_which_requests() {
        let fault = Fault {
            io: Io::Write,
            sector: Some(26_624),
            errno: 5,
            once: true,
        };
        let any = Fault {
            io: Io::Flush,
            sector: None,
            ..fault
        };
        let node = failing("faulty0", "disk0", &[fault, any]);
        assert_eq!(node["inject-error"][0]["sector"], 26_624);
        assert_eq!(node["inject-error"][1]["iotype"], "flush");
        assert_eq!(node["inject-error"][1].get("sector"), None);
    }
}
