//! Each folder `golden/NN-name/` holds a host's `root/`, and what the generator
//! makes of it: `expected/`, the output directory, and `notes`, what it reports.
//! It runs twice over the same output, since systemd runs it again at every
//! daemon-reload. `UPDATE_GOLDEN=1` writes down what it does now.

// Helpers are outside of test functions, where the lints would not see a test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A tree as path → content; links as `-> target`.
type Tree = BTreeMap<String, String>;

fn read_tree(directory: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        let Ok(entries) = fs::read_dir(&next) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(directory).unwrap().display().to_string();
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                tree.insert(name, format!("-> {}", target.display()));
            } else {
                tree.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    tree
}

fn write_tree(directory: &Path, tree: &Tree) {
    let _ = fs::remove_dir_all(directory);
    for (name, content) in tree {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content.strip_prefix("-> ") {
            Some(target) => symlink(target, path).unwrap(),
            None => fs::write(path, content).unwrap(),
        }
    }
}

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    cases
}

#[test]
fn emits_what_is_written_down_each_time_it_runs() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let cases = cases();
    assert!(cases.len() >= 12, "{cases:?}");
    for case in cases {
        let root = case.join("root");
        let output = tempfile::tempdir().unwrap();
        let run = || {
            let notes = op_dbus_systemd_generator::run(&root, output.path());
            let mut notes = notes.join("\n");
            if !notes.is_empty() {
                notes.push('\n');
            }
            let notes = notes.replace(&root.display().to_string(), "");
            (read_tree(output.path()), notes)
        };
        let (tree, notes) = run();
        if update {
            write_tree(&case.join("expected"), &tree);
            fs::write(case.join("notes"), &notes).unwrap();
        }
        let name = case.display();
        assert_eq!(tree, read_tree(&case.join("expected")), "{name}");
        assert_eq!(
            notes,
            fs::read_to_string(case.join("notes")).unwrap(),
            "{name}"
        );
        assert_eq!(run(), (tree, notes), "{name}: second run");
    }
}

#[test]
fn the_program_never_fails_the_boot() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/03-initrd-activated/root");
    // An output directory that can't be made: the worst that can happen to it.
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_op-dbus-generator"))
        .args(["/proc/no-such-directory", "/proc", "/proc"])
        .env("OP_DBUS_GENERATOR_ROOT", root)
        .output()
        .unwrap();
    assert!(status.status.success());
    let message = String::from_utf8(status.stderr).unwrap();
    assert!(
        message.contains("write /proc/no-such-directory"),
        "{message}"
    );
}
