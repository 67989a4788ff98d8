use super::*;
use Action::{OfferNew, SetAside, TakeOwner, Unhide};
use Change::{Added, Changed, OwnerChanged, Removed, ReplacedDirectory};

/// An entry in three letters: kind (`f`ile, `d`irectory, `l`ink, `s`pecial),
/// content, owner. `-` is nothing.
fn entry(text: &str) -> Option<Entry> {
    let [kind, content, owner] = *text.as_bytes() else {
        assert_eq!(text, "-");
        return None;
    };
    Some(Entry {
        kind: match kind.to_ascii_lowercase() {
            b'f' => Kind::File,
            b'd' => Kind::Directory,
            b'l' => Kind::Link,
            _ => Kind::Special,
        },
        content: content - b'0',
        owner: Owner {
            uid: owner.into(),
            gid: 0,
            mode: 0o644,
        },
    })
}

/// Likewise in the overlay: `w` is a whiteout, `D` an opaque directory.
fn upper(text: &str) -> Upper {
    match text {
        "w" => Upper::Whiteout,
        _ if text.starts_with('D') => Upper::Opaque(entry(text).unwrap()),
        _ => Upper::Plain(entry(text).unwrap()),
    }
}

fn trio(text: &str) -> Trio {
    let [old, mine, new] = text.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{text}");
    };
    Trio {
        old: entry(old),
        upper: upper(mine),
        new: entry(new),
    }
}

/// What clashes; what taking and what keeping ask for.
type Expected = Option<(Clash, Action, Option<Action>)>;

/// Old, overlay, new.
const CONFLICTS: &[(&str, Expected)] = &[
    // What the version left alone is no conflict, whatever the user did.
    ("f0a f2a f0a", None),
    ("f0a w   f0a", None),
    ("f0a D2a f0a", None),
    ("f0a l2a f0a", None),
    ("d0a D2a d0a", None),
    ("d0a f2a d0a", None),
    ("-   f2a -  ", None),
    ("-   w   -  ", None),
    // Nor is what both did alike.
    ("f0a f1a f1a", None),
    ("-   f1a f1a", None),
    ("l0a f1a f1a", None),
    ("f0a w   -  ", None),
    ("f0a f2b f0b", None),
    ("d0a d0b d0b", None),
    ("-   d0a d0a", None),
    // A whiteout.
    (
        "f0a w   f1a",
        Some((Clash::DeletedCameBack, Unhide, Some(OfferNew))),
    ),
    (
        "f0a w   f0b",
        Some((Clash::DeletedCameBack, Unhide, Some(OfferNew))),
    ),
    (
        "-   w   f1a",
        Some((Clash::DeletedCameBack, Unhide, Some(OfferNew))),
    ),
    (
        "l0a w   l1a",
        Some((Clash::DeletedCameBack, Unhide, Some(OfferNew))),
    ),
    ("d0a w   d1a", Some((Clash::DeletedCameBack, Unhide, None))),
    (
        "d0a w   f1a",
        Some((Clash::DeletedCameBack, Unhide, Some(OfferNew))),
    ),
    // A replaced directory.
    ("d0a D2a d1a", Some((Clash::HiddenDirectory, Unhide, None))),
    ("-   D2a d1a", Some((Clash::HiddenDirectory, Unhide, None))),
    ("f0a D2a d1a", Some((Clash::HiddenDirectory, Unhide, None))),
    (
        "d0a D2a f1a",
        Some((Clash::TypeChanged, SetAside, Some(OfferNew))),
    ),
    (
        "d0a D2a l1a",
        Some((Clash::TypeChanged, SetAside, Some(OfferNew))),
    ),
    (
        "-   D2a f1a",
        Some((Clash::BothAdded, SetAside, Some(OfferNew))),
    ),
    ("d0a D2a -  ", None),
    // A directory that shows what is beneath it.
    ("d0a d0a d0b", Some((Clash::OwnerChanged, TakeOwner, None))),
    ("d0a d0b d0c", Some((Clash::BothChanged, TakeOwner, None))),
    ("-   d0a d0b", Some((Clash::BothAdded, TakeOwner, None))),
    ("f0a d0a d0b", Some((Clash::BothChanged, TakeOwner, None))),
    (
        "d0a d0a f1a",
        Some((Clash::TypeChanged, SetAside, Some(OfferNew))),
    ),
    (
        "-   d0a f1a",
        Some((Clash::BothAdded, SetAside, Some(OfferNew))),
    ),
    ("d0a d0b d0a", None),
    ("d0a d0b -  ", None),
    // A file.
    (
        "f0a f2a f1a",
        Some((Clash::BothChanged, SetAside, Some(OfferNew))),
    ),
    (
        "f0a f2a f1b",
        Some((Clash::BothChanged, SetAside, Some(OfferNew))),
    ),
    (
        "f0a f0b f1a",
        Some((Clash::BothChanged, SetAside, Some(OfferNew))),
    ),
    ("f0a f2a -  ", Some((Clash::BothChanged, SetAside, None))),
    ("f0a f2a d1a", Some((Clash::TypeChanged, SetAside, None))),
    (
        "f0a f2a l1a",
        Some((Clash::TypeChanged, SetAside, Some(OfferNew))),
    ),
    (
        "d0a f2a f1a",
        Some((Clash::BothChanged, SetAside, Some(OfferNew))),
    ),
    ("d0a f2a d1a", Some((Clash::TypeChanged, SetAside, None))),
    (
        "-   f2a f1a",
        Some((Clash::BothAdded, SetAside, Some(OfferNew))),
    ),
    ("-   f2a d1a", Some((Clash::BothAdded, SetAside, None))),
    ("-   f1a f1b", Some((Clash::BothAdded, TakeOwner, None))),
    (
        "l0a l2a l1a",
        Some((Clash::BothChanged, SetAside, Some(OfferNew))),
    ),
    ("s0a s2a s1a", Some((Clash::BothChanged, SetAside, None))),
    // Only owners clash.
    ("f0a f2a f0b", Some((Clash::OwnerChanged, TakeOwner, None))),
    ("f0a f2b f0c", Some((Clash::BothChanged, TakeOwner, None))),
    ("f0a f1a f1b", Some((Clash::OwnerChanged, TakeOwner, None))),
    ("f0a f1b f1c", Some((Clash::BothChanged, TakeOwner, None))),
    // The user's own, though the version has the same content by now.
    ("f0a f1b f1a", None),
    // A copy in which nothing is the user's.
    ("f0a f0a f1a", Some((Clash::StaleCopy, SetAside, None))),
    ("f0a f0a f1b", Some((Clash::StaleCopy, SetAside, None))),
    ("f0a f0a f0b", Some((Clash::StaleCopy, TakeOwner, None))),
    ("f0a f0a -  ", Some((Clash::StaleCopy, SetAside, None))),
    ("f0a f0a d1a", Some((Clash::StaleCopy, SetAside, None))),
    ("l0a l0a l1a", Some((Clash::StaleCopy, SetAside, None))),
];

