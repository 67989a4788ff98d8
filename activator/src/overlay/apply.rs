//! Carrying out a plan on a copied overlay, before that has its name: nobody
//! uses it yet, and a power cut leaves nothing of it.
//!
//! An entry is carried out where what it was made for is still there, and all
//! else stays as the user had it. None of it is ever an error of the boot.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use op_dbus_bootstate::{Digest, Version};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};

use super::beneath;
use super::entry::{self, is_whiteout, look};
use super::plan::{self, Action, Entry, Plan};
use super::report::PlanReport;
use crate::layout::Layout;

/// Bytes of content that are read for comparing in one boot.
const BUDGET: u64 = 64 * 1024 * 1024;
/// On a file that was put beside: the digest it had then.
const OFFERED: &str = "trusted.op-dbus.offered";
/// Names tried beside a path before it is left alone.
const NAMES_MAX: u32 = 100;

/// The plan for a version, if there is one.
fn read(layout: &Layout, version: &Version) -> Result<Option<Plan>, String> {
    let dir = match op_dbus_btrfs::open_dir(&layout.plans_dir()) {
        Ok(dir) => dir,
        Err(why) if why.is_not_found() => return Ok(None),
        Err(why) => return Err(why.to_string()),
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match beneath::open(dir, version.as_str().as_bytes(), flags) {
        Ok(file) => File::from(file),
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(format!("open: {why}")),
    };
    let limit = u64::try_from(plan::MAX_LEN).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|why| format!("read: {why}"))?;
    Plan::decode(&bytes)
        .map(Some)
        .map_err(|why| why.to_string())
}

/// Carries out the plan for a version on the upper layer of an overlay that was
/// just copied from that over the content `over`. `None`: there is none.
pub(super) fn apply(
    layout: &Layout,
    version: &Version,
    onto: &Digest,
    over: &Digest,
    upper: &Path,
) -> Option<PlanReport> {
    let plan = match read(layout, version) {
        Ok(plan) => plan?,
        Err(why) => return Some(PlanReport::none_of_it(&why)),
    };
    if (plan.onto, plan.over) != (*onto, *over) {
        return Some(PlanReport::none_of_it("made for other versions"));
    }
    let layers = Layers::open(upper, &layout.deployment(version));
    Some(match layers {
        Ok(layers) => carry_out(&plan, &layers),
        Err(why) => PlanReport::none_of_it(&why.to_string()),
    })
}

/// The two layers of the overlay.
struct Layers {
    upper: OwnedFd,
    lower: OwnedFd,
}

impl Layers {
    fn open(upper: &Path, lower: &Path) -> io::Result<Self> {
        let open = |path| op_dbus_btrfs::open_dir(path).map_err(|why| why.source);
        Ok(Self {
            upper: open(upper)?,
            lower: open(lower)?,
        })
    }

    fn upper(&self) -> BorrowedFd<'_> {
        self.upper.as_fd()
    }

    fn lower(&self) -> BorrowedFd<'_> {
        self.lower.as_fd()
    }

    /// A name beside a path that neither layer has anything at, or where what the
    /// upper one has could be cleared away.
    fn free(
        &self,
        path: &[u8],
        suffix: &str,
        mut clear: impl FnMut(&[u8]) -> io::Result<bool>,
    ) -> io::Result<Vec<u8>> {
        for number in 0..NAMES_MAX {
            let mut name = [path, suffix.as_bytes()].concat();
            if number > 0 {
                name.extend(format!("-{number}").bytes());
            }
            if look(self.lower(), &name)?.is_some() {
                continue;
            }
            if look(self.upper(), &name)?.is_none() || clear(&name)? {
                return Ok(name);
            }
        }
        Err(io::Error::other("too many names beside it are taken"))
    }
}

fn carry_out(plan: &Plan, layers: &Layers) -> PlanReport {
    let mut report = PlanReport::default();
    let mut budget = BUDGET;
    for entry in &plan.entries {
        match carry_out_one(entry, layers, &mut budget) {
            Ok(()) => report.applied = report.applied.saturating_add(1),
            Err(why) => report.keep(&entry.path, &why.to_string()),
        }
    }
    report
}

fn carry_out_one(entry: &Entry, layers: &Layers, budget: &mut u64) -> io::Result<()> {
    let path = entry.path.as_slice();
    if entry::digest_within(layers.upper(), path, budget)? != entry.expected {
        return Err(io::Error::other("changed since the version was staged"));
    }
    match entry.action {
        Action::SetAside => set_aside(layers, path),
        Action::Unhide => unhide(layers, path),
        Action::OfferNew => offer_new(layers, path, budget),
        Action::TakeOwner => take_owner(layers, path),
    }
}

