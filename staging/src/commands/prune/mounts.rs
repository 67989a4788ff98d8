//! What mounts need of a store, by `mountinfo` (`proc_pid_mountinfo(5)`). Pure.
//!
//! The kernel lets a subvolume be deleted that is mounted, or a layer of an
//! overlay. A mount tells the subvolume it is of (`subvolid=`) and the path of its
//! root within the file system; an overlay only has the paths its layers had when
//! it was mounted, in whatever namespace that was. A layer whose path still leads
//! somewhere counts as what it leads to. Of one that does not, every component
//! counts that is the name of a version.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

/// Ways to one namespace that are noted. More than one, because a process may end,
/// or its root not be ours to look at.
const WAYS_MAX: usize = 32;

/// Where the store is, as `mountinfo` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its file system: `major:minor` of the superblock.
    device: Vec<u8>,
    /// Its path from that file system's top level.
    root: PathBuf,
}

/// What mounts use of the store's file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Uses {
    /// Ids of the subvolumes that are mounted, whole or in part.
    subvolumes: BTreeSet<u64>,
    /// Names in `deploy/` and `overlays/` that roots of mounts lie in or below.
    names: BTreeSet<OsString>,
    /// Subvolumes that overlays' layers lie in, by the device number `stat` shows.
    layers: BTreeSet<u64>,
    /// Components of the paths of overlays' layers that lead nowhere.
    lost_layers: BTreeSet<OsString>,
    /// Mount namespaces that are kept by a mount: their inode, and ways to it.
    pub(super) namespaces: BTreeMap<u64, BTreeSet<PathBuf>>,
}

/// One line.
struct Mount<'l> {
    id: &'l [u8],
    device: &'l [u8],
    root: &'l [u8],
    point: &'l [u8],
    kind: &'l [u8],
    options: &'l [u8],
}

impl<'l> Mount<'l> {
    /// `36 35 98:0 /root /point rw,noatime shared:1 - btrfs /dev/sda rw,subvolid=5`
    fn parse(line: &'l [u8]) -> Option<Self> {
        let mut words = line.split(|&byte| byte == b' ');
        let id = words.next()?;
        let device = words.nth(1)?;
        let root = words.next()?;
        let point = words.next()?;
        let mut words = words.skip_while(|word| *word != b"-").skip(1);
        Some(Self {
            id,
            device,
            root,
            point,
            kind: words.next()?,
            options: words.nth(1).unwrap_or_default(),
        })
    }
}

fn lines(mountinfo: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    mountinfo
        .split(|&byte| byte == b'\n')
        .filter_map(Mount::parse)
}

/// Undoes the kernel's escapes: `\040` for a space.
fn unescape(text: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        rest = if octal.is_some() {
            after.get(3..).unwrap_or_default()
        } else {
            after
        };
        plain.push(octal.unwrap_or(byte));
    }
    OsString::from_vec(plain)
}

impl Place {
    /// Finds the store, given the id of the mount it is reached by (`stx_mnt_id`)
    /// and its path.
    pub(super) fn find(mountinfo: &[u8], mount: u64, store: &Path) -> Option<Self> {
        let id = mount.to_string();
        let mount = lines(mountinfo).find(|mount| mount.id == id.as_bytes())?;
        let point = unescape(mount.point);
        let below = store.strip_prefix(&point).ok()?;
        Some(Self {
            device: mount.device.to_owned(),
            root: Path::new(&unescape(mount.root)).join(below),
        })
    }
}

impl Uses {
    /// Adds what one `mountinfo` says. `root` leads to the root of the process it
    /// is of; `device` tells what a path leads to for that process.
    pub(super) fn add(
        &mut self,
        mountinfo: &[u8],
        place: &Place,
        root: &Path,
        device: impl Fn(&Path) -> Option<u64>,
    ) {
        for mount in lines(mountinfo) {
            match mount.kind {
                b"btrfs" if mount.device == place.device => self.add_btrfs(&mount, place),
                b"overlay" => self.add_overlay(&mount, &device),
                b"nsfs" => self.add_namespace(&mount, root),
                _ => {}
            }
        }
    }

