//! Layers in memory, and an overlay as the kernel shows it: what carrying out a
//! plan comes to must be what the policy says, whatever is in the layers.

use std::collections::BTreeMap;
use std::io;

use op_dbus_activator::overlay::plan::Action;
use proptest::prelude::*;

use super::Shared;
use super::classify::{Clash, Entry, Kind, Owner, Policy, Trio, Upper, Verdict};
use super::lint::{Finding, Findings, conflicts};
use super::policy::Policies;
use super::walk::{Layers, Look, Names, Seen};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Item {
    kind: Kind,
    content: u8,
    owner: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Whiteout,
    Opaque,
    Plain,
}

/// By path; everything lies in a directory that is there.
type Tree = BTreeMap<String, Item>;
type Over = BTreeMap<String, (Mark, Item)>;

fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn is_at_or_below(path: &str, top: &str) -> bool {
    path == top || is_below(path, top)
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn below(tree: &Tree, top: &str) -> Tree {
    let inside = tree.iter().filter(|(path, _)| is_at_or_below(path, top));
    inside
        .map(|(path, item)| (path[top.len()..].to_owned(), *item))
        .collect()
}

/// What an overlay shows over a tree.
fn merged(upper: &Over, lower: &Tree) -> Tree {
    let hides = |path: &str| {
        let at_or_above = parents(path)
            .chain([path])
            .filter_map(|path| upper.get(path).map(|(mark, item)| (path, mark, item)));
        let mut at_or_above = at_or_above.map(|(at, mark, item)| {
            *mark == Mark::Whiteout
                || at == path
                || *mark == Mark::Opaque
                || item.kind != Kind::Directory
        });
        at_or_above.any(|hides| hides)
    };
    let mut shown: Tree = lower
        .iter()
        .filter(|(path, _)| !hides(path))
        .map(|(path, item)| (path.clone(), *item))
        .collect();
    let own = upper
        .iter()
        .filter(|(_, (mark, _))| *mark != Mark::Whiteout);
    shown.extend(own.map(|(path, (_, item))| (path.clone(), *item)));
    shown
}

/// The layers of a case.
#[derive(Debug, Clone)]
struct World {
    old: Tree,
    upper: Over,
    new: Tree,
}

/// Whether two trees have the same content at a path.
fn are_same(one: Option<(&Tree, Item)>, other: Option<(&Tree, Item)>, path: &str) -> bool {
    let (Some((one_tree, one)), Some((other_tree, other))) = (one, other) else {
        return false;
    };
    one.kind == other.kind
        && match one.kind {
            Kind::Directory => {
                let inside = |tree: &Tree| {
                    let mut inside = below(tree, path);
                    inside.remove("");
                    inside
                };
                inside(one_tree) == inside(other_tree)
            }
            _ => one.content == other.content,
        }
}

impl World {
    fn trio(&self, path: &str) -> Trio {
        let (mark, mine) = self.upper[path];
        let entry = |item: Item, content| Entry {
            kind: item.kind,
            content,
            owner: Owner {
                uid: item.owner,
                gid: 0,
                mode: 0,
            },
        };
        let is_merged = mark == Mark::Plain && mine.kind == Kind::Directory;
        let (old, new) = (self.old.get(path).copied(), self.new.get(path).copied());
        let both_merged = |one: Option<Item>, other: Option<Item>| {
            let is_directory =
                |item: Option<Item>| item.is_some_and(|item| item.kind == Kind::Directory);
            is_merged && is_directory(one) && is_directory(other)
        };
        let in_old = old.map(|item| (&self.old, item));
        let in_new = new.map(|item| (&self.new, item));
        let new_is_old = both_merged(old, new) || are_same(in_old, in_new, path);
        let is_like = |item: Option<Item>| {
            item.is_some_and(|item| {
                item.kind == mine.kind && (is_merged || item.content == mine.content)
            })
        };
        let upper = match mark {
            Mark::Whiteout => Upper::Whiteout,
            Mark::Opaque => Upper::Opaque(entry(mine, 2)),
            Mark::Plain if is_like(old) => Upper::Plain(entry(mine, 0)),
            Mark::Plain if !new_is_old && is_like(new) => Upper::Plain(entry(mine, 1)),
            Mark::Plain => Upper::Plain(entry(mine, 2)),
        };
        Trio {
            old: old.map(|old| entry(old, 0)),
            upper,
            new: new.map(|new| entry(new, u8::from(!new_is_old))),
        }
    }

    fn free(&self, path: &str, ending: &str) -> String {
        let first = format!("{path}{ending}");
        let others = (1..).map(|number| format!("{path}{ending}-{number}"));
        let is_free = |name: &String| !self.upper.contains_key(name);
        std::iter::once(first).chain(others).find(is_free).unwrap()
    }

    /// Carries out what the findings ask for. Returns what was put beside as new.
    fn carry_out(&mut self, findings: &Findings) -> BTreeMap<String, String> {
        let mut offered = BTreeMap::new();
        for finding in &findings.list {
            let path = text(finding);
            let (Verdict::Take(action) | Verdict::Keep(Some(action))) = finding.verdict else {
                continue;
            };
            match action {
                Action::SetAside => {
                    let aside = self.free(path, ".mine");
                    let moved: Vec<_> = self
                        .upper
                        .keys()
                        .filter(|inside| is_at_or_below(inside, path))
                        .cloned()
                        .collect();
                    for from in moved {
                        let what = self.upper.remove(&from).unwrap();
                        self.upper
                            .insert(format!("{aside}{}", &from[path.len()..]), what);
                    }
                }
                Action::Unhide => match self.upper[path] {
                    (Mark::Whiteout, _) => {
                        self.upper.remove(path);
                    }
                    (Mark::Opaque, item) => {
                        self.upper.insert(path.to_owned(), (Mark::Plain, item));
                    }
                    (Mark::Plain, _) => panic!("{path}: nothing is hidden"),
                },
                Action::OfferNew => {
                    let beside = self.free(path, ".new");
                    assert_ne!(self.new[path].kind, Kind::Directory);
                    self.upper
                        .insert(beside.clone(), (Mark::Plain, self.new[path]));
                    offered.insert(path.to_owned(), beside);
                }
                Action::TakeOwner => {
                    let owner = self.new[path].owner;
                    self.upper.get_mut(path).unwrap().1.owner = owner;
                }
            }
        }
        offered
    }
}

fn text(finding: &Finding) -> &str {
    std::str::from_utf8(&finding.path).unwrap()
}

impl Layers for World {
    type Dir = String;

    fn names(&mut self, dir: &String, _: u64, _: usize) -> io::Result<Names> {
        let inside = |path: &String| {
            let name = match dir.as_str() {
                "" => path,
                dir => path.strip_prefix(dir)?.strip_prefix('/')?,
            };
            (!name.contains('/')).then(|| Box::from(name.as_bytes()))
        };
        Ok(Names {
            names: self.upper.keys().filter_map(inside).collect(),
            is_cut: false,
        })
    }

    fn look(&mut self, dir: &String, name: &[u8]) -> io::Result<Option<Seen>> {
        let path = join(dir, name);
        Ok(Some(Seen {
            trio: self.trio(&path),
            looks: [Look::default(); 3],
        }))
    }

    fn enter(&mut self, dir: &String, name: &[u8]) -> io::Result<Option<String>> {
        Ok(Some(join(dir, name)))
    }
}

fn join(dir: &str, name: &[u8]) -> String {
    let name = std::str::from_utf8(name).unwrap();
    match dir {
        "" => name.to_owned(),
        dir => format!("{dir}/{name}"),
    }
}

/// Puts something at a path, in directories, in place of what was there.
fn put<T: Copy>(
    tree: &mut BTreeMap<String, T>,
    path: &str,
    what: T,
    dir: T,
    is_dir: impl Fn(T) -> bool,
) {
    for above in parents(path).map(str::to_owned).collect::<Vec<_>>() {
        if !tree.get(&above).is_some_and(|found| is_dir(*found)) {
            tree.insert(above, dir);
        }
    }
    tree.retain(|found, _| !is_below(found, path) || is_dir(what));
    tree.insert(path.to_owned(), what);
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|parts| parts.join("/"))
}

