//! Writing a file the way a careful program does: what counts as acknowledged
//! by a user of the overlay.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces the file at `path`: when this returns, the new content is on the
/// medium; until then the old one is.
pub fn keep(path: &Path, text: &str) -> io::Result<()> {
    let named = |what: &str, error: io::Error| {
        io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
    };
    let directory = path
        .parent()
        .ok_or_else(|| io::Error::other("a path without a directory"))?;
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh).map_err(|error| named("create", error))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| named("write", error))?;
    fs::rename(&fresh, path).map_err(|error| named("rename", error))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| named("sync the directory of", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_and_replaced() {
        let root = std::env::temp_dir().join(format!("op-dbus-keep-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let path = root.join("note");
        for text in ["one", "two"] {
            keep(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
        fs::remove_dir_all(root).unwrap();
    }
}
