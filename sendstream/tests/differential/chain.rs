//! A tree's versions, sent in every way and received by everyone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fmt, fs};

use op_dbus_btrfs::snapshot;
use op_dbus_loopback::{Volume, run};

use crate::compare::report;
use crate::lab::{Backing, Lab};
use crate::progs;
use crate::receiver::Receiver;
use crate::target::{Target, clear};

/// Kinds of streams, by the options of `btrfs send`.
const KINDS: [(&str, &[&str]); 3] = [
    ("v1", &["--proto", "1"]),
    ("v2", &["--proto", "2"]),
    ("v2 compressed", &["--proto", "2", "--compressed-data"]),
];

/// Whether to be thorough: `make test-differential` is, a quick run is not.
pub(crate) fn complete() -> bool {
    env::var_os("OP_DBUS_COMPLETE").is_some()
}

/// The first so many of a list; all of it when there is time.
pub(crate) fn some<T>(quick: usize, list: &[T]) -> &[T] {
    if complete() { list } else { &list[..quick] }
}

/// What a chain is made on and received on.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// Mount options of the file system that sends, with a leading comma.
    pub(crate) source: &'static str,
    /// Likewise of those that receive.
    pub(crate) target: &'static str,
    /// Size of each file system.
    pub(crate) mib: u64,
    pub(crate) backing: Backing,
}

impl Setup {
    pub(crate) const fn new(source: &'static str) -> Self {
        Self {
            source,
            target: "",
            mib: 512,
            backing: Backing::Memory,
        }
    }

    fn compresses(self) -> bool {
        self.source.contains("compress")
    }
}

/// What was covered.
#[derive(Default)]
struct Covered {
    streams: u64,
    paths: u64,
    compared: u64,
    /// How often `btrfs receive` itself did not make what was sent.
    faults: BTreeMap<&'static str, u64>,
    took: BTreeMap<String, Duration>,
}

impl fmt::Display for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (streams, paths, compared) = (self.streams, self.paths, self.compared);
        write!(
            f,
            "{streams} streams, {paths} paths, {compared} comparisons;"
        )?;
        for (who, took) in &self.took {
            write!(f, " {who} {:.1} s", took.as_secs_f64())?;
        }
        for (fault, times) in &self.faults {
            write!(f, "; btrfs receive: {fault}, {times} times")?;
        }
        Ok(())
    }
}

/// A tree that grows from version to version.
pub(crate) struct Chain {
    setup: Setup,
    source: Volume,
    versions: Vec<PathBuf>,
    title: String,
    covered: Covered,
    /// Last, because its directory goes after what is mounted in it.
    lab: Lab,
}

impl Chain {
    /// None without root.
    pub(crate) fn new(title: &str, setup: Setup) -> Option<Self> {
        let lab = Lab::new(setup.backing)?;
        let source = lab.volume("source", setup.mib, setup.source);
        op_dbus_btrfs::create_subvolume(&source.path("work")).unwrap();
        Some(Self {
            lab,
            setup,
            source,
            versions: Vec::new(),
            title: title.to_owned(),
            covered: Covered::default(),
        })
    }

    /// The tree to change.
    pub(crate) fn work(&self) -> PathBuf {
        self.source.path("work")
    }