    fn add_btrfs(&mut self, mount: &Mount<'_>, place: &Place) {
        let mut options = mount.options.split(|&byte| byte == b',');
        let id = options.find_map(|option| option.strip_prefix(b"subvolid="));
        let id = id.and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
        self.subvolumes.extend::<Option<u64>>(id);
        let root = unescape(mount.root);
        let Ok(inside) = Path::new(&root).strip_prefix(&place.root) else {
            return;
        };
        let mut parts = inside.components();
        let dir = parts.next().map(Component::as_os_str);
        if dir.is_some_and(|dir| dir == "deploy" || dir == "overlays") {
            let name = parts.next().map(|name| name.as_os_str().to_owned());
            self.names.extend(name);
        }
    }

    fn add_overlay(&mut self, mount: &Mount<'_>, device: impl Fn(&Path) -> Option<u64>) {
        for option in mount.options.split(|&byte| byte == b',') {
            let mut parts = option.splitn(2, |&byte| byte == b'=');
            let name = parts.next().unwrap_or_default();
            let is_layer = matches!(
                name,
                b"lowerdir" | b"lowerdir+" | b"datadir+" | b"upperdir" | b"workdir"
            );
            let Some(value) = parts.next().filter(|_| is_layer) else {
                continue;
            };
            // A colon in a path would be escaped, and then this leads nowhere.
            let layers = value.split(|&byte| byte == b':');
            for layer in layers.filter(|layer| !layer.is_empty()) {
                let path = PathBuf::from(unescape(layer));
                match device(&path) {
                    Some(device) => {
                        self.layers.insert(device);
                    }
                    None => self.lost_layers.extend(path.iter().map(OsStr::to_owned)),
                }
            }
        }
    }

    /// `mnt:[4026532301]` is the root of a mount that keeps a mount namespace.
    fn add_namespace(&mut self, mount: &Mount<'_>, root: &Path) {
        let inode = mount
            .root
            .strip_prefix(b"mnt:[")
            .and_then(|rest| rest.strip_suffix(b"]"))
            .and_then(|inode| std::str::from_utf8(inode).ok()?.parse().ok());
        if let Some(inode) = inode {
            let point = unescape(mount.point);
            let below = Path::new(&point).strip_prefix("/").unwrap_or(Path::new(""));
            let ways = self.namespaces.entry(inode).or_default();
            if ways.len() < WAYS_MAX {
                ways.insert(root.join(below));
            }
        }
    }

    /// Whether a subvolume, by its id and the device number `stat` shows, is
    /// mounted or holds a layer of an overlay, or anything in it does.
    pub(super) fn has_subvolume(&self, id: u64, device: u64) -> bool {
        self.subvolumes.contains(&id) || self.layers.contains(&device)
    }

