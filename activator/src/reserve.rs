//! The reserve: space that is held back for a full disk, and given up by who has
//! to write the boot record and can't.
//!
//! It is a few files, `<store>/reserve/<number>`, that hold metadata, in extended
//! attributes: it is metadata that a full Btrfs has no room for when a record is
//! rewritten in place, and files of data did not help there (measured,
//! docs/ARCHITECTURE.md, "Pruning"). Deleting one works all the same: Btrfs keeps a
//! global reserve for that.
//!
//! One at a time, the last first: what a boot takes to count its try is gone, and
//! the bless of that boot may need some as well. `op-dbus-stage prune` makes them
//! anew when there is room.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::Layout;

/// How many parts a reserve has.
pub const PARTS: u8 = 4;

/// The reserve of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    dir: PathBuf,
}

impl Reserve {
    /// That of a store. Does no I/O.
    pub fn new(layout: &Layout) -> Self {
        Self {
            dir: layout.reserve_dir(),
        }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One of its parts.
    pub fn part(&self, number: u8) -> PathBuf {
        // One digit, so that nothing has to be formatted.
        let digit = char::from(b'0'.saturating_add(number.min(9)));
        self.dir.join(digit.encode_utf8(&mut [0; 4]))
    }

    /// Runs an action, and as long as it fails because the disk is full, gives up
    /// a part and runs it again.
    pub fn spend<T>(&self, mut action: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut done = action();
        for number in (0..PARTS).rev() {
            if !matches!(&done, Err(why) if is_full(why)) {
                break;
            }
            if self.give_up(number) {
                done = action();
            }
        }
        done
    }

    /// Deletes a part, and commits: until then its space is not free. Whether there
    /// was one; what needed it tells itself why it failed.
    fn give_up(&self, number: u8) -> bool {
        fs::remove_file(self.part(number)).is_ok() && {
            let _ = op_dbus_btrfs::sync_filesystem(&self.dir);
            true
        }
    }
}

/// Whether it is space that is missing.
pub fn is_full(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve() -> (tempfile::TempDir, Reserve) {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(&Layout::new("/run", "/").with_store(dir.path()));
        fs::create_dir(reserve.dir()).unwrap();
        for number in 0..PARTS {
            fs::write(reserve.part(number), "").unwrap();
        }
        (dir, reserve)
    }

    fn left(reserve: &Reserve) -> usize {
        (0..PARTS)
            .filter(|&number| reserve.part(number).exists())
            .count()
    }

    /// An action that the disk is too full for, so many times.
    fn full(mut times: usize) -> impl FnMut() -> io::Result<usize> {
        move || match times.checked_sub(1) {
            None => Ok(7),
            Some(left) => {
                times = left;
                Err(io::ErrorKind::StorageFull.into())
            }
        }
    }

    #[test]
    fn as_much_is_given_up_as_is_needed() {
        let (_dir, reserve) = reserve();
        assert_eq!(reserve.spend(full(0)).unwrap(), 7);
        assert_eq!(left(&reserve), 4);
        assert_eq!(reserve.spend(full(1)).unwrap(), 7);
        assert_eq!(left(&reserve), 3);
        assert!(reserve.part(0).exists() && !reserve.part(3).exists());
        // A part that is gone already helps nobody.
        assert_eq!(reserve.spend(full(2)).unwrap(), 7);
        assert_eq!(left(&reserve), 1);
        assert!(reserve.spend(full(9)).is_err());
        assert_eq!(left(&reserve), 0);
        assert_eq!(reserve.spend(full(0)).unwrap(), 7);
    }

    #[test]
    fn other_failures_cost_nothing() {
        let (_dir, reserve) = reserve();
        let failed = reserve.spend(|| Err::<(), _>(io::ErrorKind::ReadOnlyFilesystem.into()));
        assert!(failed.is_err());
        assert_eq!(left(&reserve), 4);
        // Without a reserve, the failure is what it was.
        let none = Reserve::new(&Layout::new("/nonexistent", "/"));
        assert!(is_full(&none.spend(full(9)).unwrap_err()));
    }
}
