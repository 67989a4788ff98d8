//! Every mount namespace there is, as far as `/proc` shows them.
//!
//! `mountinfo` shows the mounts below the root of the process it is read of: one
//! with another root sees others of the same namespace. So both count when
//! telling apart what has been read, and each thread is asked, for a thread may
//! have a namespace of its own. A namespace that nobody is in, kept by a mount of
//! it (as snapd does), is entered.
//!
//! What no process and no mount shows is not seen: a namespace held by nothing
//! but an open descriptor, and processes of other PID namespaces than the ones
//! below this one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};

use super::mounts::{Place, Uses};
use crate::error::{Exit, Failure, Result};

/// Longest `mountinfo` that is read, in bytes: several times what the kernel's
/// limit of 100,000 mounts a namespace comes to.
const MOUNTINFO_MAX: u64 = 128 << 20;
/// Namespaces looked into; a host with more is not one of ours.
const NAMESPACES_MAX: usize = 10_000;

/// What a `mountinfo` depends on: the namespace, and the root of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct View {
    namespace: u64,
    mount: u64,
    device: (u32, u32),
    inode: u64,
}

/// How often all is looked at anew when something goes away under the look.
const ATTEMPTS: u32 = 5;

/// Looks at every mount of every mount namespace for what uses the store.
pub(super) fn scan(store: &Path) -> Result<Uses> {
    let mut result = scan_once(store);
    for _ in 1..ATTEMPTS {
        if result.is_ok() {
            break;
        }
        result = scan_once(store);
    }
    result
}

fn scan_once(store: &Path) -> Result<Uses> {
    let proc = Path::new("/proc");
    let fail = |why: io::Error| {
        Failure::new(
            Exit::Failure,
            "/proc",
            format_args!("what is mounted can't be told: {why}"),
            "nothing was deleted: is /proc mounted?",
        )
    };
    let place = find(store).map_err(fail)?;
    let mut scan = Scan {
        place,
        uses: Uses::default(),
        seen: BTreeSet::new(),
    };
    // A process that starts another one and ends may be missed by one pass: the
    // new one's number may lie behind. By a second one it is found.
    for _ in 0..2 {
        scan.processes(proc).map_err(fail)?;
    }
    scan.without_processes(proc)?;
    Ok(scan.uses)
}

/// Where the store is.
fn find(store: &Path) -> io::Result<Place> {
    let store = store.canonicalize()?;
    let stat = rustix::fs::statx(CWD, &store, AtFlags::empty(), StatxFlags::MNT_ID)?;
    let own = read(&Path::new("/proc/thread-self").join("mountinfo"))?;
    Place::find(&own, stat.stx_mnt_id, &store)
        .ok_or_else(|| io::Error::other("the store's own mount is not in mountinfo"))
}

struct Scan {
    place: Place,
    uses: Uses,
    seen: BTreeSet<View>,
}

