//! Block devices that hold a Btrfs file system.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::Error;
use crate::{Result, sys};

/// Where the first superblock begins, in bytes (`BTRFS_SUPER_INFO_OFFSET`).
const OFFSET: u64 = 64 * 1024;
const LENGTH: usize = 4096;
const FSID: usize = 0x20;
const MAGIC_AT: usize = 0x40;
const MAGIC: [u8; 8] = *b"_BHRfS_M";
const NUM_DEVICES: usize = 0x88;

/// What finding a store needs from a superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// UUID of the file system, the one `UUID=` names.
    pub fsid: [u8; 16],
    /// Devices the file system spans.
    pub devices: u64,
}

impl Superblock {
    /// Looks for a superblock in the first 4 KiB at its place. `None`: not Btrfs.
    /// Only good for recognising: the kernel checks it when mounting.
    pub fn parse(block: &[u8]) -> Option<Self> {
        let field = |at: usize| block.get(at..);
        if !field(MAGIC_AT)?.starts_with(&MAGIC) {
            return None;
        }
        Some(Self {
            fsid: *field(FSID)?.first_chunk()?,
            devices: u64::from_le_bytes(*field(NUM_DEVICES)?.first_chunk()?),
        })
    }

    /// Reads a device's superblock. `None`: not Btrfs, or too small to be.
    pub fn read(device: &Path) -> Result<Option<Self>> {
        let fail = |why| Error::new("read the superblock", device, why);
        let mut block = [0; LENGTH];
        let file = File::open(device).map_err(fail)?;
        match file.read_exact_at(&mut block, OFFSET) {
            Ok(()) => Ok(Self::parse(&block)),
            Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(why) => Err(fail(why)),
        }
    }
}

/// Makes a device known to the kernel's Btrfs, as mounting a file system of
/// several devices requires where no udev rule does it.
pub fn scan_device(device: &Path) -> Result<()> {
    let control = Path::new("/dev/btrfs-control");
    let file = File::options()
        .read(true)
        .write(true)
        .open(control)
        .map_err(|why| Error::new("open", control, why))?;
    sys::scan_dev(&file, device.as_os_str())
        .map_err(|why| Error::new("scan for Btrfs", device, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_its_magic_and_nothing_else() {
        let mut block = [0; LENGTH];
        assert_eq!(Superblock::parse(&block), None);
        block[MAGIC_AT..MAGIC_AT + 8].copy_from_slice(&MAGIC);
        block[FSID..FSID + 16].copy_from_slice(&[7; 16]);
        block[NUM_DEVICES] = 2;
        let expected = Superblock {
            fsid: [7; 16],
            devices: 2,
        };
        assert_eq!(Superblock::parse(&block), Some(expected));
        for length in 0..NUM_DEVICES + 8 {
            assert_eq!(Superblock::parse(&block[..length]), None);
        }
    }
}