    /// Whether something of this name in `deploy/` or `overlays/` is mounted, or
    /// may be a layer of an overlay.
    pub(super) fn has_name(&self, name: &OsStr) -> bool {
        self.names.contains(name) || self.lost_layers.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STORE: &str = "61 29 0:41 /@op-dbus /run/op-dbus/store rw,nosuid - btrfs /dev/vda2 rw,subvolid=256,subvol=/@op-dbus\n";

    fn place() -> Place {
        Place::find(STORE.as_bytes(), 61, Path::new("/run/op-dbus/store")).unwrap()
    }

    /// What layers lead to: only one of them still is where it was.
    fn found(path: &Path) -> Option<u64> {
        (path == Path::new("/other/deploy/v1.4.0")).then_some(44)
    }

    fn uses(text: &str) -> Uses {
        let mut uses = Uses::default();
        uses.add(text.as_bytes(), &place(), Path::new("/proc/7/root"), found);
        uses
    }

    #[test]
    fn the_store_is_found_by_its_mount() {
        assert_eq!(place().device, b"0:41");
        assert_eq!(place().root, Path::new("/@op-dbus"));
        // Below a mount of the whole file system, at a path with a space.
        let top = "9 1 0:41 / /mnt/a\\040b rw - btrfs /dev/vda2 rw,subvolid=5,subvol=/\n";
        let found = Place::find(top.as_bytes(), 9, Path::new("/mnt/a b/@op-dbus"));
        assert_eq!(found, Some(place()));
        assert_eq!(Place::find(top.as_bytes(), 10, Path::new("/mnt/a b")), None);
    }

    #[test]
    fn the_store_s_own_mount_uses_no_version() {
        let uses = uses(STORE);
        assert!(uses.has_subvolume(256, 1));
        assert!(uses.names.is_empty() && uses.lost_layers.is_empty());
    }

    #[test]
    fn mounts_count_by_subvolume_and_by_path() {
        let uses = uses(
            "70 29 0:41 /@op-dbus/deploy/v1.0.0 /opt/op-dbus ro shared:3 master:1 - btrfs /dev/vda2 rw,subvolid=257,subvol=/@op-dbus/deploy/v1.0.0\n\
             71 29 0:41 /@op-dbus/deploy/v1.1.0/bin /srv ro - btrfs /dev/vda2 rw,subvolid=258\n\
             72 29 0:41 /@op-dbus/overlays/v1.2.0.old/upper /x ro - btrfs /dev/vda2 rw,subvolid=259\n\
             73 29 0:77 /@op-dbus/deploy/v9.0.0 /y ro - btrfs /dev/vdb rw,subvolid=999\n",
        );
        for id in [257, 258, 259] {
            assert!(uses.has_subvolume(id, 1), "{id}");
        }
        assert!(!uses.has_subvolume(999, 1), "another file system");
        for name in ["v1.0.0", "v1.1.0", "v1.2.0.old"] {
            assert!(uses.has_name(OsStr::new(name)), "{name}");
        }
        assert!(!uses.has_name(OsStr::new("v9.0.0")));
        assert!(!uses.has_name(OsStr::new("v1.2.0")));
    }

    #[test]
    fn layers_of_overlays_count_by_what_they_lead_to_or_by_every_component() {
        let uses = uses(
            "80 29 0:50 / /usr/local/op-dbus rw - overlay op-dbus rw,lowerdir=/run/op-dbus/store/deploy/v1.0.0,upperdir=/run/op-dbus/store/overlays/v1.1.0/upper,workdir=/w\n\
             81 29 0:51 / /c rw - overlay overlay rw,lowerdir=/tmp/a\\040b:deploy/v1.2.0,redirect_dir=off\n\
             82 29 0:52 / /d ro - overlay overlay ro,lowerdir+=/x,datadir+=/y/v1.3.0\n\
             83 29 0:53 / /e ro - overlay v1.9.0 ro,lowerdir=/other/deploy/v1.4.0\n",
        );
        for name in ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"] {
            assert!(uses.has_name(OsStr::new(name)), "{name}");
        }
        for name in ["v1.0", "v1.4.0", "v1.9.0"] {
            assert!(!uses.has_name(OsStr::new(name)), "{name}");
        }
        assert!(uses.has_subvolume(1, 44) && !uses.has_subvolume(44, 1));
    }

    #[test]
    fn namespaces_that_a_mount_keeps_are_named() {
        let uses = uses(
            "90 29 0:4 mnt:[4026532301] /run/snapd/ns/a.mnt rw - nsfs nsfs rw\n\
             91 29 0:4 net:[4026532400] /run/netns/x rw - nsfs nsfs rw\n",
        );
        let expected = PathBuf::from("/proc/7/root/run/snapd/ns/a.mnt");
        assert_eq!(
            uses.namespaces.into_iter().collect::<Vec<_>>(),
            [(4_026_532_301, BTreeSet::from([expected]))]
        );
    }

    proptest! {
        #[test]
        fn no_line_is_a_surprise(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Place::find(&bytes, 61, Path::new("/run"));
            Uses::default().add(&bytes, &place(), Path::new("/"), found);
        }

        #[test]
        fn escapes_are_undone(path in "[ -~]{0,40}") {
            let escaped: String = path.bytes().map(|byte| match byte {
                b' ' | b'\\' => format!("\\{byte:03o}"),
                _ => char::from(byte).to_string(),
            }).collect();
            prop_assert_eq!(unescape(escaped.as_bytes()), OsString::from(path));
        }
    }
}
