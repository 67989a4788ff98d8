//! Finding the store's device, with or without udev, in bounded time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use op_dbus_bootstate::Uuid;
use op_dbus_btrfs::Superblock;

use crate::config::Device;
use crate::files;

/// How often is looked again.
const POLL: Duration = Duration::from_millis(50);
/// Block devices looked at in one round; more are a sign of something else.
const MAX_DEVICES: usize = 4096;
/// Devices that hold no store, and may take seconds to say so.
const SKIPPED: [&str; 5] = ["fd", "sr", "ram", "zram", "nbd"];
/// Where a superblock ends, in sectors of 512 bytes.
const MIN_SECTORS: u64 = (64 + 4) * 2;

/// Where device nodes and devices are listed.
#[derive(Debug, Clone)]
pub struct Devices {
    /// `/dev`
    pub dev: PathBuf,
    /// `/sys`
    pub sys: PathBuf,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            dev: PathBuf::from("/dev"),
            sys: PathBuf::from("/sys"),
        }
    }
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// It did not appear.
    #[error(
        "the store's device {device} did not appear within {} s; check [store] device against: blkid",
        waited.as_secs()
    )]
    Missing {
        /// As configured.
        device: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It is there and holds something else.
    #[error("the store's device {device} holds no Btrfs file system; correct [store] device")]
    NotBtrfs {
        /// As configured.
        device: String,
    },
    /// It is there and can't be read.
    #[error("the store's device {device} can't be read: {why}")]
    Unreadable {
        /// As configured.
        device: String,
        /// What went wrong.
        why: String,
    },
}

/// One look at the system.
enum Look {
    Found(PathBuf),
    /// Some devices of the file system are there, not all.
    Incomplete(PathBuf),
    NotBtrfs,
    Unreadable(String),
    Missing,
}

impl Devices {
    /// Finds the device, waiting at most `patience` for it to appear.
    pub fn find(&self, device: &Device, patience: Duration) -> Result<PathBuf, DeviceError> {
        let give_up = Instant::now() + patience;
        loop {
            let look = self.look(device);
            if let Look::Found(path) = look {
                return Ok(path);
            }
            if Instant::now() < give_up {
                thread::sleep(POLL);
                continue;
            }
            let device = device.to_string();
            return match look {
                // Mounting tells best what an incomplete file system lacks.
                Look::Found(path) | Look::Incomplete(path) => Ok(path),
                Look::NotBtrfs => Err(DeviceError::NotBtrfs { device }),
                Look::Unreadable(why) => Err(DeviceError::Unreadable { device, why }),
                Look::Missing => Err(DeviceError::Missing {
                    device,
                    waited: patience,
                }),
            };
        }
    }

    fn look(&self, device: &Device) -> Look {
        match device {
            Device::Path(path) => self.look_at(path),
            Device::Uuid(uuid) => self.look_for(*uuid),
        }
    }

    fn look_at(&self, path: &Path) -> Look {
        match Superblock::read(path) {
            Ok(Some(superblock)) if superblock.devices > 1 => self.look_for(Uuid(superblock.fsid)),
            Ok(Some(_)) => Look::Found(path.to_owned()),
            Ok(None) => Look::NotBtrfs,
            Err(why) if is_absent(&why.source) => Look::Missing,
            Err(why) => Look::Unreadable(why.to_string()),
        }
    }

    fn look_for(&self, uuid: Uuid) -> Look {
        // udev's link is the short way; the superblock says whether it is right.
        let link = self.dev.join("disk/by-uuid").join(uuid.to_string());
        if let Ok(Some(superblock)) = Superblock::read(&link) {
            if superblock.fsid == uuid.0 && superblock.devices == 1 {
                return Look::Found(fs::canonicalize(&link).unwrap_or(link));
            }
        }
        self.scan(uuid)
    }

    /// Reads the superblock of every block device there is.
    fn scan(&self, uuid: Uuid) -> Look {
        let mut members = Vec::new();
        let mut expected = 1;
        for path in self.block_devices() {
            if let Ok(Some(superblock)) = Superblock::read(&path) {
                if superblock.fsid == uuid.0 {
                    expected = superblock.devices;
                    members.push(path);
                }
            }
        }
        if expected > 1 {
            for member in &members {
                if let Err(why) = op_dbus_btrfs::scan_device(member) {
                    log::warn!("{why}");
                }
            }
        }
        let found = u64::try_from(members.len()).unwrap_or(u64::MAX);
        match members.into_iter().next() {
            Some(path) if found >= expected => Look::Found(path),
            Some(path) => Look::Incomplete(path),
            None => Look::Missing,
        }
    }

