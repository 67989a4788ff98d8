//! What a machine may have beyond processor, memory and disks.

use std::path::{Path, PathBuf};

/// Bytes of the memory that outlives a restart. The kernel keeps a crash in
/// records of 8 KiB, the last 10 KiB of its messages among them.
pub const KEPT_BYTES: u64 = 1 << 20;

/// Where a guest on the network finds somebody who answers: HTTP, at port 80.
pub const UPLINK: &str = "10.0.2.100";

/// Seconds after which the watchdog of a guest bites that does not feed it.
pub const WATCHDOG_SECONDS: u32 = 2;

/// A machine's further devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// A network card, and beyond it [`UPLINK`] and nothing else.
    pub network: bool,
    /// An i6300ESB watchdog. Such a machine restarts by itself and remembers who
    /// restarted it, so its QEMU goes on over its boots.
    pub watchdog: bool,
    /// An ACPI error record serialization table (ERST), where Linux keeps what it
    /// said before a crash; its memory is this file.
    pub kept: Option<PathBuf>,
}

impl Devices {
    /// QEMU's words for them.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |option: &str, value: String| {
            words.push(option.to_owned());
            words.push(value);
        };
        if self.network {
            // Restricted: the guest reaches neither host nor world, so that no test
            // depends on either. libslirp starts the command for each connection.
            let answer = r"printf 'HTTP/1.0 204 No Content\r\n\r\n'";
            add(
                "-netdev",
                format!("user,id=net0,restrict=on,ipv6=off,guestfwd=tcp:{UPLINK}:80-cmd:{answer}"),
            );
            add("-device", "virtio-net-pci,netdev=net0,romfile=".into());
        }
        if self.watchdog {
            add("-device", "i6300esb".into());
        }
        if let Some(path) = &self.kept {
            add(
                "-object",
                format!(
                    "memory-backend-file,id=kept,share=on,size={KEPT_BYTES},mem-path={}",
                    escaped(path)
                ),
            );
            add("-device", "acpi-erst,memdev=kept".into());
        }
        words
    }

    /// What the guest's kernel command line has for them.
    pub fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        if self.network {
            options.push("systemd.wants=systemd-networkd.service".to_owned());
        }
        if self.watchdog {
            options.push(format!("i6300esb.heartbeat={WATCHDOG_SECONDS}"));
        }
        options
    }
}

/// A comma in a path is doubled, as QEMU's option syntax wants it.
pub(crate) fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_by_default() {
        assert!(Devices::default().words().is_empty());
        assert!(Devices::default().options().is_empty());
    }

    #[test]
    fn each_is_one_device() {
        let all = Devices {
            network: true,
            watchdog: true,
            kept: Some("/a,b".into()),
        };
        let words = all.words();
        let devices = words.iter().filter(|word| *word == "-device").count();
        assert_eq!(devices, 3);
        assert!(words.iter().any(|word| word.ends_with("mem-path=/a,,b")));
        assert_eq!(all.options().len(), 2);
    }
}
