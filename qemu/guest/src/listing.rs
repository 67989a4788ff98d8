//! What a directory holds, as text: two listings that are equal mean that
//! nothing came, went, or was written in between.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Lists everything below each of `roots`, one line an entry, sorted: mode in
/// octal, path, and of a file its size and the nanoseconds of its last change.
/// A directory on another device (a subvolume) is listed and not entered.
pub fn list(roots: &[String]) -> io::Result<String> {
    let mut lines = Vec::new();
    for root in roots {
        let root = Path::new(root);
        add(root, device(root)?, &mut lines)?;
    }
    lines.sort();
    Ok(lines.concat())
}

fn add(directory: &Path, wanted: u64, lines: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory).map_err(|error| named(directory, &error))? {
        let path = entry.map_err(|error| named(directory, &error))?.path();
        let found = fs::symlink_metadata(&path).map_err(|error| named(&path, &error))?;
        let (mode, shown) = (found.mode(), path.display());
        if !found.is_dir() {
            lines.push(format!(
                "{mode:o} {shown} {} bytes, {}.{:09}\n",
                found.size(),
                found.mtime(),
                found.mtime_nsec()
            ));
            continue;
        }
        lines.push(format!("{mode:o} {shown}\n"));
        if found.dev() == wanted {
            add(&path, wanted, lines)?;
        }
    }
    Ok(())
}

fn device(path: &Path) -> io::Result<u64> {
    fs::metadata(path)
        .map(|found| found.dev())
        .map_err(|error| named(path, &error))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("list {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_shows_and_a_rewritten_file_differs() {
        let root = std::env::temp_dir().join(format!("op-dbus-list-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "one").unwrap();
        let roots = [root.display().to_string()];
        let before = list(&roots).unwrap();
        assert_eq!(before, list(&roots).unwrap());
        assert_eq!(before.lines().count(), 3, "{before}");
        assert!(before.contains("/a/file 3 bytes, "), "{before}");
        fs::write(root.join("a/file"), "two").unwrap();
        assert_ne!(before, list(&roots).unwrap());
        fs::remove_dir_all(&root).unwrap();
        assert!(list(&roots).is_err());
    }
}
