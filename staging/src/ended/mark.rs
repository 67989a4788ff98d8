//! What a boot says of itself: `boot/running` in the store.
//!
//! It is a symlink, and its target is the text. So it is replaced in one step
//! with nothing to tear, and on a disk that is full of data, where no file could
//! be written, like a pin. The file system is committed after it: it says what a
//! power cut left, so it must not be what a power cut left half of.
//!
//! Beside this boot it holds those that are not told of yet, because the power
//! was cut before the log had them: whoever told of them first would have to know
//! which lines are in the log already.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use op_dbus_activator::layout::Layout;
use op_dbus_activator::reserve::Reserve;
use op_dbus_bootstate::ending::Mark;
use op_dbus_bootstate::{BootId, Slot, Version};
use serde::{Deserialize, Serialize};

/// Boots that are remembered; older ones are not told of.
pub(crate) const BOOTS_MAX: usize = 12;
/// Panics that are remembered.
pub(crate) const SEEN_MAX: usize = 48;
const SCHEMA: u32 = 1;

/// How far a boot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// It was counted, and did not get as far as saying anything itself.
    Counted,
    /// It ran.
    Running,
    /// It was shut down in order.
    Orderly,
}

impl State {
    /// The boot's own word.
    pub(crate) fn mark(self) -> Mark {
        match self {
            Self::Counted => Mark::None,
            Self::Running => Mark::Running,
            Self::Orderly => Mark::Orderly,
        }
    }
}

/// One boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Boot {
    /// The kernel's id of it.
    #[serde(rename = "boot")]
    pub(crate) id: BootId,
    /// How far it has come.
    pub(crate) state: State,
    /// What it activated.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) version: Option<Version>,
    /// In which role.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) slot: Option<Slot>,
    /// Whether a watchdog's flag was up when it began.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) watchdog: bool,
}

/// The mark's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marks {
    #[serde(default)]
    schema: u32,
    /// The boots, oldest first; the last one is the one that wrote this.
    pub(crate) boots: Vec<Boot>,
    /// Panics that were looked at, by [`super::pstore::Panicked::id`].
    #[serde(default)]
    pub(crate) seen: Vec<String>,
}

impl Marks {
    /// With the newest of both, as many as there is room for.
    pub(crate) fn new(mut boots: Vec<Boot>, mut seen: Vec<String>) -> Self {
        boots.drain(..boots.len().saturating_sub(BOOTS_MAX));
        seen.drain(..seen.len().saturating_sub(SEEN_MAX));
        Self {
            schema: SCHEMA,
            boots,
            seen,
        }
    }

    /// The boot that wrote it.
    pub(crate) fn last(&self) -> Option<&Boot> {
        self.boots.last()
    }
}

/// Where it is.
pub(crate) fn path(layout: &Layout) -> PathBuf {
    layout.boot_dir().join("running")
}

/// Reads it. None: no boot has made one.
///
/// # Errors
/// It can't be read, or is not what [`write`] makes: then it says nothing.
pub(crate) fn read(layout: &Layout) -> io::Result<Option<Marks>> {
    let target = match fs::read_link(path(layout)) {
        Ok(target) => target,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why),
    };
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let text = target
        .to_str()
        .ok_or_else(|| invalid("not UTF-8".to_owned()))?;
    let marks: Marks = serde_json::from_str(text).map_err(|why| invalid(why.to_string()))?;
    if marks.schema != SCHEMA {
        return Err(invalid(format!(
            "schema {} instead of {SCHEMA}",
            marks.schema
        )));
    }
    Ok(Some(marks))
}

/// Replaces it. Durable when this returns. Where even that has no room, a part of
/// the reserve is given up: else a full disk would make power cuts of shutdowns.
pub(crate) fn write(layout: &Layout, marks: &Marks) -> io::Result<()> {
    let text = serde_json::to_string(marks)?;
    Reserve::new(layout).spend(|| replace(layout, &text))
}

fn replace(layout: &Layout, text: &str) -> io::Result<()> {
    let hidden = layout.boot_dir().join(".running.new");
    match fs::remove_file(&hidden) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    symlink(text, &hidden)?;
    fs::rename(&hidden, path(layout))?;
    op_dbus_btrfs::sync_filesystem(&layout.store).map_err(|why| why.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(n: u8) -> Boot {
        Boot {
            id: BootId([n; 16]),
            state: State::Running,
            version: Some(
                format!("v{n}.{}.0-{}", u64::MAX, "x".repeat(36))
                    .parse()
                    .unwrap(),
            ),
            slot: Some(Slot::Fallback),
            watchdog: true,
        }
    }

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), "/").with_store(dir.path());
        fs::create_dir(layout.boot_dir()).unwrap();
        (dir, layout)
    }

    #[test]
    fn the_fullest_one_fits_into_a_symlink() {
        let boots = (1..=100).map(boot).collect();
        let seen = (0..100).map(|n| format!("{n:016x}")).collect();
        let marks = Marks::new(boots, seen);
        assert_eq!(marks.boots.len(), BOOTS_MAX);
        assert_eq!(marks.last().unwrap().id, BootId([100; 16]));
        assert_eq!(marks.seen.last().unwrap(), "0000000000000063");
        // PATH_MAX with its zero; a Btrfs with 4 KiB nodes takes a little less.
        let length = serde_json::to_string(&marks).unwrap().len();
        assert!(length <= 3800, "{length}");
    }

    #[test]
    fn it_is_replaced_whatever_is_there() {
        let (_dir, layout) = layout();
        assert_eq!(read(&layout).unwrap(), None);
        let first = Marks::new(vec![boot(1)], Vec::new());
        write(&layout, &first).unwrap();
        assert_eq!(read(&layout).unwrap(), Some(first));
        // What a run that was killed left.
        symlink("x", layout.boot_dir().join(".running.new")).unwrap();
        let second = Marks::new(vec![boot(1), boot(2)], vec!["abc".to_owned()]);
        write(&layout, &second).unwrap();
        assert_eq!(read(&layout).unwrap(), Some(second.clone()));
        fs::remove_file(path(&layout)).unwrap();
        fs::write(path(&layout), "{}").unwrap();
        assert!(read(&layout).is_err());
        write(&layout, &second).unwrap();
        assert_eq!(read(&layout).unwrap(), Some(second));
        assert_eq!(fs::read_dir(layout.boot_dir()).unwrap().count(), 1);
    }

    #[test]
    fn what_it_does_not_understand_says_nothing() {
        let (_dir, layout) = layout();
        for text in ["x", "{}", r#"{"schema":2,"boots":[]}"#, r#"{"schema":1}"#] {
            let _ = fs::remove_file(path(&layout));
            symlink(text, path(&layout)).unwrap();
            assert!(read(&layout).is_err(), "{text}");
        }
    }
}
