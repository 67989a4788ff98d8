//! Trees drawn at random: a seed says all of it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use rustix::fs::{FallocateFlags, FileType};

use crate::chain::{Chain, Setup, complete};
use crate::extents;
use crate::look;
use crate::make::{self, Rng};

/// Versions in a chain.
const VERSIONS: u64 = 3;
/// Changes from one to the next.
const CHANGES: u64 = 70;
/// Seeds when nobody says how many: in a quick run, and in a complete one.
const SEEDS: [u64; 2] = [2, 60];
const SOURCES: [&str; 4] = [
    ",compress-force=zstd",
    "",
    ",compress=zlib",
    ",compress-force=lzo",
];

#[test]
fn seeds() {
    let number = |name| {
        env::var(name)
            .ok()
            .map(|value| value.parse::<u64>().unwrap())
    };
    let seeds = match number("OP_DBUS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("OP_DBUS_SEEDS").unwrap_or(SEEDS[usize::from(complete())]),
    };
    for seed in seeds {
        let source = SOURCES[usize::try_from(seed).unwrap() % SOURCES.len()];
        let title = format!("OP_DBUS_SEED={seed}");
        let Some(mut chain) = Chain::new(&title, Setup::new(source)) else {
            return;
        };
        let mut rng = Rng::new(seed);
        for _ in 0..VERSIONS {
            let (work, last) = (chain.work(), chain.last().map(Path::to_owned));
            let mut tree = Tree {
                root: work,
                last,
                rng: &mut rng,
            };
            let done = (0..CHANGES).filter(|_| tree.change().is_ok()).count();
            assert!(done > 35, "{title}: most changes failed");
            chain.version();
        }
        chain.verify();
    }
}

/// A tree that changes.
struct Tree<'a> {
    root: PathBuf,
    /// The version before.
    last: Option<PathBuf>,
    rng: &'a mut Rng,
}

/// What is in a tree, below its root, in the order of names.
#[derive(Default)]
struct Paths {
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
    others: Vec<PathBuf>,
}

impl Paths {
    fn of(root: &Path) -> Self {
        let mut found = Self::default();
        found.add(root);
        found
    }

    fn add(&mut self, dir: &Path) {
        for name in look::names(dir) {
            let path = dir.join(name);
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                self.add(&path);
                self.dirs.push(path);
            } else if kind.is_file() {
                self.files.push(path);
            } else {
                self.others.push(path);
            }
        }
    }
}

