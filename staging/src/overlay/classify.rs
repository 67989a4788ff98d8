//! What a user changed, and what of it a new version clashes with. Pure: three
//! entries of one path in, one verdict out.
//!
//! The layers are *old*, the tree that the overlay lies over now; *upper*, what
//! the user wrote; and *new*, the tree of the version that is to come.

use op_dbus_activator::overlay::plan::Action;
use serde::Serialize;

/// What kind of thing an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, a FIFO or a socket.
    Special,
}

/// Whose it is, and what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Owner {
    /// The user's number.
    pub(crate) uid: u32,
    /// The group's number.
    pub(crate) gid: u32,
    /// Permission bits, with setuid, setgid and sticky.
    pub(crate) mode: u32,
}

/// An entry of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What it is.
    pub(crate) kind: Kind,
    /// Of entries of one path and kind, those with the same number have the same
    /// content: a file's bytes and attributes, a link's target, a device's number.
    /// Of directories all that is below, where that was compared at all.
    pub(crate) content: u8,
    /// Whose it is.
    pub(crate) owner: Owner,
}

impl Entry {
    /// Whether both are one kind of thing with one content, whoever owns them.
    fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.content == other.content
    }
}

/// What the upper layer has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upper {
    /// The mark that the name was removed.
    Whiteout,
    /// A directory that hides the whole directory beneath it.
    Opaque(Entry),
    /// Anything else. A directory shows what is beneath it as well.
    Plain(Entry),
}

/// One path, in all three layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trio {
    /// In the tree the overlay lies over.
    pub(crate) old: Option<Entry>,
    /// In the overlay.
    pub(crate) upper: Upper,
    /// In the tree of the version to come.
    pub(crate) new: Option<Entry>,
}

/// What the user did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Change {
    /// Made something.
    Added,
    /// Changed its content or what it is.
    Changed,
    /// Removed it.
    Removed,
    /// Removed a directory and made one of that name.
    ReplacedDirectory,
    /// Changed owner, group or mode, and nothing else.
    OwnerChanged,
}

/// How a user's change and a version's clash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Clash {
    /// A replaced directory hides what the version changed in its own.
    HiddenDirectory,
    /// What the user removed is back, or another.
    DeletedCameBack,
    /// The version has another kind of thing there now.
    TypeChanged,
    /// Both changed it. To remove it is a change, too.
    BothChanged,
    /// Both made it, differently.
    BothAdded,
    /// The version changed owner, group or mode; the overlay has the old ones.
    OwnerChanged,
    /// The overlay has a copy in which nothing is the user's: it is what the old
    /// version had, and only hides the new one's.
    StaleCopy,
}

/// Who wins a clash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Policy {
    /// The user's stays; the version's file or link is put beside.
    KeepMine,
    /// The version's shows; the user's is put beside.
    TakeNew,
    /// The version is not staged.
    Refuse,
}

/// A clash, and what each side's winning takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Which.
    pub(crate) clash: Clash,
    /// What lets the version's show.
    pub(crate) take: Action,
    /// What keeping the user's is to be accompanied by, if anything.
    pub(crate) keep: Option<Action>,
}

/// What a policy makes of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This is to be done, for the version's to show.
    Take(Action),
    /// The user's stays, accompanied by this.
    Keep(Option<Action>),
    /// The version may not be staged.
    Refuse,
}

impl Conflict {
    fn new(clash: Clash, take: Action, keep: Option<Action>) -> Self {
        Self { clash, take, keep }
    }

    /// What a policy makes of it. No policy is asked about what is nobody's.
    pub(crate) fn settle(self, policy: Policy) -> Verdict {
        match policy {
            _ if self.clash == Clash::StaleCopy => Verdict::Take(self.take),
            Policy::TakeNew => Verdict::Take(self.take),
            Policy::KeepMine => Verdict::Keep(self.keep),
            Policy::Refuse => Verdict::Refuse,
        }
    }
}

/// Only files and links can be put beside.
fn offer(new: &Entry) -> Option<Action> {
    matches!(new.kind, Kind::File | Kind::Link).then_some(Action::OfferNew)
}

