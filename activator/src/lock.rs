//! The store's lock: whoever changes the record, or what it names, holds it.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};

use crate::files;
use crate::layout::Layout;

/// How often a held lock is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// The lock, held until it is dropped. The kernel gives it back if the program dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another program holds it.
    #[error(
        "{}: held by another run; wait for it to end, or see who it is with: fuser -v {}",
        path.display(),
        path.display()
    )]
    Held {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file can't be opened or locked.
    #[error("{}: open the store's lock: {source}; is the store mounted there?", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock, waiting at most `patience` for whoever holds it.
    pub fn acquire(layout: &Layout, patience: Duration) -> Result<Self, LockError> {
        let path = layout.lock();
        let give_up = Instant::now() + patience;
        let file = match Self::open(&path) {
            Ok(file) => file,
            Err(source) => return Err(LockError::Io { path, source }),
        };
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < give_up => {
                    thread::sleep(POLL);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held { path }),
                Err(rustix::io::Errno::INTR) => {}
                Err(why) => {
                    return Err(LockError::Io {
                        path,
                        source: why.into(),
                    });
                }
            }
        }
    }

    /// An existing lock file is opened for reading: that works on a read-only
    /// store and on a full one.
    fn open(path: &std::path::Path) -> io::Result<File> {
        match File::options().read(true).custom_flags(NOFOLLOW).open(path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(NOFOLLOW)
                .open(path),
            other => other,
        }
    }
}

const NOFOLLOW: i32 = files::open_flags(OFlags::NOFOLLOW);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_in_bounded_time() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new("/run", "/").with_store(dir.path());
        let held = Lock::acquire(&layout, Duration::ZERO).unwrap();
        let began = Instant::now();
        let second = Lock::acquire(&layout, Duration::from_millis(60));
        assert!(matches!(second, Err(LockError::Held { .. })));
        assert!(began.elapsed() < Duration::from_secs(2));
        drop(held);
        assert!(Lock::acquire(&layout, Duration::ZERO).is_ok());
    }

    #[test]
    fn no_store_is_an_error_that_names_it() {
        let layout = Layout::new("/run", "/").with_store("/nonexistent");
        let error = Lock::acquire(&layout, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/lock"), "{error}");
    }
}
