//! Carries out [`Damage`] on a mounted store.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::scenario::Damage;
use crate::tool::Tool;

/// Changes the store mounted at `store`.
pub fn apply(damage: &Damage, store: &Path) -> Result<()> {
    for name in &damage.zero {
        zero(&store.join(name))?;
    }
    for name in &damage.delete {
        let path = store.join(name);
        Tool::new("btrfs")
            .args(["-q", "subvolume", "delete", "-c"])
            .arg(path)
            .run()?;
    }
    for name in &damage.alter {
        let path = store.join(name);
        writable(&path, true)?;
        let file = path.join("share/op-dbus-demo/version");
        fs::write(&file, "altered").at("write", &file)?;
        writable(&path, false)?;
    }
    for name in &damage.replace {
        let path = store.join(name);
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).at("move away", &path)?;
        fs::write(&path, "in the way").at("write", &path)?;
    }
    if damage.fill {
        fill(store)?;
    }
    Tool::new("sync")
        .arg("--file-system")
        .arg(store)
        .run()
        .map(drop)
}

/// Zeros over the whole length, in place, so that the blocks stay where they
/// are.
fn zero(path: &Path) -> Result<()> {
    let length = fs::metadata(path).at("look at", path)?.len();
    let mut file = OpenOptions::new().write(true).open(path).at("open", path)?;
    let zeros = vec![0; usize::try_from(length).map_err(|_| too_large(path))?];
    file.write_all(&zeros).at("write", path)?;
    file.sync_all().at("sync", path)
}

fn too_large(path: &Path) -> Error {
    Error::Scenario(format!("{}: too large to zero", path.display()))
}

fn writable(subvolume: &Path, yes: bool) -> Result<()> {
    // Received subvolumes only become writable by force.
    Tool::new("btrfs")
        .args(["property", "set", "-f", "-t", "subvol"])
        .arg(subvolume)
        .args(["ro", if yes { "false" } else { "true" }])
        .run()
        .map(drop)
}

/// Large writes first, then ever smaller ones, until not a byte fits.
fn fill(store: &Path) -> Result<()> {
    for (number, size) in [1 << 20, 64 << 10, 4 << 10, 512].into_iter().enumerate() {
        let path = store.join(format!("filler.{number}"));
        let mut file = match File::create(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error).at("create", &path),
        };
        let block = vec![0xa5; size];
        loop {
            match file.write_all(&block).and_then(|()| file.sync_data()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error).at("fill", &path),
            }
        }
    }
    Ok(())
}
