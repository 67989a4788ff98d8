//! Extended attributes, as far as they are content.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::refuse;

/// Longest value of an attribute, and longest list of names (`xattr(7)`).
const XATTR_MAX: usize = 64 << 10;
/// Attributes of one entry, in bytes. Btrfs allows far more; nobody has them.
const ENTRY_MAX: usize = 1 << 20;

/// A name and its value.
pub type Attribute = (CString, Vec<u8>);

/// Buffers to read attributes with.
#[derive(Debug)]
pub struct Attributes {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Attributes {
    fn default() -> Self {
        Self::new()
    }
}

impl Attributes {
    /// Empty ones.
    pub fn new() -> Self {
        Self {
            names: vec![0; XATTR_MAX],
            value: vec![0; XATTR_MAX],
        }
    }

    /// Those of an open file, in the order of their names.
    pub fn of(&mut self, fd: impl AsFd) -> io::Result<Vec<Attribute>> {
        self.collect(
            |list| rustix::fs::flistxattr(&fd, list),
            |name, value| rustix::fs::fgetxattr(&fd, name, value),
        )
    }

    /// Those of an entry that can't be opened for reading: a link, a FIFO, a device.
    pub fn at(&mut self, parent: impl AsFd, name: &[u8]) -> io::Result<Vec<Attribute>> {
        // listxattrat(2) would do, since Linux 6.13.
        let path = Path::new("/proc/self/fd")
            .join(parent.as_fd().as_raw_fd().to_string())
            .join(OsStr::from_bytes(name));
        self.collect(
            |list| rustix::fs::llistxattr(&path, list),
            |name, value| rustix::fs::lgetxattr(&path, name, value),
        )
    }

    fn collect(
        &mut self,
        list: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
        get: impl Fn(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
    ) -> io::Result<Vec<Attribute>> {
        let length = list(&mut self.names)?;
        let names = self.names.get(..length).unwrap_or_default();
        let mut attributes = Vec::new();
        let mut total = 0_usize;
        for name in names.split_inclusive(|&byte| byte == 0) {
            let name = CStr::from_bytes_with_nul(name).map_err(refuse)?;
            if !counts(name) {
                continue;
            }
            let length = get(name, &mut self.value)?;
            let value = self.value.get(..length).unwrap_or_default();
            total = total
                .saturating_add(name.count_bytes())
                .saturating_add(length);
            if total > ENTRY_MAX {
                let why = format!("has more than {ENTRY_MAX} bytes of extended attributes");
                return Err(refuse(why));
            }
            attributes.push((name.to_owned(), value.to_vec()));
        }
        attributes.sort_unstable();
        Ok(attributes)
    }
}

/// Whether an attribute belongs to the content rather than to the device.
pub(super) fn counts(name: &CStr) -> bool {
    let name = name.to_bytes();
    !(name.starts_with(b"btrfs.")
        || name.starts_with(b"security.SMACK64")
        || matches!(
            name,
            b"security.selinux" | b"security.evm" | b"security.ima"
        ))
}
