//! Names in the memory and descriptors of a stopped process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

/// `AT_FDCWD` (-100), in the 32 bits that the kernel reads.
const CWD: u32 = 0xffff_ff9c;

/// What a descriptor stands for.
pub(crate) fn of_fd(pid: Pid, fd: u64) -> Option<PathBuf> {
    // The kernel reads 32 bits of it.
    let fd = u32::try_from(fd & u64::from(u32::MAX)).ok()?;
    if fd == CWD {
        return fs::read_link(format!("/proc/{pid}/cwd")).ok();
    }
    fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()
}

/// The path at an address, from the directory a descriptor stands for.
pub(crate) fn of_path(pid: Pid, dir: u64, address: u64) -> Option<PathBuf> {
    let text = text_at(pid, address)?;
    // The ways to name a file that has no name yet.
    if text.is_empty() {
        return of_fd(pid, dir);
    }
    if let Some(fd) = text.strip_prefix("/proc/self/fd/") {
        return of_fd(pid, fd.parse().ok()?);
    }
    let path = Path::new(&text);
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    Some(of_fd(pid, dir)?.join(path))
}

/// A path from the working directory.
pub(crate) fn of_plain_path(pid: Pid, address: u64) -> Option<PathBuf> {
    of_path(pid, u64::from(CWD), address)
}

/// The text at an address, up to its NUL; at most a page.
pub(crate) fn text_at(pid: Pid, address: u64) -> Option<String> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = Vec::new();
    let mut at = address;
    while bytes.len() < 4096 {
        // Steps that end at multiples of 64 never leave the page the text is in.
        let mut part = [0; 64];
        let want = 64 - usize::try_from(at % 64).ok()?;
        let part = part.get_mut(..want)?;
        memory.read_exact_at(part, at).ok()?;
        if let Some(end) = part.iter().position(|byte| *byte == 0) {
            bytes.extend_from_slice(part.get(..end)?);
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.extend_from_slice(part);
        at = at.checked_add(u64::try_from(want).ok()?)?;
    }
    None
}