const CHANGES: &[(&str, Option<Change>)] = &[
    ("f0a w   -", Some(Removed)),
    ("-   w   -", Some(Removed)),
    ("-   f2a -", Some(Added)),
    ("-   d0a -", Some(Added)),
    ("-   D2a -", Some(Added)),
    ("f0a f2a -", Some(Changed)),
    ("f0a f2b -", Some(Changed)),
    ("f0a l2a -", Some(Changed)),
    ("f0a D2a -", Some(Changed)),
    ("d0a f2a -", Some(Changed)),
    ("d0a D2a -", Some(ReplacedDirectory)),
    ("f0a f0b -", Some(OwnerChanged)),
    ("d0a d0b -", Some(OwnerChanged)),
    ("f0a f0a -", None),
    ("d0a d0a -", None),
];

#[test]
fn conflicts_are_those_of_the_table() {
    for (text, expected) in CONFLICTS {
        let expected = expected.map(|(clash, take, keep)| Conflict::new(clash, take, keep));
        assert_eq!(trio(text).conflict(), expected, "{text}");
    }
}

#[test]
fn changes_are_those_of_the_table() {
    for (text, expected) in CHANGES {
        assert_eq!(trio(text).change(), *expected, "{text}");
    }
}

/// Every entry a lower layer may have.
fn entries(contents: std::ops::Range<u8>) -> Vec<Option<Entry>> {
    let mut all = vec![None];
    for kind in ["f", "d", "l", "s"] {
        for content in contents.clone() {
            for owner in ["a", "b", "c"] {
                all.push(entry(&format!("{kind}{content}{owner}")));
            }
        }
    }
    all
}

/// Every trio there is.
fn every(check: impl Fn(&Trio)) {
    let lower = entries(0..2);
    let mut uppers = vec![Upper::Whiteout];
    for mine in entries(0..3).into_iter().flatten() {
        uppers.push(Upper::Plain(mine));
        if mine.kind == Kind::Directory {
            uppers.push(Upper::Opaque(mine));
        }
    }
    for &old in &lower {
        for &upper in &uppers {
            for &new in &lower {
                check(&Trio { old, upper, new });
            }
        }
    }
}

/// What shows at the path over a tree, with what the overlay has; `None` for what
/// an action removed from it.
fn shows(upper: Option<Upper>, lower: Option<Entry>) -> Option<Entry> {
    match upper {
        None => lower,
        Some(Upper::Whiteout) => None,
        Some(Upper::Opaque(mine) | Upper::Plain(mine)) => Some(mine),
    }
}

