//! The two btrfs-progs whose streams we take and whose receiver we equal.
//!
//! One is the host's. Another comes from a Debian root: one that the virtual
//! machine tests have cached, else one that mmdebstrap makes (only when
//! `OP_DBUS_MMDEBSTRAP` is set, for it downloads). Such a program runs by its own
//! loader with its own libraries.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use op_dbus_loopback::run;

/// Version as `btrfs --version` tells it, and the suite that has it.
const WANTED: [(&str, &str); 2] = [("6.2", "bookworm"), ("6.14", "trixie")];

/// A btrfs-progs.
#[derive(Debug, Clone)]
pub(crate) struct Progs {
    pub(crate) version: &'static str,
    command: Vec<PathBuf>,
}

impl Progs {
    pub(crate) fn command(&self) -> Command {
        let (program, args) = self.command.split_first().unwrap();
        let mut command = Command::new(program);
        command.args(args).arg("-q");
        command
    }

    /// Whether it is what it is taken for.
    fn fits(&self) -> bool {
        let Some((program, args)) = self.command.split_first() else {
            return false;
        };
        let output = Command::new(program).args(args).arg("--version").output();
        output.is_ok_and(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let version = text.split_whitespace().nth(1).unwrap_or_default();
            let version = version.trim_start_matches('v');
            version
                .strip_prefix(self.version)
                .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
        })
    }
}

/// Every btrfs-progs at hand; says loudly which is not.
pub(crate) fn all() -> &'static [Progs] {
    static ALL: OnceLock<Vec<Progs>> = OnceLock::new();
    ALL.get_or_init(|| {
        let found: Vec<_> = WANTED
            .iter()
            .filter_map(|(version, suite)| {
                let found = find(version, suite);
                if found.is_none() {
                    eprintln!(
                        "NOT COVERED: btrfs-progs {version}; set OP_DBUS_MMDEBSTRAP=1 to get it \
                         with mmdebstrap from {suite}"
                    );
                }
                found
            })
            .collect();
        assert!(!found.is_empty(), "no btrfs-progs to compare with");
        found
    })
}

fn find(version: &'static str, suite: &str) -> Option<Progs> {
    let host = Progs {
        version,
        command: vec!["btrfs".into()],
    };
    if host.fits() {
        return Some(host);
    }
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("btrfs-progs-{version}"));
    let unpacked = Progs {
        version,
        command: in_root(&root).unwrap_or_default(),
    };
    if unpacked.fits() {
        return Some(unpacked);
    }
    let made = root.with_extension(std::process::id().to_string());
    let _ = fs::remove_dir_all(&made);
    fs::create_dir_all(&made).unwrap();
    if !from_cache(suite, &made) && !from_archive(suite, &made) {
        let _ = fs::remove_dir_all(&made);
        return None;
    }
    // Whole or not at all; another test program may have been quicker.
    let _ = fs::remove_dir_all(&root);
    let _ = fs::rename(&made, &root);
    let _ = fs::remove_dir_all(&made);
    let progs = Progs {
        version,
        command: in_root(&root)?,
    };
    progs.fits().then_some(progs)
}

/// How to run the program of another root.
fn in_root(root: &Path) -> Option<Vec<PathBuf>> {
    let libraries = fs::read_dir(root.join("usr/lib")).ok()?;
    let libraries = libraries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with("-linux-gnu"))?;
    let loader = fs::read_dir(&libraries)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"))
        })?;
    let program = ["usr/bin/btrfs", "bin/btrfs"]
        .iter()
        .map(|name| root.join(name))
        .find(|path| path.exists())?;
    Some(vec![loader, "--library-path".into(), libraries, program])
}

/// The directory in which `op-dbus-vm` keeps Debian roots.
pub(crate) fn cached_roots(suite: &str) -> Vec<PathBuf> {
    let home = env::var_os("HOME").unwrap_or_else(|| "/root".into());
    let cache =
        env::var_os("XDG_CACHE_HOME").map_or_else(|| Path::new(&home).join(".cache"), Into::into);
    let Ok(entries) = fs::read_dir(cache.join("op-dbus-vm")) else {
        return Vec::new();
    };
    let prefix = format!("root-{suite}-");
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path().join("root.tar.zst"))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found
}

fn from_cache(suite: &str, root: &Path) -> bool {
    cached_roots(suite).iter().any(|archive| {
        Command::new("tar")
            .args(["--zstd", "-xf"])
            .arg(archive)
            .arg("-C")
            .arg(root)
            .args([
                "--wildcards",
                "./usr/bin/btrfs",
                "./usr/lib/*-linux-gnu/*.so*",
            ])
            .output()
            .is_ok_and(|output| output.status.success())
    })
}

fn from_archive(suite: &str, root: &Path) -> bool {
    if env::var_os("OP_DBUS_MMDEBSTRAP").is_none() {
        return false;
    }
    run(Command::new("mmdebstrap")
        .args([
            "--variant=extract",
            "--include=btrfs-progs",
            "--quiet",
            suite,
        ])
        .arg(root));
    true
}
