//! Trees of real systems.

use std::fs;
use std::path::Path;
use std::process::Command;

use op_dbus_loopback::run;

use crate::chain::{Chain, Setup, some};
use crate::lab::Backing;
use crate::progs::cached_roots;

/// Directories of the machine that runs the test: small files, symlinks, hard
/// links and programs. The first is enough for a quick run.
const HOST: [&str; 3] = ["/etc", "/usr/share/zoneinfo", "/usr/share/perl"];

fn copy(from: &str, to: &Path) {
    if Path::new(from).exists() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        run(Command::new("cp")
            .args(["-a", "--reflink=never", from])
            .arg(to));
    }
}

#[test]
fn of_this_machine() {
    let Some(mut chain) = Chain::new("this machine", Setup::new(",compress=zstd")) else {
        return;
    };
    let work = chain.work();
    for path in some(1, &HOST) {
        copy(path, &work.join(&path[1..]));
    }
    chain.version();
    // As after an upgrade: gone, moved, new, and replaced by a new file of the same name.
    fs::remove_dir_all(work.join("etc/apt")).unwrap();
    fs::rename(work.join("etc/systemd"), work.join("systemd")).unwrap();
    copy("/usr/lib/udev", &work.join("etc/udev/shipped"));
    for name in ["passwd", "group", "services"] {
        let path = work.join("etc").join(name);
        let mut content = fs::read(&path).unwrap_or_default();
        content.extend(b"one more line\n");
        fs::write(work.join("etc/.new"), content).unwrap();
        fs::rename(work.join("etc/.new"), path).unwrap();
    }
    chain.version();
    chain.verify();
}

/// Two versions of a Debian root whose package sets differ.
#[test]
#[ignore = "takes minutes: make test-differential"]
fn of_debian() {
    for source in ["", ",compress=zstd"] {
        let setup = Setup {
            mib: 4096,
            backing: Backing::Disk,
            ..Setup::new(source)
        };
        let Some(mut chain) = Chain::new(&format!("Debian{source}"), setup) else {
            return;
        };
        let roots = cached_roots("bookworm");
        let work = chain.work();
        if let [one, two, ..] = roots.as_slice() {
            unpack(one, &work);
            chain.version();
            upgrade(&work, two);
        } else {
            let root = chain.beside("root.tar.zst");
            bootstrap(&root, "");
            unpack(&root, &work);
            chain.version();
            bootstrap(&root, "git,nano");
            upgrade(&work, &root);
        }
        chain.version();
        chain.verify();
    }
}

fn bootstrap(archive: &Path, packages: &str) {
    run(Command::new("mmdebstrap")
        .args([
            "--variant=minbase",
            "--quiet",
            &format!("--include={packages}"),
            "bookworm",
        ])
        .arg(archive));
}

fn unpack(archive: &Path, to: &Path) {
    run(Command::new("tar")
        .args([
            "--zstd",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "-xf",
        ])
        .arg(archive)
        .arg("-C")
        .arg(to));
}

/// Brings a tree to what an archive holds, as an upgrade does: files that stay
/// the same stay untouched.
fn upgrade(work: &Path, archive: &Path) {
    let new = tempfile::tempdir().unwrap();
    unpack(archive, new.path());
    sync(new.path(), work);
}

fn sync(from: &Path, to: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let names = [crate::look::names(from), crate::look::names(to)];
    for name in &names[1] {
        if names[0].binary_search(name).is_err() {
            let path = to.join(name);
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
    }
    for name in &names[0] {
        let (one, two) = (from.join(name), to.join(name));
        let meta = fs::symlink_metadata(&one).unwrap();
        let old = fs::symlink_metadata(&two).ok();
        let same_kind = old
            .as_ref()
            .is_some_and(|old| old.file_type() == meta.file_type());
        if same_kind && meta.is_dir() {
            sync(&one, &two);
            continue;
        }
        let facts = |meta: &fs::Metadata| (meta.size(), meta.mtime(), meta.mode());
        if same_kind && old.as_ref().map(facts) == Some(facts(&meta)) {
            continue;
        }
        if let Some(old) = old {
            if old.is_dir() {
                fs::remove_dir_all(&two).unwrap();
            } else {
                fs::remove_file(&two).unwrap();
            }
        }
        run(Command::new("cp")
            .args(["-a", "--reflink=never"])
            .args([&one, &two]));
    }
}
