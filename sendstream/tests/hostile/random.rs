//! Random streams against a reference that keeps nothing open: it looks at
//! every component of a path each time, and then does what the command says.
//! Few names, so that they are made, swapped, removed and linked again and again.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use op_dbus_sendstream::Policy;

use crate::build::{Stream, UUID};
use crate::cases::{CANARY_DIR, CANARY_FILE, v2};
use crate::say::{Range, Say as _};
use crate::world::{NAME, World, difference};

/// Streams, unless `OP_DBUS_RANDOM_STREAMS` asks for more, and attempts at a
/// command in each.
const STREAMS: u64 = 200;
const ATTEMPTS: usize = 300;

#[derive(Debug, Clone)]
enum Action {
    File(String),
    Dir(String),
    Fifo(String),
    Link(String, &'static str),
    Rename(String, String),
    HardLink(String, String),
    Unlink(String),
    RmDir(String),
    Write(String, u64, Vec<u8>),
    Truncate(String, u64),
    Mode(String, u32),
    Attribute(String, Vec<u8>),
    /// To, from, and how much: all there is.
    Clone(String, String, u64),
}

/// xorshift64*: the same stream for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    /// One to three components of three names.
    fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        let names = (0..depth).map(|_| ["a", "b", "c"][usize::try_from(self.below(3)).unwrap()]);
        names.collect::<Vec<_>>().join("/")
    }

    fn action(&mut self) -> Action {
        let path = self.path();
        match self.below(20) {
            0 | 1 => Action::File(path),
            2 | 3 => Action::Dir(path),
            4 => Action::Fifo(path),
            5 => {
                let targets = [CANARY_DIR, CANARY_FILE, "a", ".", ".."];
                Action::Link(path, targets[usize::try_from(self.below(5)).unwrap()])
            }
            6..=9 => Action::Rename(path, self.path()),
            10 => Action::HardLink(path, self.path()),
            11 => Action::Unlink(path),
            12 => Action::RmDir(path),
            13 | 14 => {
                let data = vec![b'A' + u8::try_from(self.below(26)).unwrap(); 3];
                Action::Write(path, self.below(9), data)
            }
            15 => Action::Truncate(path, self.below(12)),
            16 => Action::Mode(path, 0o600 | u32::try_from(self.below(0o200)).unwrap()),
            17 | 18 => Action::Clone(path, self.path(), 0),
            _ => Action::Attribute(path, vec![u8::try_from(self.below(250)).unwrap()]),
        }
    }
}

impl Action {
    fn say(&self, stream: Stream) -> Stream {
        match self {
            Self::File(path) => stream.mkfile(path),
            Self::Dir(path) => stream.mkdir(path),
            Self::Fifo(path) => stream.mkfifo(path),
            Self::Link(path, target) => stream.symlink(path, target),
            Self::Rename(from, to) => stream.rename(from, to),
            Self::HardLink(new, old) => stream.link(new, old),
            Self::Unlink(path) => stream.unlink(path),
            Self::RmDir(path) => stream.rmdir(path),
            Self::Write(path, offset, data) => stream.write(path, *offset, data),
            Self::Truncate(path, size) => stream.truncate(path, *size),
            Self::Mode(path, mode) => stream.chmod(path, u64::from(*mode)),
            Self::Attribute(path, value) => stream.set_xattr(path, b"trusted.x", value),
            Self::Clone(to, from, length) => stream.clone_range(&Range {
                to,
                to_offset: 0,
                length: *length,
                uuid: UUID,
                from,
                from_offset: 0,
            }),
        }
    }

