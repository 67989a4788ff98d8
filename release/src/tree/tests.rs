use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use op_dbus_bootstate::Digest;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use sha2::{Digest as _, Sha256};

use super::batch::Reading;
use super::*;

fn sample() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir(at("b")).unwrap();
    fs::write(at("b/file"), "content").unwrap();
    symlink("b/file", at("a")).unwrap();
    for (path, mode) in [("", 0o755), ("b", 0o750), ("b/file", 0o640)] {
        fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    dir
}

fn keep(root: &Path) -> Found {
    digest(root, Cache::Keep).unwrap()
}

fn with(root: &Path, threads: usize) -> Found {
    walk::tree(root, Reading::Content(Cache::Keep), threads).unwrap()
}

/// Some entries only root can make.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root for devices and capabilities");
    }
    root
}

fn node(path: &Path, kind: FileType, major: u32, minor: u32) {
    let number = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(CWD, path, kind, Mode::from(0o600), number).unwrap();
}

/// Version 2, effective, `cap_net_bind_service`.
fn make_capable(path: &Path) {
    let value = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(path, "security.capability", &value, XattrFlags::empty()).unwrap();
}

/// The format once more, written down entry by entry.
#[test]
fn the_hash_is_over_what_the_format_says() {
    let dir = sample();
    let owner = fs::metadata(dir.path()).unwrap();
    let content = Sha256::digest("content");
    let mut expected = b"op-dbus tree 2\n".to_vec();
    for (letter, mode, path, length, rest) in [
        (b'd', 0o755_u32, "", None, &b""[..]),
        (b'l', 0o777, "a", Some(6_u64), b"b/file"),
        (b'd', 0o750, "b", None, b""),
        (b'f', 0o640, "b/file", Some(7), &content),
    ] {
        expected.push(letter);
        for number in [mode, owner.uid(), owner.gid()] {
            expected.extend(number.to_le_bytes());
        }
        expected.extend((path.len() as u64).to_le_bytes());
        expected.extend(path.as_bytes());
        expected.extend(0_u32.to_le_bytes());
        expected.extend(length.into_iter().flat_map(u64::to_le_bytes));
        expected.extend(rest);
    }
    let tree = keep(dir.path()).tree;
    assert_eq!(tree.digest, Digest(Sha256::digest(expected).into()));
    assert_eq!((tree.bytes, tree.entries), (7, 4));
}

#[test]
fn attributes_and_device_numbers_are_in_the_format() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let path = dir.path().join("null");
    node(&path, FileType::CharacterDevice, 1, 3);
    rustix::fs::lsetxattr(&path, "trusted.b", b"", XattrFlags::empty()).unwrap();
    rustix::fs::lsetxattr(&path, "trusted.a", b"xy", XattrFlags::empty()).unwrap();
    rustix::fs::lsetxattr(&path, "security.selinux", b"label", XattrFlags::empty()).unwrap();
    let mut expected = b"op-dbus tree 2\n".to_vec();
    let number = |out: &mut Vec<u8>, numbers: &[u32]| {
        out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    };
    let text = |out: &mut Vec<u8>, text: &[u8]| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text);
    };
    expected.push(b'd');
    number(&mut expected, &[0o700, 0, 0]);
    text(&mut expected, b"");
    number(&mut expected, &[0]);
    expected.push(b'c');
    number(&mut expected, &[0o600, 0, 0]);
    text(&mut expected, b"null");
    number(&mut expected, &[2]);
    for part in [&b"trusted.a"[..], b"xy", b"trusted.b", b""] {
        text(&mut expected, part);
    }
    number(&mut expected, &[1, 3]);
    let found = keep(dir.path());
    assert_eq!(found.tree.digest, Digest(Sha256::digest(expected).into()));
}

#[test]
fn every_change_of_content_counts_and_time_does_not() {
    type Change = fn(&Path);
    let base = keep(sample().path()).tree.digest;
    let again = keep(sample().path()).tree.digest;
    assert_eq!(again, base, "another directory and time");
    let changes: [Change; 9] = [
        |dir| fs::write(dir.join("b/file"), "Content").unwrap(),
        |dir| fs::write(dir.join("b/file"), "content ").unwrap(),
        |dir| fs::write(dir.join("b/file"), "").unwrap(),
        |dir| fs::write(dir.join("c"), "").unwrap(),
        |dir| fs::rename(dir.join("b/file"), dir.join("b/File")).unwrap(),
        |dir| fs::set_permissions(dir.join("b"), fs::Permissions::from_mode(0o755)).unwrap(),
        |dir| {
            let path = dir.join("b/file");
            rustix::fs::setxattr(path, "user.kind", b"", XattrFlags::empty()).unwrap();
        },
        |dir| {
            fs::remove_file(dir.join("a")).unwrap();
            symlink("b", dir.join("a")).unwrap();
        },
        |dir| {
            // A file that holds what the link says.
            fs::remove_file(dir.join("a")).unwrap();
            fs::write(dir.join("a"), "b/file").unwrap();
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let dir = sample();
        change(dir.path());
        let moved = keep(dir.path()).tree.digest;
        assert_ne!(moved, base, "change {index}");
    }
}

/// More batches than are under way at a time, of every way a batch gets full.
fn forest() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for branch in 0..60 {
        let branch = dir.path().join(format!("branch-{branch:02}/twig"));
        fs::create_dir_all(&branch).unwrap();
        fs::write(branch.join("leaf"), format!("{}", branch.display())).unwrap();
    }
    let flat = dir.path().join("flat");
    fs::create_dir(&flat).unwrap();
    for file in 0..6000 {
        fs::write(flat.join(format!("{file}")), vec![7; file % 300]).unwrap();
    }
    for file in 0..3 {
        let content: Vec<u8> = (0_u32..270_000 + file).flat_map(u32::to_le_bytes).collect();
        fs::write(dir.path().join(format!("large-{file}")), content).unwrap();
    }
    dir
}