    fn block_devices(&self) -> Vec<PathBuf> {
        let class = self.sys.join("class/block");
        let Ok(entries) = fs::read_dir(&class) else {
            return Vec::new();
        };
        let mut paths: Vec<PathBuf> = entries
            .take(MAX_DEVICES)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| {
                let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
                !SKIPPED.contains(&kind) && sectors(&class.join(name)) >= MIN_SECTORS
            })
            // The kernel writes "!" for "/" in names such as cciss/c0d0.
            .map(|name| self.dev.join(name.replace('!', "/")))
            .collect();
        // Which of two equal copies is taken must not depend on luck.
        paths.sort();
        paths
    }
}

fn sectors(device: &Path) -> u64 {
    files::read_text(&device.join("size"), 64)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn is_absent(why: &io::Error) -> bool {
    const NO_DEVICE: [i32; 2] = [libc::ENXIO, libc::ENODEV];
    why.kind() == io::ErrorKind::NotFound
        || why
            .raw_os_error()
            .is_some_and(|error| NO_DEVICE.contains(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(fsid: u8, devices: u8) -> Vec<u8> {
        let mut image = vec![0; 72 * 1024];
        let at = 64 * 1024;
        image[at + 0x40..at + 0x48].copy_from_slice(b"_BHRfS_M");
        image[at + 0x20..at + 0x30].copy_from_slice(&[fsid; 16]);
        image[at + 0x88] = devices;
        image
    }

    struct Fake {
        dir: tempfile::TempDir,
        devices: Devices,
    }

    impl Fake {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let devices = Devices {
                dev: dir.path().join("dev"),
                sys: dir.path().join("sys"),
            };
            fs::create_dir_all(&devices.dev).unwrap();
            Self { dir, devices }
        }

        fn add(&self, name: &str, content: &[u8]) {
            fs::write(self.devices.dev.join(name), content).unwrap();
            let class = self.dir.path().join("sys/class/block").join(name);
            fs::create_dir_all(&class).unwrap();
            fs::write(class.join("size"), format!("{}\n", content.len() / 512)).unwrap();
        }

        fn find(&self, device: &Device) -> Result<PathBuf, DeviceError> {
            self.devices.find(device, Duration::ZERO)
        }
    }

    #[test]
    fn a_uuid_is_found_without_udev() {
        let fake = Fake::new();
        fake.add("vda", &[0; 4096]);
        fake.add("vdb1", &superblock(1, 1));
        fake.add("vdb2", &superblock(2, 1));
        let found = fake.find(&Device::Uuid(Uuid([2; 16]))).unwrap();
        assert_eq!(found, fake.devices.dev.join("vdb2"));
        let missing = fake.find(&Device::Uuid(Uuid([3; 16])));
        assert!(matches!(missing, Err(DeviceError::Missing { .. })));
    }

    #[test]
    fn a_link_of_udev_that_is_wrong_is_not_believed() {
        let fake = Fake::new();
        fake.add("vda", &superblock(1, 1));
        fake.add("vdb", &superblock(2, 1));
        let links = fake.devices.dev.join("disk/by-uuid");
        fs::create_dir_all(&links).unwrap();
        let wanted = Uuid([2; 16]);
        std::os::unix::fs::symlink("../../vda", links.join(wanted.to_string())).unwrap();
        let found = fake.find(&Device::Uuid(wanted)).unwrap();
        assert_eq!(found, fake.devices.dev.join("vdb"));
    }

    #[test]
    fn a_path_that_is_something_else_is_told_from_a_missing_one() {
        let fake = Fake::new();
        fake.add("vda", &vec![0; 128 * 1024]);
        let at = |name: &str| Device::Path(fake.devices.dev.join(name));
        assert!(matches!(
            fake.find(&at("vda")),
            Err(DeviceError::NotBtrfs { .. })
        ));
        assert!(matches!(
            fake.find(&at("vdx")),
            Err(DeviceError::Missing { .. })
        ));
    }

    #[test]
    fn waiting_ends() {
        let fake = Fake::new();
        let began = Instant::now();
        let device = Device::Uuid(Uuid([1; 16]));
        assert!(
            fake.devices
                .find(&device, Duration::from_millis(120))
                .is_err()
        );
        assert!(began.elapsed() >= Duration::from_millis(120));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