/// The last part of a path.
fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn set_aside(layers: &Layers, path: &[u8]) -> io::Result<()> {
    let aside = layers.free(path, ".mine", |_| Ok(false))?;
    let (dir, name) = beneath::parent(layers.upper(), path)?;
    // With redirect_dir=off a directory that is renamed here no longer shows
    // what any version has below it: only the user's goes along.
    let flags = RenameFlags::NOREPLACE;
    rustix::fs::renameat_with(&dir, name, &dir, last(&aside), flags)?;
    Ok(())
}

fn unhide(layers: &Layers, path: &[u8]) -> io::Result<()> {
    let (dir, name) = beneath::parent(layers.upper(), path)?;
    let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if is_whiteout(&stat) {
        return Ok(rustix::fs::unlinkat(&dir, name, AtFlags::empty())?);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let dir = beneath::open(layers.upper(), path, flags)?;
    Ok(rustix::fs::fremovexattr(&dir, entry::OPAQUE)?)
}

/// What the version has at a path.
fn published(layers: &Layers, path: &[u8]) -> io::Result<Stat> {
    look(layers.lower(), path)?.ok_or_else(|| io::Error::other("the version has nothing there"))
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

fn take_owner(layers: &Layers, path: &[u8]) -> io::Result<()> {
    let like = published(layers, path)?;
    let (dir, name) = beneath::parent(layers.upper(), path)?;
    let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_mode & libc::S_IFMT != like.st_mode & libc::S_IFMT {
        return Err(io::Error::other(
            "the version has another kind of file there",
        ));
    }
    let (uid, gid) = owner(&like);
    rustix::fs::chownat(&dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    // A symlink has no mode of its own. Last, because a change of the owner
    // takes setuid and setgid away.
    if FileType::from_raw_mode(like.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode(like.st_mode);
        rustix::fs::chmodat(&dir, name, mode, AtFlags::empty())?;
    }
    Ok(())
}

fn offer_new(layers: &Layers, path: &[u8], budget: &mut u64) -> io::Result<()> {
    let like = published(layers, path)?;
    let is_file = match FileType::from_raw_mode(like.st_mode) {
        FileType::RegularFile => true,
        FileType::Symlink => false,
        _ => return Err(io::Error::other("the version has no file there")),
    };
    let new = layers.free(path, ".new", |new| withdraw(layers, new, budget))?;
    let (dir, _) = beneath::parent(layers.upper(), path)?;
    let name = last(&new);
    if !is_file {
        let (lower, from) = beneath::parent(layers.lower(), path)?;
        let target = rustix::fs::readlinkat(lower, from, Vec::new())?;
        return Ok(rustix::fs::symlinkat(target, &dir, name)?);
    }
    let file = beneath::open(layers.lower(), path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let made = clone_file(&file, &like, &dir, name);
    match &made {
        Ok(made) => mark(layers, &new, made, budget),
        Err(_) => {
            // The error of making it is the one to report.
            let _ = rustix::fs::unlinkat(&dir, name, AtFlags::empty());
        }
    }
    made.map(drop)
}

/// Notes what was offered, so that a later offer takes its place and they do not
/// add up. Without the note it stays, as anything of the user's does.
fn mark(layers: &Layers, path: &[u8], made: &OwnedFd, budget: &mut u64) {
    if let Ok(digest) = entry::digest_within(layers.upper(), path, budget) {
        let _ = rustix::fs::fsetxattr(made, OFFERED, &digest, XattrFlags::empty());
    }
}

/// Takes back an earlier offer that nobody has touched; whether it did.
fn withdraw(layers: &Layers, path: &[u8], budget: &mut u64) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(file) = beneath::open(layers.upper(), path, flags) else {
        return Ok(false);
    };
    let mut noted = [0; 32];
    if rustix::fs::fgetxattr(&file, OFFERED, &mut noted) != Ok(noted.len())
        || entry::digest_within(layers.upper(), path, budget)? != noted
    {
        return Ok(false);
    }
    let (dir, name) = beneath::parent(layers.upper(), path)?;
    rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
    Ok(true)
}

/// Takes no room, and no time however large it is.
fn clone_file(file: &OwnedFd, like: &Stat, dir: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::ioctl_ficlone(&new, file)?;
    let (uid, gid) = owner(like);
    rustix::fs::fchown(&new, uid, gid)?;
    // What lies beside is to be read, not run with somebody's rights.
    rustix::fs::fchmod(&new, Mode::from_raw_mode(like.st_mode & 0o777))?;
    let written = Timespec {
        tv_sec: like.st_mtime,
        tv_nsec: like.st_mtime_nsec.try_into().unwrap_or(0),
    };
    let times = Timestamps {
        last_access: written,
        last_modification: written,
    };
    rustix::fs::futimens(&new, &times)?;
    Ok(new)
}
