//! Writes an initramfs: a cpio archive in the "newc" format that the kernel
//! unpacks (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive in the making. Parent directories are added by themselves, and
/// nothing in it depends on the clock or on the builder's user.
#[derive(Debug, Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    known: BTreeSet<PathBuf>,
    inodes: u32,
}

impl Initramfs {
    /// An archive with the directories a PID 1 mounts on, and a console.
    pub fn new() -> Self {
        let mut archive = Self::default();
        for name in ["dev", "proc", "sys", "run", "tmp", "var", "root"] {
            archive.directory(Path::new(name));
        }
        archive.entry(Path::new("dev/console"), CHARACTER | 0o600, (5, 1), &[]);
        archive
    }

    /// Adds a directory and its parents; a second time it does nothing.
    pub fn directory(&mut self, path: &Path) {
        let path = relative(path);
        self.parents(path);
        if self.known.insert(path.to_owned()) {
            self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
        }
    }

    /// Adds a file.
    pub fn file(&mut self, path: &Path, mode: u32, content: &[u8]) {
        let path = relative(path);
        self.parents(path);
        if self.known.insert(path.to_owned()) {
            self.entry(path, REGULAR | (mode & 0o7777), (0, 0), content);
        }
    }

    /// Adds a file of the host, with its mode.
    pub fn copy(&mut self, from: &Path, path: &Path) -> Result<()> {
        let mode = fs::metadata(from).at("look at", from)?.permissions().mode();
        self.file(path, mode, &fs::read(from).at("read", from)?);
        Ok(())
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &Path, target: &str) {
        let path = relative(path);
        self.parents(path);
        if self.known.insert(path.to_owned()) {
            self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes());
        }
    }

    /// The finished archive, uncompressed: emulated machines take longer to
    /// unpack than to read.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(Path::new("TRAILER!!!"), 0, (0, 0), &[]);
        self.bytes
    }

    fn parents(&mut self, path: &Path) {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.directory(parent),
            _ => {}
        }
    }

    fn entry(&mut self, path: &Path, mode: u32, device: (u32, u32), content: &[u8]) {
        let name = path.to_string_lossy();
        self.inodes += 1;
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        let links = 1;
        self.bytes.extend(b"070701");
        for field in [
            self.inodes,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name_size,
            0,
        ] {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn cpio_reads_it() {
        let mut archive = Initramfs::new();
        archive.file(Path::new("/usr/bin/x"), 0o755, b"hello");
        archive.symlink(Path::new("/bin"), "usr/bin");
        archive.file(Path::new("/usr/bin/x"), 0o755, b"a second time");
        let bytes = archive.finish();
        let mut child = Command::new("cpio")
            .args(["-itv", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let list = String::from_utf8(output.stdout).unwrap();
        assert_eq!(list.matches("usr/bin/x").count(), 1, "{list}");
        assert!(
            list.contains("-rwxr-xr-x") && list.contains("bin -> usr/bin"),
            "{list}"
        );
        assert!(list.contains("5,   1") || list.contains("5,  1"), "{list}");
    }
}