fn item() -> impl Strategy<Value = Item> {
    let kind = prop::sample::select(vec![Kind::File, Kind::File, Kind::Directory, Kind::Link]);
    (kind, 0..3_u8, 0..3_u32).prop_map(|(kind, content, owner)| Item {
        kind,
        content: if kind == Kind::Directory { 0 } else { content },
        owner,
    })
}

const DIR: Item = Item {
    kind: Kind::Directory,
    content: 0,
    owner: 0,
};

fn world() -> impl Strategy<Value = World> {
    let is_dir = |item: Item| item.kind == Kind::Directory;
    let old = proptest::collection::vec((path(), item()), 0..10);
    let changed = proptest::collection::vec((path(), proptest::option::of(item())), 0..5);
    let mark = prop::sample::select(vec![Mark::Plain, Mark::Plain, Mark::Opaque, Mark::Whiteout]);
    let upper = proptest::collection::vec((path(), mark, item(), any::<bool>()), 0..8);
    (old, changed, upper).prop_map(move |(items, changed, marks)| {
        let mut old = Tree::new();
        for (path, item) in items {
            put(&mut old, &path, item, DIR, is_dir);
        }
        let mut new = old.clone();
        for (path, item) in changed {
            match item {
                Some(item) => put(&mut new, &path, item, DIR, is_dir),
                None => new.retain(|found, _| !is_at_or_below(found, &path)),
            }
        }
        let mut upper = Over::new();
        for (path, mark, item, is_copy) in marks {
            // Most of what an overlay has began as a copy.
            let item = old.get(&path).copied().filter(|_| is_copy).unwrap_or(item);
            let mark = match item.kind {
                Kind::Directory => mark,
                _ if mark == Mark::Opaque => Mark::Plain,
                _ => mark,
            };
            put(
                &mut upper,
                &path,
                (mark, item),
                (Mark::Plain, DIR),
                |(mark, item)| mark != Mark::Whiteout && is_dir(item),
            );
        }
        World { old, upper, new }
    })
}