/// A change that has nothing to change.
fn nothing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Tree<'_> {
    /// One change. It may fail, as when a directory is to move below itself;
    /// then nothing has changed.
    fn change(&mut self) -> io::Result<()> {
        match self.rng.below(30) {
            0..=4 => self.new_file(),
            5 | 6 => self.new_dir(),
            7 => self.new_other(),
            8..=10 => self.content(),
            11 => self.size(),
            12..=14 => self.share(),
            15 | 16 => self.link(),
            17..=20 => self.rename(),
            21 | 22 => self.swap(),
            23 => self.turn(),
            24 => self.remove(),
            25 => self.remove_dir(),
            26 => self.replace(),
            27 => self.owner(),
            28 => self.xattr(),
            _ => self.times(),
        }
    }

    fn paths(&self) -> Paths {
        Paths::of(&self.root)
    }

    fn one(&mut self, from: &[PathBuf]) -> io::Result<PathBuf> {
        if from.is_empty() {
            return Err(nothing());
        }
        Ok(from[self.rng.index(from.len())].clone())
    }

    fn file(&mut self) -> io::Result<PathBuf> {
        let files = self.paths().files;
        self.one(&files)
    }

    fn dir(&mut self) -> PathBuf {
        let dirs = self.paths().dirs;
        self.one(&dirs).unwrap_or_else(|_| self.root.clone())
    }

    /// The tree's root now and then.
    fn dir_or_root(&mut self) -> PathBuf {
        if self.rng.chance(4) {
            self.root.clone()
        } else {
            self.dir()
        }
    }

    fn any(&mut self) -> io::Result<PathBuf> {
        let paths = self.paths();
        let all = [paths.dirs, paths.files, paths.others].concat();
        self.one(&all)
    }

    /// A name: mostly one of a few, so that the same ones come again.
    fn name(&mut self) -> OsString {
        match self.rng.below(16) {
            0 => OsStr::from_bytes(&[b'L' + self.rng.next().to_le_bytes()[0] % 4; 255]).into(),
            1 => OsStr::from_bytes(&[0xff, 0x80 + self.rng.next().to_le_bytes()[0] % 8]).into(),
            2 => self.temporary().unwrap_or_else(|| "o257-7-0".into()),
            3 => format!("new\nline {}", self.rng.below(4)).into(),
            _ => format!(
                "{}",
                char::from(b'a' + u8::try_from(self.rng.below(12)).unwrap())
            )
            .into(),
        }
    }

    /// The name a stream would give to something for a moment.
    fn temporary(&mut self) -> Option<OsString> {
        let path = self.any().ok()?;
        let inode = fs::symlink_metadata(path).ok()?.ino();
        let generation = extents::generation(&self.root, inode)?;
        Some(format!("o{inode}-{generation}-{}", self.rng.below(2)).into())
    }

    /// Where something new may go.
    fn place(&mut self) -> PathBuf {
        let dir = self.dir_or_root();
        dir.join(self.name())
    }

    fn length(&mut self) -> u64 {
        self.rng.number(&[
            0, 1, 17, 2000, 2048, 2049, 4095, 4096, 4097, 12_288, 40_000, 49_152, 65_536, 131_072,
            131_073, 300_000, 500_000,
        ])
    }

    fn new_file(&mut self) -> io::Result<()> {
        let (path, length) = (self.place(), self.length());
        make::file(&path, &self.rng.bytes(length))
    }

    fn new_dir(&mut self) -> io::Result<()> {
        let mut path = self.place();
        for _ in 0..self.rng.below(4) {
            path.push(self.name());
        }
        // Far from PATH_MAX, whatever it is moved below.
        if path.as_os_str().len() > 1500 {
            return Err(nothing());
        }
        fs::create_dir_all(path)
    }

    fn new_other(&mut self) -> io::Result<()> {
        let path = self.place();
        match self.rng.below(5) {
            0 => make::fifo(&path),
            1 => make::node(&path, FileType::Socket, 0o700, (0, 0)),
            2 => make::node(&path, FileType::CharacterDevice, 0o600, (10, 200)),
            _ => {
                let target = self.name();
                symlink(target, path)
            }
        }
    }

    fn content(&mut self) -> io::Result<()> {
        let (path, length) = (self.file()?, self.length());
        let size = fs::metadata(&path)?.size();
        let at = match self.rng.below(5) {
            0 => size,
            1 => size + self.rng.below(400_000),
            2 => self.rng.below(size / 4096 + 1) * 4096,
            _ => self.rng.below(size + 1),
        };
        let content = self.rng.bytes(length);
        match self.rng.below(6) {
            0 => make::punch(&path, at, length + 1)?,
            1 => make::allocate(&path, FallocateFlags::empty(), at, length + 1)?,
            2 => make::allocate(&path, FallocateFlags::KEEP_SIZE, at, length + 1)?,
            _ => make::write(&path, at, &content)?,
        }
        self.fill(&path)
    }

    /// Writes all of a file that fits a block. One that only grew within it has
    /// less content stored than its size, and the kernel then sends compressed
    /// content of the shorter length and no size (seen with 6.18, by this test).
    fn fill(&mut self, path: &Path) -> io::Result<()> {
        let size = fs::metadata(path)?.size();
        if size > 4096 {
            return Ok(());
        }
        make::write(path, 0, &self.rng.bytes(size))
    }

    fn size(&mut self) -> io::Result<()> {
        let (path, more) = (self.file()?, self.length());
        let size = fs::metadata(&path)?.size();
        let size = if self.rng.chance(2) {
            size + more
        } else {
            self.rng.below(size + 1)
        };
        make::resize(&path, size)?;
        self.fill(&path)
    }

    /// Shares content: with a new file or an old one, of this version or the last.
    fn share(&mut self) -> io::Result<()> {
        let root = match &self.last {
            Some(last) if self.rng.chance(2) => last.clone(),
            _ => self.root.clone(),
        };
        let from = self.one(&Paths::of(&root).files)?;
        if self.rng.chance(2) {
            return make::reflink(&from, &self.place());
        }
        let to = self.file()?;
        let blocks = fs::metadata(&from)?.size() / 4096;
        if blocks == 0 {
            return Err(nothing());
        }
        let at = self.rng.below(blocks);
        let length = 1 + self.rng.below(blocks - at);
        let to_at = self.rng.below(fs::metadata(&to)?.size() / 4096 + 8);
        make::share(&from, at * 4096, length * 4096, &to, to_at * 4096)
    }

    fn link(&mut self) -> io::Result<()> {
        let paths = self.paths();
        let from = self.one(&[paths.files, paths.others].concat())?;
        fs::hard_link(from, self.place())
    }

    fn rename(&mut self) -> io::Result<()> {
        let (from, to) = (self.any()?, self.place());
        fs::rename(from, to)
    }

    fn swap(&mut self) -> io::Result<()> {
        let (one, two) = (self.any()?, self.any()?);
        make::swap(&one, &two)
    }

    /// Moves a directory below what was in it.
    fn turn(&mut self) -> io::Result<()> {
        let dir = self.dir();
        let inner = self.one(&Paths::of(&dir).dirs)?;
        let name = self.name();
        let out = self.root.join(name);
        fs::rename(&inner, &out)?;
        fs::rename(&dir, out.join(self.name()))
    }

    fn remove(&mut self) -> io::Result<()> {
        let paths = self.paths();
        let path = self.one(&[paths.files, paths.others].concat())?;
        fs::remove_file(path)
    }

    /// Removes a directory, and saves one of its children half of the time.
    fn remove_dir(&mut self) -> io::Result<()> {
        let dir = self.dir();
        if dir == self.root {
            return Err(nothing());
        }
        if self.rng.chance(2) {
            let inside = Paths::of(&dir);
            if let Ok(child) = self.one(&[inside.dirs, inside.files].concat()) {
                let name = self.name();
                let _ = fs::rename(child, self.root.join(name));
            }
        }
        fs::remove_dir_all(dir)
    }

    /// Something else takes the name.
    fn replace(&mut self) -> io::Result<()> {
        let path = self.any()?;
        if fs::symlink_metadata(&path)?.is_dir() {
            fs::remove_dir_all(&path)?;
            make::file(&path, b"was a directory")
        } else {
            fs::remove_file(&path)?;
            fs::create_dir(&path)?;
            make::file(&path.join("in"), b"was none")
        }
    }

    fn owner(&mut self) -> io::Result<()> {
        let path = if self.rng.chance(8) {
            self.root.clone()
        } else {
            self.any()?
        };
        let id = u32::try_from(self.rng.below(5000)).unwrap();
        if self.rng.chance(2) {
            make::chown(&path, id, id / 2)?;
        }
        let mode = u32::try_from(self.rng.below(0o10000)).unwrap();
        if !path.is_symlink() {
            // Nothing that keeps root out.
            make::chmod(&path, mode | 0o500)?;
        }
        Ok(())
    }

    fn xattr(&mut self) -> io::Result<()> {
        let path = if self.rng.chance(8) {
            self.root.clone()
        } else {
            self.any()?
        };
        let id = u32::try_from(self.rng.below(2000)).unwrap();
        let length = self.rng.number(&[0, 1, 30, 3000]);
        let value = self.rng.bytes(length);
        match self.rng.below(9) {
            0 => make::acl(&path, false, id, 7),
            1 => make::acl(&path, true, id, 8),
            2 | 3 => make::capability(&path, id),
            4 => make::xattr(&path, b"user.a", &value),
            5 => make::xattr(&path, b"trusted.b", &value),
            6 => make::xattr(&path, b"security.label", &value),
            7 => make::no_xattr(&path, b"user.a"),
            _ => make::no_xattr(&path, b"trusted.b"),
        }
    }

    fn times(&mut self) -> io::Result<()> {
        let path = self.any()?;
        let second = i64::try_from(self.rng.below(4_000_000_000)).unwrap();
        let nano = i64::try_from(self.rng.below(1_000_000_000)).unwrap();
        make::times(
            &path,
            (second - 500_000_000, nano),
            (second, 999_999_999 - nano),
        )
    }
}
