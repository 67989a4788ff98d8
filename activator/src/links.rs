//! The links role: symlinks of the host that point into the running version.
//!
//! A link is ours exactly if it is a symlink that points below one of the two
//! mount points; nothing else is ever replaced or removed. Which links there
//! were before is remembered in the store, as a hint only: before one is
//! removed, it is looked at again.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Mounts};
use crate::files::{self, Durable};
use crate::layout::Layout;

/// Longest list of links a reader accepts, in bytes.
const LIST_MAX: usize = 2 * 1024 * 1024;

/// What happened to one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It was right already.
    Kept,
    /// It was made, or turned to its target.
    Made,
    /// It is no longer wanted and was removed.
    Removed,
    /// Something that is not ours stands in its place, or the host refused.
    Refused(String),
}

/// The links that were made, kept in the store.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    links: BTreeSet<PathBuf>,
}

/// Runs the role: one log line a change or refusal.
pub fn run(layout: &Layout, config: &Config) {
    for (path, done) in reconcile(layout, config) {
        let path = path.display();
        match done {
            Done::Kept => {}
            Done::Made => log::info!("links: made {path}"),
            Done::Removed => log::info!("links: removed {path}"),
            Done::Refused(why) => log::warn!("links: {path}: {why}"),
        }
    }
}

/// Brings the links in line with the configuration.
pub fn reconcile(layout: &Layout, config: &Config) -> Vec<(PathBuf, Done)> {
    let list_path = layout.store.join("links.json");
    let before = read_list(&list_path);
    let mut report = Vec::new();
    let mut kept = BTreeSet::new();
    for link in &config.links {
        let target = config.link_target(link);
        let done = place(layout, &config.mounts, &link.path, &target)
            .unwrap_or_else(|why| Done::Refused(why.to_string()));
        kept.insert(link.path.clone());
        report.push((link.path.clone(), done));
    }
    for path in before.links.difference(&kept.clone()) {
        match remove(layout, &config.mounts, path) {
            Ok(true) => report.push((path.clone(), Done::Removed)),
            Ok(false) => {}
            Err(why) => {
                kept.insert(path.clone());
                report.push((path.clone(), Done::Refused(why.to_string())));
            }
        }
    }
    if kept != before.links {
        write_list(layout, &list_path, &List { links: kept });
    }
    report
}

fn read_list(path: &Path) -> List {
    files::read_bounded(path, LIST_MAX)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Without the list, links that are given up later stay; that is worth a line
/// and nothing more.
fn write_list(layout: &Layout, path: &Path, list: &List) {
    if !layout.boot_dir().is_dir() {
        return;
    }
    let written = serde_json::to_vec(list)
        .map_err(io::Error::from)
        .and_then(|text| files::replace(path, &text, 0o600, Durable::Yes));
    if let Err(why) = written {
        log::warn!("links: {}: {why}", path.display());
    }
}

/// The directory of a link, found below the host's root and never outside.
fn parent<'a>(layout: &Layout, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let root = op_dbus_btrfs::open_dir(&layout.sysroot).map_err(|why| why.source)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let dir = rustix::fs::openat2(&root, parent, flags, Mode::empty(), resolve)
        .map_err(|why| io::Error::other(format!("its directory: {}", io::Error::from(why))))?;
    Ok((dir, name))
}

/// What stands in a link's place.
enum Found {
    Nothing,
    /// A symlink below one of our mount points.
    Ours(PathBuf),
    Foreign,
}

fn look(dir: BorrowedFd<'_>, name: &OsStr, mounts: &Mounts) -> io::Result<Found> {
    match rustix::fs::readlinkat(dir, name, Vec::new()) {
        Ok(target) => {
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            let plain = target
                .components()
                .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            let inside = [&mounts.lower, &mounts.overlay]
                .into_iter()
                .any(|mount| target.starts_with(mount));
            Ok(if plain && inside {
                Found::Ours(target)
            } else {
                Found::Foreign
            })
        }
        Err(Errno::NOENT) => Ok(Found::Nothing),
        // Not a symlink.
        Err(Errno::INVAL) => Ok(Found::Foreign),
        Err(why) => Err(why.into()),
    }
}

