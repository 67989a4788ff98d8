//! Which kernel modules a light guest needs, in an order to load them in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::tool::Tool;

/// The modules `names` of the kernel in `directory` (`/lib/modules/<release>`),
/// each after what it needs, as paths relative to `directory`. What the kernel
/// has built in is left out.
pub fn load_order(directory: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path).at("read", &path)
    };
    order(&read("modules.dep")?, &read("modules.builtin")?, names).ok_or_else(|| {
        Error::Host(format!(
            "{}: not all of {names:?} are there",
            directory.display()
        ))
    })
}

/// The uncompressed content of a module's file: Debian's newer kernels pack
/// theirs with xz, which an init without libraries can't unpack.
pub fn content(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).at("read", path);
    }
    let unpacked = tempfile::NamedTempFile::new().context(|| "make a temporary file".into())?;
    Tool::new("sh")
        .args(["-c", "exec xz -dc \"$1\" >\"$2\"", "sh"])
        .arg(path)
        .arg(unpacked.path())
        .run()?;
    fs::read(unpacked.path()).at("read", unpacked.path())
}

fn order(dependencies: &str, builtin: &str, names: &[&str]) -> Option<Vec<PathBuf>> {
    let table: BTreeMap<String, (&str, &str)> = dependencies
        .lines()
        .filter_map(|line| {
            let (path, needs) = line.split_once(':')?;
            Some((name(path), (path, needs)))
        })
        .collect();
    let mut ordered = Vec::new();
    for wanted in names {
        let Some((path, needs)) = table.get(*wanted) else {
            if builtin.lines().any(|line| name(line) == *wanted) {
                continue;
            }
            return None;
        };
        // depmod writes the whole closure, the deepest need last.
        for part in needs.split_whitespace().rev().chain([*path]) {
            let part = PathBuf::from(part);
            if !ordered.contains(&part) {
                ordered.push(part);
            }
        }
    }
    Some(ordered)
}

fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/fs/btrfs/btrfs.ko.xz: kernel/crypto/xor.ko.xz kernel/lib/libcrc32c.ko.xz
kernel/crypto/xor.ko.xz:
kernel/lib/libcrc32c.ko.xz:
kernel/drivers/virtio/virtio-blk.ko: kernel/lib/libcrc32c.ko.xz
";

    #[test]
    fn needs_come_first_and_once() {
        let builtin = "kernel/fs/ext4/ext4.ko\n";
        let order = order(DEPENDENCIES, builtin, &["btrfs", "ext4", "virtio_blk"]).unwrap();
        let names: Vec<String> = order.iter().map(|p| name(&p.to_string_lossy())).collect();
        assert_eq!(names, ["libcrc32c", "xor", "btrfs", "virtio_blk"]);
    }

    #[test]
    fn an_unknown_module_is_noticed() {
        assert_eq!(order(DEPENDENCIES, "", &["nonesuch"]), None);
    }
}