#[test]
fn any_number_of_threads_finds_the_same() {
    let dir = forest();
    // The paths of the files in `branch-*` differ from one temporary directory
    // to the next, so only runs over this one are compared.
    let one = with(dir.path(), 1);
    assert_eq!(one.tree.entries, 1 + 60 * 3 + 1 + 6000 + 3);
    for threads in [2, 3, 8] {
        assert_eq!(with(dir.path(), threads), one, "{threads} threads");
    }
    for change in ["branch-59/twig/leaf", "flat/5999", "large-0", "large-2"] {
        let path = dir.path().join(change);
        let before = fs::read(&path).unwrap();
        let mut after = before.clone();
        *after.last_mut().unwrap() ^= 1;
        fs::write(&path, after).unwrap();
        let (one, many) = (with(dir.path(), 1), with(dir.path(), 3));
        assert_eq!(one, many, "{change}");
        fs::write(&path, before).unwrap();
        assert_ne!(one.tree.digest, with(dir.path(), 3).tree.digest, "{change}");
    }
}

#[test]
fn what_needs_permission_is_found_with_and_without_reading_content() {
    if !is_root() {
        return;
    }
    let dir = sample();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir(at("z")).unwrap();
    node(&at("z/null"), FileType::CharacterDevice, 1, 3);
    node(&at("z/disk"), FileType::BlockDevice, 7, 0);
    node(&at("z/pipe"), FileType::Fifo, 0, 0);
    for (path, mode) in [
        ("su", 0o4755),
        ("wall", 0o2755),
        ("both", 0o4755),
        ("ping", 0o755),
    ] {
        fs::write(at(path), "").unwrap();
        fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(at("z"), fs::Permissions::from_mode(0o2775)).unwrap();
    make_capable(&at("both"));
    make_capable(&at("ping"));
    let privileged = |path: &str, kind| Privileged {
        path: path.into(),
        kind,
    };
    let expected = [
        privileged("both", Kind::Capability),
        privileged("both", Kind::Setuid),
        privileged("ping", Kind::Capability),
        privileged("su", Kind::Setuid),
        privileged("wall", Kind::Setuid),
        privileged("z/disk", Kind::Device),
        privileged("z/null", Kind::Device),
    ];
    assert_eq!(keep(dir.path()).privileged, expected);
    assert_eq!(survey(dir.path()).unwrap(), expected);
}

#[test]
fn more_privileged_entries_than_a_manifest_can_list_are_an_error() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for index in 0..=PRIVILEGED_MAX {
        node(
            &dir.path().join(index.to_string()),
            FileType::CharacterDevice,
            1,
            3,
        );
    }
    let why = survey(dir.path()).unwrap_err().to_string();
    assert!(why.contains("more than 12288 privileged entries"), "{why}");
    fs::remove_file(dir.path().join("0")).unwrap();
    assert_eq!(survey(dir.path()).unwrap().len(), PRIVILEGED_MAX);
}

#[test]
fn an_error_names_the_entry_whichever_thread_met_it() {
    let dir = forest();
    let mut path = dir.path().join("flat");
    for _ in 0..DEPTH_MAX {
        path.push("d");
        fs::create_dir(&path).unwrap();
    }
    for threads in [1, 2, 8] {
        let found = walk::tree(dir.path(), Reading::Content(Cache::Keep), threads);
        let error = found.unwrap_err();
        assert_eq!(error.path, path, "{threads} threads");
    }
    fs::remove_dir(&path).unwrap();
    with(dir.path(), 2);
}

#[test]
fn a_tree_that_is_none_is_an_error() {
    assert!(digest(Path::new("/nonexistent"), Cache::Keep).is_err());
    let dir = sample();
    assert!(digest(&dir.path().join("b/file"), Cache::Keep).is_err());
    let link = dir.path().join("link");
    symlink("b", &link).unwrap();
    assert!(
        digest(&link, Cache::Keep).is_err(),
        "a link is not followed"
    );
}

#[test]
fn attributes_count_unless_they_are_the_device_s_own() {
    for name in [
        c"user.kind",
        c"security.capability",
        c"system.posix_acl_access",
    ] {
        assert!(attributes::counts(name), "{name:?}");
    }
    for name in [
        c"btrfs.compression",
        c"security.selinux",
        c"security.SMACK64EXEC",
        c"security.ima",
    ] {
        assert!(!attributes::counts(name), "{name:?}");
    }
}
