//! The boot record's copies as files in `<store>/boot/`.
//!
//! Each file is one preallocated 4 KiB block without copy-on-write, rewritten in
//! place: that works on a disk that is full of data too (measured). On one that is
//! full of metadata it does not, and a part of the [`Reserve`] is given up for it. A
//! read goes past the page cache: after a failed write the cache may hold what the
//! medium does not.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use op_dbus_bootstate::codec::{BLOCK, Block};
use op_dbus_bootstate::store::{Copy, Storage};
use rustix::fs::{Advice, FallocateFlags, OFlags};
use rustix::io::Errno;

use crate::files::open_flags;
use crate::layout::Layout;
use crate::reserve::Reserve;

/// What a copy could not be read or written for.
#[derive(Debug, thiserror::Error)]
#[error("{}: {operation}: {source}", path.display())]
pub struct RecordError {
    /// The file.
    pub path: PathBuf,
    /// What was being done.
    pub operation: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

impl RecordError {
    fn of(path: &Path, operation: &'static str, source: impl Into<io::Error>) -> Self {
        Self {
            path: path.to_owned(),
            operation,
            source: source.into(),
        }
    }
}

/// The three files of one store.
#[derive(Debug, Clone)]
pub struct Records {
    dir: PathBuf,
    reserve: Reserve,
}

/// A block at an address that direct I/O accepts: it must be aligned to the
/// device's logical block size, which is at most a page.
#[repr(C, align(4096))]
struct Aligned([u8; BLOCK]);

impl Records {
    /// The record files of a store. Does no I/O.
    pub fn new(layout: &Layout) -> Self {
        Self {
            dir: layout.boot_dir(),
            reserve: Reserve::new(layout),
        }
    }

    fn path(&self, copy: Copy) -> PathBuf {
        self.dir.join(copy.file_name())
    }

    /// Creates the files that do not exist yet, preallocated, without
    /// copy-on-write and zeroed, and commits them. Existing ones stay as they are.
    pub fn create(&self) -> Result<(), RecordError> {
        for copy in Copy::ALL {
            let path = self.path(copy);
            match create_file(&path) {
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                Err(why) => return Err(RecordError::of(&path, "create", why)),
            }
        }
        op_dbus_btrfs::sync_filesystem(&self.dir)
            .map_err(|why| RecordError::of(&self.dir, why.operation, why.source))
    }
}

fn create_file(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    prepare_file(&file)?;
    Ok(file)
}

/// Gives an empty file its one block: written, not merely reserved, because
/// rewriting a reserved block would need new metadata.
fn prepare_file(file: &File) -> io::Result<()> {
    match op_dbus_btrfs::set_nocow(file) {
        Ok(()) => {}
        // Not Btrfs (a test, or a copy of a store): rewriting in place is the rule there.
        Err(why) if why.kind() == io::ErrorKind::Unsupported => {}
        Err(why) if why.raw_os_error() == Some(Errno::NOTTY.raw_os_error()) => {}
        Err(why) => return Err(why),
    }
    let length = u64::try_from(BLOCK).unwrap_or(4096);
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
        Ok(()) | Err(Errno::OPNOTSUPP) => {}
        Err(why) => return Err(why.into()),
    }
    file.write_all_at(&[0; BLOCK], 0)?;
    file.sync_all()
}

/// Reads at most one block and one byte more, so that a file of another size shows.
fn read_past_cache(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let open = |extra: OFlags| {
        File::options()
            .read(true)
            .custom_flags(open_flags(OFlags::NOFOLLOW | extra))
            .open(path)
    };
    let direct = match open(OFlags::DIRECT) {
        Ok(file) => Some(file),
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) if why.kind() == io::ErrorKind::InvalidInput => None,
        Err(why) => return Err(why),
    };
    if let Some(file) = direct {
        if file.metadata()?.len() == u64::try_from(BLOCK).unwrap_or(4096) {
            let mut block = Aligned([0; BLOCK]);
            match file.read_at(&mut block.0, 0) {
                Ok(BLOCK) => return Ok(Some(block.0.to_vec())),
                Ok(_) => {}
                // A device with larger blocks than ours, or no direct I/O after all.
                Err(why) if why.kind() == io::ErrorKind::InvalidInput => {}
                Err(why) => return Err(why),
            }
        }
    }
    let file = open(OFlags::empty())?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    let mut bytes = vec![0; BLOCK + 1];
    let mut length = 0;
    while let Some(room) = bytes.get_mut(length..).filter(|room| !room.is_empty()) {
        let at = u64::try_from(length).unwrap_or(u64::MAX);
        match file.read_at(room, at) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    bytes.truncate(length);
    Ok(Some(bytes))
}