/// What an action makes of the overlay's entry.
fn act(trio: &Trio, action: Action) -> Option<Upper> {
    match (action, trio.upper) {
        (SetAside, _) | (Unhide, Upper::Whiteout) => None,
        (Unhide, Upper::Opaque(mine)) => Some(Upper::Plain(mine)),
        (TakeOwner, Upper::Plain(mine)) => Some(Upper::Plain(Entry {
            owner: trio.new.unwrap().owner,
            ..mine
        })),
        (OfferNew, upper) => Some(upper),
        (action, upper) => panic!("{action:?} on {upper:?}"),
    }
}

#[test]
fn every_conflict_can_be_settled_either_way() {
    every(|trio| {
        let Some(conflict) = trio.conflict() else {
            return;
        };
        assert_ne!(trio.old, trio.new, "{trio:?}");
        let Verdict::Take(action) = conflict.settle(Policy::TakeNew) else {
            panic!("{trio:?}");
        };
        let after = shows(act(trio, action), trio.new);
        match action {
            // The version's shows, in all it is.
            SetAside => assert_eq!(after, trio.new, "{trio:?}"),
            Unhide => assert_eq!(
                after.map(|entry| entry.kind),
                trio.new.map(|entry| entry.kind),
                "{trio:?}"
            ),
            TakeOwner => {
                let (after, new) = (after.unwrap(), trio.new.unwrap());
                assert_eq!((after.kind, after.owner), (new.kind, new.owner), "{trio:?}");
            }
            OfferNew => panic!("{trio:?}"),
        }
        let stale = conflict.clash == Clash::StaleCopy;
        match conflict.settle(Policy::KeepMine) {
            Verdict::Take(_) => {
                // Nothing in it is the user's.
                assert!(stale && trio.change().is_none(), "{trio:?}");
            }
            Verdict::Keep(keep) => {
                // There is something to offer.
                let can_be_beside = |new: Entry| matches!(new.kind, Kind::File | Kind::Link);
                let is_there = trio.new.is_some_and(can_be_beside);
                assert!(!stale && (keep.is_none() || is_there), "{trio:?}");
                assert!(matches!(keep, None | Some(OfferNew)), "{trio:?}");
            }
            Verdict::Refuse => panic!("{trio:?}"),
        }
        let refused = conflict.settle(Policy::Refuse);
        assert_eq!(refused == Verdict::Refuse, !stale, "{trio:?}");
    });
}

/// Without a conflict, what shows is what the user or the version has, and
/// nothing of the version's is hidden that it changed and the user did not.
#[test]
fn nothing_is_hidden_where_no_conflict_is_told_of() {
    every(|trio| {
        if trio.conflict().is_some() || trio.old == trio.new {
            return;
        }
        let shown = shows(Some(trio.upper), trio.new);
        let Some(new) = trio.new else {
            // What the version removed is not there, or is the user's directory,
            // whose content speaks for itself.
            let is_directory = shown.is_none_or(|shown| shown.kind == Kind::Directory);
            assert!(is_directory, "{trio:?}");
            return;
        };
        let shown = shown.unwrap_or_else(|| panic!("{trio:?}"));
        assert_eq!(shown.kind, new.kind, "{trio:?}");
        let user_owns = trio.old.is_some_and(|old| old.owner == new.owner);
        assert!(shown.owner == new.owner || user_owns, "{trio:?}");
        if shown.kind != Kind::Directory {
            let version_left_content = trio.old.is_some_and(|old| old.is_like(&new));
            assert!(
                shown.content == new.content || version_left_content,
                "{trio:?}"
            );
        }
    });
}

#[test]
fn the_walk_goes_on_where_more_can_clash() {
    for (text, verdict, goes_on) in [
        ("d0a d0a d0a", None, true),
        ("d0a d0a -  ", None, true),
        ("-   d0a d0a", None, true),
        ("-   d0a -  ", None, false),
        ("d0a d0a f1a", Some(Verdict::Take(SetAside)), false),
        ("d0a d0a f1a", Some(Verdict::Keep(Some(OfferNew))), false),
        ("d0a D2a d0a", None, false),
        ("d0a D2a d1a", Some(Verdict::Keep(None)), false),
        ("d0a D2a d1a", Some(Verdict::Refuse), false),
        ("d0a D2a d1a", Some(Verdict::Take(Unhide)), true),
        ("f0a f2a f1a", Some(Verdict::Take(SetAside)), false),
        ("d0a w   d1a", Some(Verdict::Take(Unhide)), false),
    ] {
        assert_eq!(trio(text).goes_on_below(verdict), goes_on, "{text}");
    }
}
