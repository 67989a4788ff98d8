//! Many boots from one: the memory of a guest whose kernel is up is kept in a
//! file, and every copy of it goes on from there.
//!
//! Sound for tests of what is on a disk, because the copied machine has seen
//! none: the guest loads the driver of its disks only afterwards (see
//! `op_dbus_vm_guest::init::TEMPLATE`). It then draws random numbers of its own.
//! A start of the kernel under emulation takes five times as long as the rest of
//! a boot.
//!
//! QEMU's parts: memory in a file, shared while the template is made and private
//! to each copy; migration to a file of all state but that memory
//! (`x-ignore-shared`).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use op_dbus_vm_guest::init::TEMPLATE;
use op_dbus_vm_guest::proto::{Event, Request, Start};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::error::{Context, Error, Result};
use crate::guest::Guest;
use crate::hardware::{Disk, Hardware, Memory};

/// How long the template's kernel may take.
const BOOT: Duration = Duration::from_secs(300);
/// How long saving its state may take.
const SAVE: Duration = Duration::from_secs(120);

/// How the directories of templates begin.
const PREFIX: &str = "template-";

/// A machine that waits, kept in files.
#[derive(Debug)]
pub struct Template {
    hardware: Hardware,
    state: PathBuf,
    _lock: Flock<File>,
    _files: TempDir,
}

impl Template {
    /// Boots `hardware` until the guest waits, and keeps it in a directory of its
    /// own below `directory` as long as this lives. Its copies have disks in the
    /// same number.
    pub fn make(mut hardware: Hardware, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).at("make", directory)?;
        remove_unused(directory)?;
        let files = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(directory)
            .at("make a directory in", directory)?;
        let directory = files.path();
        let lock = lock(directory).at("lock", directory)?;
        let memory = directory.join("memory");
        let state = directory.join("machine");
        hardware.memory = Memory::Template(memory.clone());
        hardware.command_line = format!("{} {TEMPLATE}", hardware.command_line);
        let mut guest = Guest::boot(&hardware, &directory.join("template.log"))?;
        match guest.poll(BOOT)? {
            Some(Event::Waiting) => {}
            other => {
                return Err(Error::Host(format!(
                    "the template's guest did not come to wait, but said {other:?}"
                )));
            }
        }
        ignore_shared(&mut guest)?;
        // It stops by itself when its state is saved; one that was stopped before
        // would come back stopped.
        let uri = format!("exec:cat >'{}'", state.display());
        guest.execute("migrate", &json!({ "uri": uri }))?;
        let end = Instant::now() + SAVE;
        loop {
            let progress = guest.execute("query-migrate", &json!({}))?;
            match progress.get("status").and_then(Value::as_str) {
                Some("completed") => break,
                Some("failed" | "cancelled") => {
                    return Err(Error::Host(format!("save the template: {progress}")));
                }
                _ if Instant::now() > end => {
                    return Err(Error::Host("saving the template does not end".into()));
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        guest.cut()?;
        hardware.memory = Memory::Copy(memory);
        Ok(Self {
            hardware,
            state,
            _lock: lock,
            _files: files,
        })
    }

    /// A copy that goes on, with `disks`, and with `options` for its init.
    pub fn boot(&self, disks: Vec<Disk>, options: &str, console: &Path) -> Result<Guest> {
        let mut hardware = self.hardware.clone();
        hardware.disks = disks;
        let mut guest = Guest::boot(&hardware, console)?;
        ignore_shared(&mut guest)?;
        let uri = format!("exec:cat '{}'", self.state.display());
        guest.execute("migrate-incoming", &json!({ "uri": uri }))?;
        let clock = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        guest.send(&Request::Start(Start {
            options: options.to_owned(),
            clock: i64::try_from(clock).unwrap_or(i64::MAX),
        }))?;
        Ok(guest)
    }
}

/// Locks the directory of a template for as long as somebody uses it.
fn lock(directory: &Path) -> std::io::Result<Flock<File>> {
    let file = File::open(directory)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, why)| why.into())
}

/// Removes what programs left that were killed.
fn remove_unused(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).at("list", directory)? {
        let entry = entry.at("list", directory)?;
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // One that goes meanwhile, or is in use, is no concern of ours.
        if ours && lock(&entry.path()).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

fn ignore_shared(guest: &mut Guest) -> Result<()> {
    let capability = json!({"capability": "x-ignore-shared", "state": true});
    let arguments = json!({ "capabilities": [capability] });
    guest
        .execute("migrate-set-capabilities", &arguments)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_goes() {
        let root = tempfile::tempdir().unwrap();
        let [used, left, other] =
            ["template-a", "template-b", "other"].map(|name| root.path().join(name));
        for path in [&used, &left, &other] {
            fs::create_dir(path).unwrap();
        }
        let _held = lock(&used).unwrap();
        remove_unused(root.path()).unwrap();
        assert!(used.exists() && other.exists() && !left.exists());
    }
}
