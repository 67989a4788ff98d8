//! What the user does to files in the overlay: each to its end, so that it must
//! be there after a power cut.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// How a file comes to its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is made.
    New,
    /// One of the version is written over in place: the overlay copies it up. Of
    /// that the program knows nothing, so it syncs the file and no directory.
    Rewrite,
    /// A new one takes its name, as careful programs do.
    Replace,
    /// It is removed; its content is [`REMOVED`].
    Remove,
}

/// In place of the content of a file that the user removed: what the upper layer
/// of an overlay has of it is looked at as this.
pub(crate) const REMOVED: &str = "(removed)";

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserChange {
    /// In the overlay.
    pub path: &'static str,
    /// What it holds then.
    pub content: &'static str,
    /// How that is done.
    pub how: How,
}

impl UserChange {
    /// Makes the change; when it returns, it is durable.
    pub(crate) fn make(&self, overlay: &Path) -> io::Result<()> {
        let path = overlay.join(self.path);
        let dir = path.parent().unwrap_or(overlay);
        if !dir.is_dir() {
            fs::create_dir(dir)?;
            File::open(overlay)?.sync_all()?;
        }
        let write = |path: &Path, options: &mut fs::OpenOptions| {
            let mut file = options.write(true).open(path)?;
            file.write_all(self.content.as_bytes())?;
            file.sync_all()
        };
        match self.how {
            How::New => write(&path, File::options().create_new(true))?,
            How::Rewrite => return write(&path, File::options().truncate(true)),
            How::Replace => {
                let new = path.with_extension("new");
                write(&new, File::options().create_new(true))?;
                fs::rename(&new, &path)?;
            }
            How::Remove => fs::remove_file(&path)?,
        }
        File::open(dir)?.sync_all()
    }

    /// Whether this may be found where the change had begun and was not over.
    /// `before` is what the file held.
    pub(crate) fn may_leave(&self, found: Option<&str>, before: Option<&str>) -> bool {
        if found == before || found == Some(self.content) {
            return true;
        }
        match self.how {
            How::New | How::Rewrite => found.is_some_and(|found| self.content.starts_with(found)),
            How::Replace => false,
            How::Remove => found.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_do_what_they_say() {
        let dir = tempfile::tempdir().unwrap();
        let change = |path, content, how| {
            let change = UserChange { path, content, how };
            change.make(dir.path()).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join(path)).unwrap(), content);
        };
        change("user/a", "one", How::New);
        change("user/a", "1", How::Rewrite);
        change("user/a", "two", How::Replace);
        assert_eq!(fs::read_dir(dir.path().join("user")).unwrap().count(), 1);
        let gone = UserChange {
            path: "user/a",
            content: REMOVED,
            how: How::Remove,
        };
        gone.make(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("user")).unwrap().count(), 0);
    }

    #[test]
    fn only_a_replacement_is_whole_or_not_there() {
        let change = |how| UserChange {
            path: "x",
            content: "new",
            how,
        };
        let before = Some("old");
        assert!(change(How::Replace).may_leave(before, before));
        assert!(change(How::Replace).may_leave(Some("new"), before));
        assert!(!change(How::Replace).may_leave(Some(""), before));
        assert!(!change(How::Replace).may_leave(None, before));
        assert!(change(How::Rewrite).may_leave(Some(""), before));
        assert!(change(How::New).may_leave(Some("ne"), None));
        assert!(!change(How::New).may_leave(Some("nex"), None));
        assert!(change(How::Remove).may_leave(None, before));
        assert!(!change(How::Remove).may_leave(Some("ol"), before));
    }
}