impl Scan {
    fn processes(&mut self, proc: &Path) -> io::Result<()> {
        for process in numbered(proc)? {
            let tasks = match numbered(&process.join("task")) {
                Ok(tasks) => tasks,
                Err(why) if is_gone(&why) => continue,
                Err(why) => return Err(why),
            };
            for task in tasks {
                match self.task(&task) {
                    Err(why) if !is_gone(&why) => return Err(why),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn task(&mut self, task: &Path) -> io::Result<()> {
        let view = match view(task) {
            Ok(view) => Some(view),
            // A process with a capability this one lacks (ptrace(2), "access mode
            // checking"). Its mounts may be read all the same, only more than once.
            Err(why) if why.kind() == io::ErrorKind::PermissionDenied => None,
            Err(why) => return Err(why),
        };
        if view.is_some_and(|view| !self.seen.insert(view)) {
            return Ok(());
        }
        if self.seen.len() > NAMESPACES_MAX {
            return Err(io::Error::other("there are too many mount namespaces"));
        }
        let mountinfo = read(&task.join("mountinfo")).inspect_err(|_| {
            // It ended, and says nothing of the others there.
            view.map(|view| self.seen.remove(&view));
        })?;
        let root = task.join("root");
        let device = |path: &Path| leads_to(&root, path);
        self.uses.add(&mountinfo, &self.place, &root, device);
        Ok(())
    }

    /// Namespaces that only a mount keeps. One may keep others.
    fn without_processes(&mut self, proc: &Path) -> Result<()> {
        let mut entered: BTreeSet<u64> = self.seen.iter().map(|view| view.namespace).collect();
        let next = |uses: &Uses, entered: &BTreeSet<u64>| {
            let mut kept = uses.namespaces.iter();
            let unseen = kept.find(|(inode, _)| !entered.contains(inode));
            unseen.map(|(inode, ways)| (*inode, ways.clone()))
        };
        while let Some((inode, ways)) = next(&self.uses, &entered) {
            let fail = |path: &Path, why: io::Error| {
                Failure::new(
                    Exit::Failure,
                    path.display(),
                    format_args!(
                        "what is mounted in this namespace, which no process is in, can't be told: {why}"
                    ),
                    "nothing was deleted: unmount it if nobody needs it, and run the command again",
                )
            };
            let mut result = Err(fail(proc, io::ErrorKind::NotFound.into()));
            for way in &ways {
                result = enter(proc, way, inode).map_err(|why| fail(way, why));
                if result.is_ok() {
                    break;
                }
            }
            let mountinfo = result?;
            // Paths found in it lead nowhere from here, so they are refused above.
            let nowhere = Path::new("/nonexistent");
            self.uses.add(&mountinfo, &self.place, nowhere, |_| None);
            entered.insert(inode);
            if entered.len() > NAMESPACES_MAX {
                return Err(fail(proc, io::Error::other("there are too many")));
            }
        }
        Ok(())
    }
}

/// The subvolume a path leads to below a root, by its device number. A relative
/// one began where the mounting process was, and so leads nowhere now.
fn leads_to(root: &Path, path: &Path) -> Option<u64> {
    if path.is_relative() {
        return None;
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = rustix::fs::openat2(root, path, flags, Mode::empty(), within).ok()?;
    Some(rustix::fs::fstat(found).ok()?.st_dev)
}

/// What tells the `mountinfo` of a thread from those of others.
fn view(task: &Path) -> io::Result<View> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let root = rustix::fs::statx(CWD, task.join("root"), AtFlags::empty(), wanted)?;
    Ok(View {
        namespace: fs::metadata(task.join("ns/mnt"))?.ino(),
        mount: root.stx_mnt_id,
        device: (root.stx_dev_major, root.stx_dev_minor),
        inode: root.stx_ino,
    })
}

/// Directories with a number for a name.
fn numbered(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_number = name
            .to_str()
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if is_number {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A process that ended meanwhile has no entry; one that is ending no mounts
/// (`EINVAL`).
fn is_gone(why: &io::Error) -> bool {
    let gone = [
        rustix::io::Errno::NOENT,
        rustix::io::Errno::SRCH,
        rustix::io::Errno::INVAL,
    ];
    gone.iter()
        .any(|errno| why.raw_os_error() == Some(errno.raw_os_error()))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    bounded(File::open(path)?)
}

fn bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MOUNTINFO_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOUNTINFO_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Reads the `mountinfo` of a namespace by entering it, in a thread of its own
/// that ends there.
fn enter(proc: &Path, path: &Path, inode: u64) -> io::Result<Vec<u8>> {
    let namespace = File::open(path)?;
    if namespace.metadata()?.ino() != inode {
        return Err(io::Error::other("something else is mounted over it"));
    }
    // The namespace's own /proc may show other processes, or not be there.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc: OwnedFd = rustix::fs::open(proc, flags, Mode::empty())?;
    let inside = move || -> io::Result<Vec<u8>> {
        // Root and working directory are shared with the other threads else,
        // and the kernel refuses (setns(2)).
        nix::sched::unshare(CloneFlags::CLONE_FS)?;
        nix::sched::setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let own = rustix::fs::openat(&proc, "thread-self/mountinfo", flags, Mode::empty())?;
        bounded(File::from(own))
    };
    std::thread::spawn(inside)
        .join()
        .map_err(|_| io::Error::other("the thread that looked ended early"))?
}