fn write_in_place(path: &Path, block: &Block) -> io::Result<()> {
    let length = u64::try_from(BLOCK).unwrap_or(4096);
    let file = match File::options()
        .read(true)
        .write(true)
        .custom_flags(open_flags(OFlags::NOFOLLOW))
        .open(path)
    {
        Err(why) if why.kind() == io::ErrorKind::NotFound => create_file(path)?,
        other => other?,
    };
    if file.metadata()?.len() != length {
        // A copy of another size, from a crash while it was made or from other
        // hands: begun anew, as only an empty file can lose copy-on-write.
        file.set_len(0)?;
        prepare_file(&file)?;
    }
    file.write_all_at(block, 0)?;
    // Not fsync: that would leave the change in Btrfs' log tree, which a
    // read-only device can't replay.
    op_dbus_btrfs::sync_filesystem_fd(file.as_fd())
}

impl Storage for Records {
    type Error = RecordError;

    fn read(&mut self, copy: Copy) -> Result<Option<Vec<u8>>, RecordError> {
        let path = self.path(copy);
        read_past_cache(&path).map_err(|why| RecordError::of(&path, "read", why))
    }

    fn write(&mut self, copy: Copy, block: &Block) -> Result<(), RecordError> {
        let path = self.path(copy);
        self.reserve
            .spend(|| write_in_place(&path, block))
            .map_err(|why| RecordError::of(&path, "write", why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::Record;
    use op_dbus_bootstate::store::{Verdict, Writer};

    fn records() -> (tempfile::TempDir, Records) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new("/run", "/").with_store(dir.path());
        std::fs::create_dir(layout.boot_dir()).unwrap();
        (dir, Records::new(&layout))
    }

    #[test]
    fn created_files_are_blank_blocks_and_are_kept() {
        let (_dir, mut records) = records();
        assert_eq!(records.read(Copy::Zero).unwrap(), None);
        records.create().unwrap();
        assert_eq!(records.read(Copy::Zero).unwrap(), Some(vec![0; BLOCK]));
        records.write(Copy::One, &[7; BLOCK]).unwrap();
        records.create().unwrap();
        assert_eq!(records.read(Copy::One).unwrap(), Some(vec![7; BLOCK]));
    }

    #[test]
    fn a_record_survives_the_round_trip() {
        let (_dir, mut records) = records();
        records.create().unwrap();
        let mut writer = Writer::new(records.clone());
        assert_eq!(writer.load().verdict(), Verdict::Lost);
        let written = writer.commit(None, Record::default()).unwrap();
        assert_eq!(written.sequence, 1);
        assert_eq!(writer.load().verdict().record(), Some(&written));
        assert_eq!(
            records.read(Copy::Zero).unwrap(),
            records.read(Copy::One).unwrap()
        );
    }

    #[test]
    fn other_sizes_show_and_are_mended_by_a_write() {
        let (dir, mut records) = records();
        for size in [0, 1, BLOCK - 1, BLOCK + 1, 3 * BLOCK] {
            std::fs::write(dir.path().join("boot/record.0"), vec![1; size]).unwrap();
            let seen = records.read(Copy::Zero).unwrap().unwrap().len();
            assert_eq!(seen, size.min(BLOCK + 1));
            records.write(Copy::Zero, &[2; BLOCK]).unwrap();
            assert_eq!(records.read(Copy::Zero).unwrap(), Some(vec![2; BLOCK]));
        }
    }

    #[test]
    fn a_planted_symlink_is_not_followed() {
        let (dir, mut records) = records();
        let target = dir.path().join("target");
        std::fs::write(&target, [0; BLOCK]).unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("boot/record.0")).unwrap();
        assert!(records.read(Copy::Zero).is_err());
        assert!(records.write(Copy::Zero, &[1; BLOCK]).is_err());
        assert_eq!(std::fs::read(&target).unwrap(), [0; BLOCK]);
    }
}