    /// Does it below a directory, if no link is in the way.
    fn perform(&self, root: &Path) -> io::Result<()> {
        let at = |path: &str| safe(root, path);
        match self {
            Self::File(path) => {
                let mut options = fs::OpenOptions::new();
                options.write(true).create_new(true).mode(0o644);
                options.open(at(path)?).map(drop)
            }
            Self::Dir(path) => {
                let path = at(path)?;
                fs::create_dir(&path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            }
            Self::Fifo(path) => {
                let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600));
                let result = rustix::fs::mknodat(rustix::fs::CWD, at(path)?, kind, mode, 0);
                result.map_err(io::Error::from)
            }
            Self::Link(path, target) => std::os::unix::fs::symlink(target, at(path)?),
            Self::Rename(from, to) => fs::rename(at(from)?, at(to)?),
            Self::HardLink(new, old) => fs::hard_link(at(old)?, at(new)?),
            Self::Unlink(path) => fs::remove_file(at(path)?),
            Self::RmDir(path) => fs::remove_dir(at(path)?),
            Self::Write(path, offset, data) => file(&at(path)?)?.write_all_at(data, *offset),
            Self::Truncate(path, size) => file(&at(path)?)?.set_len(*size),
            Self::Mode(path, mode) => {
                let path = at(path)?;
                if fs::symlink_metadata(&path)?.is_symlink() {
                    return Err(io::ErrorKind::Unsupported.into());
                }
                fs::set_permissions(path, fs::Permissions::from_mode(*mode))
            }
            Self::Attribute(path, value) => {
                let flags = rustix::fs::XattrFlags::empty();
                let set = rustix::fs::lsetxattr(at(path)?, "trusted.x", value, flags);
                set.map_err(io::Error::from)
            }
            Self::Clone(to, from, length) => {
                let (to, from) = (file(&at(to)?)?, file(&at(from)?)?);
                op_dbus_btrfs::clone_range(from, 0, *length, to, 0)
            }
        }
    }

    /// Makes a clone one of all there is, which is always aligned.
    fn fill(&mut self, root: &Path) {
        if let Self::Clone(_, from, length) = self {
            let meta = safe(root, from).and_then(fs::symlink_metadata);
            // Nothing means everything to the kernel.
            *length = meta.map_or(1, |meta| meta.len().max(1));
        }
    }
}

/// A path whose directories are directories.
fn safe(root: &Path, path: &str) -> io::Result<PathBuf> {
    let mut at = root.to_owned();
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        at.push(name);
        if names.peek().is_some() && !fs::symlink_metadata(&at)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
    }
    Ok(at)
}

/// A regular file that exists, open for writing.
fn file(path: &Path) -> io::Result<fs::File> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    fs::File::options().read(true).write(true).open(path)
}

/// What is below a directory.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_file() {
                fs::read(&path).unwrap()
            } else if meta.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else {
                Vec::new()
            };
            let links = if meta.is_dir() { 0 } else { meta.nlink() };
            let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
            let mut value = [0; 8];
            let length = rustix::fs::lgetxattr(name.as_c_str(), "trusted.x", &mut value[..]);
            let facts = format!(
                "mode {:o}, {links} links, x {:?}, {}",
                meta.mode(),
                length.ok().map(|length| &value[..length]),
                content.escape_ascii()
            );
            if meta.is_dir() {
                todo.push(path.clone());
            }
            found.insert(path.strip_prefix(root).unwrap().to_owned(), facts);
        }
    }
    found
}

/// Commands that the reference can do one after the other, and one at the end
/// that it can't.
fn story(seed: u64, reference: &Path) -> (Vec<Action>, Option<Action>) {
    let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (mut done, mut impossible) = (Vec::new(), None);
    for _ in 0..ATTEMPTS {
        let mut action = chance.action();
        action.fill(reference);
        match action.perform(reference) {
            Ok(()) => done.push(action),
            Err(_) => impossible = Some(action),
        }
    }
    // What could not be done at one time may be possible at the end.
    let impossible = impossible.filter(|action| {
        let refused = action.perform(reference).is_err();
        if !refused {
            done.push(action.clone());
        }
        refused
    });
    (done, impossible)
}

#[test]
fn random_streams_do_what_a_receiver_without_memory_does() {
    let Some(world) = World::new() else { return };
    let before = world.listing();
    // Beside the area of the next one, so that links lead to the same places.
    let reference = world.area().join("reference");
    let asked = std::env::var("OP_DBUS_RANDOM_STREAMS");
    let streams = asked.map_or(STREAMS, |count| count.parse().unwrap());
    let mut commands = 0;
    for seed in 0..streams {
        fs::create_dir(&reference).unwrap();
        let (actions, impossible) = story(seed, &reference);
        let expected = tree(&reference);
        fs::remove_dir_all(&reference).unwrap();
        commands += actions.len();

        let stream = actions
            .iter()
            .fold(v2(), |stream, action| action.say(stream));
        if let Some(action) = impossible {
            let stream = action.say(stream.clone()).end();
            let result = world.apply(stream.bytes.as_slice(), &Policy::everything(), false);
            assert!(result.is_err(), "{seed}: {action:?} is done");
        }
        let stream = stream.end();
        let result = world.apply(stream.bytes.as_slice(), &Policy::everything(), false);
        let why = result.err().map(|why| why.to_string());
        assert_eq!(why, None, "{seed}: {actions:#?}");
        let found = tree(&world.area().join(NAME));
        assert_eq!(found, expected, "{seed}: {actions:#?}");
        assert_eq!(difference(&before, &world.listing()), "", "{seed}");
        world.clean();
    }
    println!("{streams} random streams, {commands} commands");
}