fn place(layout: &Layout, mounts: &Mounts, path: &Path, target: &Path) -> io::Result<Done> {
    let (dir, name) = parent(layout, path)?;
    match look(dir.as_fd(), name, mounts)? {
        Found::Ours(current) if current == target => return Ok(Done::Kept),
        Found::Foreign => {
            return Ok(Done::Refused(
                "is not a link of ours and stays as it is; move it away".to_owned(),
            ));
        }
        Found::Ours(_) => {
            let mut hidden = OsString::from(".op-dbus-");
            hidden.push(name);
            // Left by a power cut between the two steps.
            if let Found::Ours(_) = look(dir.as_fd(), &hidden, mounts)? {
                rustix::fs::unlinkat(&dir, &hidden, AtFlags::empty())?;
            }
            rustix::fs::symlinkat(target, &dir, &hidden)?;
            rustix::fs::renameat(&dir, &hidden, &dir, name)?;
        }
        // Made in one step, and never over something that came meanwhile.
        Found::Nothing => rustix::fs::symlinkat(target, &dir, name)?,
    }
    Ok(Done::Made)
}

fn remove(layout: &Layout, mounts: &Mounts, path: &Path) -> io::Result<bool> {
    let Ok((dir, name)) = parent(layout, path) else {
        return Ok(false);
    };
    match look(dir.as_fd(), name, mounts)? {
        Found::Ours(_) => {
            rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
            Ok(true)
        }
        Found::Nothing | Found::Foreign => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    struct Host {
        dir: tempfile::TempDir,
        layout: Layout,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("root");
            let layout = Layout::new(dir.path().join("run"), &root);
            fs::create_dir_all(root.join("usr/local/bin")).unwrap();
            fs::create_dir_all(layout.boot_dir()).unwrap();
            Self { dir, layout }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.layout.host(Path::new("/usr/local/bin").join(name))
        }

        fn reconcile(&self, names: &[&str]) -> Vec<Done> {
            let mut text = "[store]\ndevice = \"/dev/vda\"\n".to_owned();
            for name in names {
                let section = "[[link]]\npath = \"/usr/local/bin/NAME\"\ntarget = \"bin/NAME\"\n";
                text += &section.replace("NAME", name);
            }
            let config = Config::parse(&text).unwrap();
            reconcile(&self.layout, &config)
                .into_iter()
                .map(|(_, done)| done)
                .collect()
        }
    }

    #[test]
    fn links_are_made_kept_and_taken_away() {
        let host = Host::new();
        assert_eq!(host.reconcile(&["a", "b"]), [Done::Made, Done::Made]);
        let target = fs::read_link(host.at("a")).unwrap();
        assert_eq!(target, Path::new("/usr/local/op-dbus/bin/a"));
        assert_eq!(host.reconcile(&["a", "b"]), [Done::Kept, Done::Kept]);
        assert_eq!(host.reconcile(&["a"]), [Done::Kept, Done::Removed]);
        assert!(host.at("b").symlink_metadata().is_err());
        assert_eq!(host.reconcile(&[]), [Done::Removed]);
        assert_eq!(host.reconcile(&[]), []);
        assert_eq!(fs::read_dir(host.at("")).unwrap().count(), 0);
    }

    #[test]
    fn a_link_of_ours_that_points_elsewhere_is_turned() {
        let host = Host::new();
        symlink("/opt/op-dbus/bin/old", host.at("a")).unwrap();
        symlink("/usr/local/op-dbus/bin/a", host.at(".op-dbus-a")).unwrap();
        assert_eq!(host.reconcile(&["a"]), [Done::Made]);
        let target = fs::read_link(host.at("a")).unwrap();
        assert_eq!(target, Path::new("/usr/local/op-dbus/bin/a"));
        assert_eq!(fs::read_dir(host.at("")).unwrap().count(), 1);
    }

    #[test]
    fn foreign_things_are_never_touched() {
        let host = Host::new();
        fs::write(host.at("file"), "mine").unwrap();
        fs::create_dir(host.at("dir")).unwrap();
        symlink("/usr/bin/true", host.at("link")).unwrap();
        symlink("/opt/op-dbus/../../etc/passwd", host.at("dots")).unwrap();
        let names = ["file", "dir", "link", "dots", "gone/x"];
        for done in host.reconcile(&names) {
            assert!(matches!(done, Done::Refused(_)), "{done:?}");
        }
        assert!(host.at("gone").symlink_metadata().is_err());
        host.reconcile(&[]);
        assert_eq!(fs::read(host.at("file")).unwrap(), b"mine");
        for name in ["dir", "link", "dots"] {
            assert!(host.at(name).symlink_metadata().is_ok(), "{name}");
        }
    }

    #[test]
    fn an_absolute_link_on_the_way_stays_below_the_root() {
        let host = Host::new();
        let outside = host.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::remove_dir(host.at("")).unwrap();
        symlink(&outside, host.layout.host("/usr/local/bin")).unwrap();
        assert!(matches!(
            host.reconcile(&["a"]).as_slice(),
            [Done::Refused(_)]
        ));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