    /// A file beside the file systems.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.lab.path(name)
    }

    /// The version before the tree as it is now.
    pub(crate) fn last(&self) -> Option<&Path> {
        self.versions.last().map(PathBuf::as_path)
    }

    /// Makes the tree as it is now the next version.
    pub(crate) fn version(&mut self) {
        let path = self.source.path(&format!("v{}", self.versions.len()));
        self.source.sync();
        snapshot(&self.work(), &path, true).unwrap();
        self.source.sync();
        self.versions.push(path);
    }

    /// Sends every version, receives it with everyone, and compares. Panics
    /// with all differences of the first stream that has any.
    pub(crate) fn verify(self) {
        self.verify_with(&Receiver::all());
    }

    /// Likewise with ours alone, against what was sent: for trees that
    /// `btrfs receive` gets wrong.
    pub(crate) fn verify_ours(self) {
        self.verify_with(&[Receiver::Ours]);
    }

    fn verify_with(mut self, receivers: &[Receiver]) {
        let mut targets: Vec<_> = receivers
            .iter()
            .copied()
            .map(|receiver| Target::new(&self.lab, self.setup, receiver))
            .collect();
        for (kind, options) in KINDS {
            // Without compressed data this is the stream before once more.
            let again = options.contains(&"--compressed-data") && !self.setup.compresses();
            if again && !complete() {
                continue;
            }
            // Each on top of the one before, then the last one on its own.
            let last = self.versions.len() - 1;
            for number in 0..=last {
                self.step(kind, options, &mut targets, number, number.checked_sub(1));
            }
            clear(&targets);
            if last > 0 {
                self.step(kind, options, &mut targets, last, None);
                clear(&targets);
            }
        }
        println!("{}: {}", self.title, self.covered);
    }

    fn step(
        &mut self,
        kind: &str,
        options: &[&str],
        targets: &mut [Target],
        number: usize,
        parent: Option<usize>,
    ) {
        for (round, stream) in self.streams(options, number, parent).iter().enumerate() {
            // Another btrfs-progs made another stream: the version is there already.
            if round > 0 {
                for target in targets.iter() {
                    target.remove(&format!("v{number}"));
                }
            }
            let title = format!(
                "{}: {kind} stream of version {number}{}",
                self.title,
                parent.map_or_else(String::new, |parent| format!(" from {parent}"))
            );
            self.receive(&title, stream, targets, number, parent);
        }
    }

    /// The streams of a version; two btrfs-progs mostly make the same one.
    fn streams(&self, options: &[&str], number: usize, parent: Option<usize>) -> Vec<PathBuf> {
        let mut streams: Vec<PathBuf> = Vec::new();
        for progs in progs::all() {
            let path = self.lab.path(&format!("stream-{}", progs.version));
            let mut command = progs.command();
            command.arg("send").args(options).arg("-f").arg(&path);
            if let Some(parent) = parent {
                command.arg("-p").arg(&self.versions[parent]);
            }
            let _ = fs::remove_file(&path);
            run(command.arg(&self.versions[number]));
            if !streams.iter().any(|other| same_file(other, &path)) {
                streams.push(path);
            }
        }
        streams
    }

    fn receive(
        &mut self,
        title: &str,
        stream: &Path,
        targets: &mut [Target],
        number: usize,
        parent: Option<usize>,
    ) {
        let [name, base] = [Some(number), parent].map(|number| number.map(|n| format!("v{n}")));
        let name = name.unwrap_or_default();
        if let Some(keep) = env::var_os("OP_DBUS_KEEP") {
            fs::copy(stream, Path::new(&keep).join(title)).unwrap();
        }
        for target in targets.iter_mut() {
            let who = target.receiver.name();
            if let Err(why) = target.receive(stream, &name, base.as_deref()) {
                panic!("{title}: {who}: {why}");
            }
            *self.covered.took.entry(who).or_default() += target.took();
        }
        let (reference, others) = targets.split_first().unwrap();
        let sent = &self.versions[number];
        let faults = reference.faults(title, &name, sent);
        self.covered.streams += 1;
        self.covered.paths += count(sent);
        for (fault, _) in &faults {
            *self.covered.faults.entry(fault).or_default() += 1;
        }
        for target in others {
            let found = target.differences(reference, &name, &faults);
            self.covered.compared += 1;
            assert!(
                found.is_empty(),
                "{title}: {} differs from {}:{}",
                target.receiver.name(),
                reference.receiver.name(),
                report(&found)
            );
        }
    }
}

fn count(path: &Path) -> u64 {
    let children = crate::look::names(path);
    let below = children.iter().map(|name| {
        let child = path.join(name);
        let directory = fs::symlink_metadata(&child).unwrap().is_dir();
        if directory { count(&child) } else { 1 }
    });
    1 + below.sum::<u64>()
}

fn same_file(left: &Path, right: &Path) -> bool {
    fs::read(left).unwrap() == fs::read(right).unwrap()
}