impl Trio {
    /// What the user did. `None`: a copy without a change, or a directory that is
    /// only there for what is below it.
    pub(crate) fn change(&self) -> Option<Change> {
        let mine = match &self.upper {
            Upper::Whiteout => return Some(Change::Removed),
            Upper::Opaque(mine) | Upper::Plain(mine) => mine,
        };
        let Some(old) = &self.old else {
            return Some(Change::Added);
        };
        if old.kind != mine.kind {
            return Some(Change::Changed);
        }
        if matches!(self.upper, Upper::Opaque(_)) {
            return Some(Change::ReplacedDirectory);
        }
        if old.content != mine.content {
            return Some(Change::Changed);
        }
        (old.owner != mine.owner).then_some(Change::OwnerChanged)
    }

    /// What clashes. A change that the version left alone is no conflict, and
    /// neither is one that the version made as well.
    pub(crate) fn conflict(&self) -> Option<Conflict> {
        if self.old == self.new {
            return None;
        }
        match &self.upper {
            Upper::Whiteout => self
                .new
                .map(|new| Conflict::new(Clash::DeletedCameBack, Action::Unhide, offer(&new))),
            Upper::Opaque(_) => match &self.new {
                Some(new) if new.kind == Kind::Directory => {
                    Some(Conflict::new(Clash::HiddenDirectory, Action::Unhide, None))
                }
                new => new.map(|new| self.another(&new)),
            },
            Upper::Plain(mine) if mine.kind == Kind::Directory => self.directory(mine),
            Upper::Plain(mine) => self.leaf(mine),
        }
    }

    /// The version has another kind of thing than the user.
    fn another(&self, new: &Entry) -> Conflict {
        let clash = match self.old {
            Some(_) => Clash::TypeChanged,
            None => Clash::BothAdded,
        };
        Conflict::new(clash, Action::SetAside, offer(new))
    }

    /// A directory that shows what is beneath: what is in it speaks for itself.
    fn directory(&self, mine: &Entry) -> Option<Conflict> {
        let new = self.new?;
        if new.kind != Kind::Directory {
            return Some(self.another(&new));
        }
        if mine.owner == new.owner {
            return None;
        }
        let clash = match self.old {
            None => Clash::BothAdded,
            Some(old) if old.kind != Kind::Directory => Clash::BothChanged,
            Some(old) if old.owner == new.owner => return None,
            Some(old) if old.owner == mine.owner => Clash::OwnerChanged,
            Some(_) => Clash::BothChanged,
        };
        Some(Conflict::new(clash, Action::TakeOwner, None))
    }

    /// Anything but a directory.
    fn leaf(&self, mine: &Entry) -> Option<Conflict> {
        let is_stale = self.old.as_ref() == Some(mine);
        let Some(new) = &self.new else {
            let clash = if is_stale {
                Clash::StaleCopy
            } else {
                Clash::BothChanged
            };
            return Some(Conflict::new(clash, Action::SetAside, None));
        };
        if mine == new {
            return None;
        }
        let only_owner = new.is_like(mine);
        if is_stale {
            let take = if only_owner {
                Action::TakeOwner
            } else {
                Action::SetAside
            };
            return Some(Conflict::new(Clash::StaleCopy, take, None));
        }
        if new.kind != mine.kind {
            return Some(self.another(new));
        }
        let Some(old) = self.old.as_ref().filter(|old| old.kind == mine.kind) else {
            let clash = match self.old {
                Some(_) => Clash::BothChanged,
                None => Clash::BothAdded,
            };
            return Some(if only_owner {
                Conflict::new(clash, Action::TakeOwner, None)
            } else {
                Conflict::new(clash, Action::SetAside, offer(new))
            });
        };
        if only_owner || old.is_like(new) {
            // The content is settled: only owners are left to clash.
            if mine.owner == new.owner || old.owner == new.owner {
                return None;
            }
            let clash = if mine.owner == old.owner {
                Clash::OwnerChanged
            } else {
                Clash::BothChanged
            };
            return Some(Conflict::new(clash, Action::TakeOwner, None));
        }
        Some(Conflict::new(
            Clash::BothChanged,
            Action::SetAside,
            offer(new),
        ))
    }

    /// Whether what is below a directory of the overlay can clash as well, given
    /// what becomes of the directory itself.
    pub(crate) fn goes_on_below(&self, verdict: Option<Verdict>) -> bool {
        match &self.upper {
            Upper::Opaque(_) => verdict == Some(Verdict::Take(Action::Unhide)),
            Upper::Plain(mine) if mine.kind == Kind::Directory => {
                let below = self.new.or(self.old);
                below.is_some_and(|below| below.kind == Kind::Directory)
            }
            Upper::Whiteout | Upper::Plain(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