/// Checks one case under one set of policies.
fn check(world: &World, policies: &Policies) -> Result<(), TestCaseError> {
    let findings = conflicts(
        &mut world.clone(),
        &String::new(),
        policies,
        &Shared::default(),
    );
    prop_assert_eq!(findings.unseen.count, 0);
    let mut after = world.clone();
    let offered = after.carry_out(&findings);
    let before = merged(&world.upper, &world.new);
    let shown = merged(&after.upper, &after.new);
    for finding in &findings.list {
        let path = text(finding);
        let new = world.new.get(path);
        match finding.verdict {
            Verdict::Refuse => {
                prop_assert_eq!(shown.get(path), before.get(path), "{}", path);
            }
            Verdict::Keep(action) => {
                prop_assert_eq!(shown.get(path), before.get(path), "{}", path);
                prop_assert_eq!(action.is_some(), offered.contains_key(path));
                if let Some(beside) = offered.get(path) {
                    prop_assert_eq!(shown.get(beside), new, "{}", beside);
                }
            }
            Verdict::Take(Action::SetAside) => {
                prop_assert_eq!(below(&shown, path), below(&world.new, path), "{}", path);
            }
            Verdict::Take(Action::Unhide) if world.upper[path].0 == Mark::Whiteout => {
                prop_assert_eq!(below(&shown, path), below(&world.new, path), "{}", path);
            }
            Verdict::Take(Action::TakeOwner) => {
                let owner = |item: Option<&Item>| item.map(|item| (item.kind, item.owner));
                prop_assert_eq!(owner(shown.get(path)), owner(new), "{}", path);
            }
            Verdict::Take(_) => {
                let kind = |item: Option<&Item>| item.map(|item| item.kind);
                prop_assert_eq!(kind(shown.get(path)), kind(new), "{}", path);
            }
        }
    }
    // Nothing of the user's is lost.
    for content in 0..3 {
        let count = |upper: &Over| {
            let files = upper.values().filter(|(mark, item)| {
                *mark != Mark::Whiteout && item.kind != Kind::Directory && item.content == content
            });
            files.count()
        };
        prop_assert!(count(&after.upper) >= count(&world.upper));
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_user_s_stays_where_the_user_s_is_to_stay(world in world()) {
        check(&world, &Policies::only(Policy::KeepMine))?;
        let findings = conflicts(&mut world.clone(), &String::new(), &Policies::only(Policy::KeepMine), &Shared::default());
        let mut after = world.clone();
        after.carry_out(&findings);
        let (before, shown) = (merged(&world.upper, &world.new), merged(&after.upper, &after.new));
        // Only what is nobody's gives way.
        let stale = |path: &str| findings.list.iter().any(|finding| {
            finding.clash == Clash::StaleCopy && text(finding) == path
        });
        for path in world.upper.keys().filter(|path| !stale(path)) {
            prop_assert_eq!(shown.get(path), before.get(path), "{}", path);
        }
    }

    #[test]
    fn the_version_s_shows_where_the_version_s_is_to_show(world in world()) {
        check(&world, &Policies::only(Policy::TakeNew))?;
        let findings = conflicts(&mut world.clone(), &String::new(), &Policies::only(Policy::TakeNew), &Shared::default());
        let mut after = world.clone();
        after.carry_out(&findings);
        let shown = merged(&after.upper, &after.new);
        for (path, new) in &world.new {
            let like = |item: Option<&Item>| item.map(|item| (item.kind, item.content));
            // What the version brought, or changed the content of.
            if like(world.old.get(path)) != like(Some(new)) {
                prop_assert_eq!(like(shown.get(path)), like(Some(new)), "{}", path);
            }
        }
        for (path, old) in &world.old {
            // What the version dropped is gone, but for directories of the user's.
            if old.kind != Kind::Directory && !world.new.contains_key(path) {
                let left = shown.get(path).filter(|item| item.kind != Kind::Directory);
                prop_assert_eq!(left, None, "{}", path);
            }
        }
    }

    #[test]
    fn each_path_goes_by_its_own_policy(world in world()) {
        let policies = Policies::parse(
            "[lint]\ndefault = \"keep-mine\"\n[[lint.rule]]\npath = \"a\"\npolicy = \"refuse\"\n\
             [[lint.rule]]\npath = \"{a,b}/**\"\npolicy = \"take-new\"\n",
        ).unwrap();
        check(&world, &policies)?;
    }
}
