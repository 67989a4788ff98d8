//! What is refused, before any work and without a trace.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use op_dbus_loopback::sh;

use crate::common::{Ended, PROGRAM};
use crate::fixture::{Site, names};

#[test]
fn a_version_is_never_replaced() {
    let Some(site) = Site::new() else { return };
    site.version("v1.0.0");
    let uuid = op_dbus_btrfs::info_of(&site.path("b/versions/v1.0.0"))
        .unwrap()
        .uuid;
    site.run(&["snapshot", "v1.0.0"])
        .failed(8, "never replaced");
    assert_eq!(
        op_dbus_btrfs::info_of(&site.path("b/versions/v1.0.0"))
            .unwrap()
            .uuid,
        uuid
    );
    assert!(op_dbus_btrfs::is_read_only(&site.path("b/versions/v1.0.0")).unwrap());
    // Whatever has the name.
    fs::create_dir(site.path("b/versions/v1.1.0")).unwrap();
    site.run(&["snapshot", "v1.1.0"])
        .failed(8, "is there already");
    std::os::unix::fs::symlink("x", site.path("b/versions/v1.2.0")).unwrap();
    site.run(&["snapshot", "v1.2.0"])
        .failed(8, "is there already");
}

#[test]
fn names_that_are_no_versions() {
    let Some(site) = Site::new() else { return };
    for name in ["1.2", "../x", "v1.0.0/..", "", "latest"] {
        for command in ["snapshot", "send"] {
            site.run(&[command, name])
                .failed(2, "see: op-dbus-stage --help");
        }
    }
    site.run(&["send", "v1.0.0", "--parent", "newest"])
        .failed(2, "is not a version name");
    site.run(&["send", "v1.0.0", "--level", "22"])
        .failed(2, "22");
    // What is said of a build directory is nothing a device is told.
    site.run(&["prune"]).failed(2, "--source");
    site.run(&["prune", "--published", "/x"])
        .failed(2, "--source");
    site.run(&["prune", "--source", "--keep", "0"])
        .failed(2, "--keep");
}

#[test]
fn a_release_is_never_overwritten() {
    let Some(site) = Site::new() else { return };
    site.version("v1.0.0");
    site.version("v1.1.0");
    fs::create_dir(site.path("b/releases")).unwrap();
    for name in [
        "v1.1.0.json",
        "v1.1.0.json.asc",
        "v1.1.0.sha256",
        "v1.1.0.btrfs.zst",
        "v1.1.0.from-v1.0.0.btrfs.zst",
    ] {
        let path = site.path("b/releases").join(name);
        fs::write(&path, "mine").unwrap();
        // Before any work: this program can't send.
        let args = ["send", "v1.1.0", "--full", "--parent", "auto", "--btrfs"];
        let program = site.script(
            "no-send",
            "case $* in *--help) echo --proto;; *) touch $0.ran;; esac",
        );
        site.run(&[&args[..], &[&program]].concat())
            .failed(8, "never overwritten");
        assert!(!site.path("no-send.ran").exists());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(site.releases(), [name]);
        fs::remove_file(path).unwrap();
    }
    site.run(&["send", "v1.1.0"]).done();
    // A second delta is made in the same run, or elsewhere.
    site.run(&["send", "v1.1.0", "--parent", "v1.0.0"])
        .failed(8, "name every --parent in one run");
}

#[test]
fn versions_that_can_t_be_sent() {
    let Some(site) = Site::new() else { return };
    site.run(&["send", "v1.0.0"]).failed(7, "make it first");
    site.version("v1.0.0");
    site.run(&["send", "v2.0.0"])
        .failed(7, "or name one of: v1.0.0");
    site.run(&["send", "v1.0.0", "--parent", "v0.9.0"])
        .failed(7, "v0.9.0");
    site.run(&["send", "v1.0.0", "--parent", "auto"])
        .failed(8, "no older version");
    site.run(&["send", "v1.0.0", "--parent", "v1.0.0"])
        .failed(8, "its own parent");
    site.run(&["send", "v1.0.0", "--product", "../x"])
        .failed(8, "product");
    op_dbus_btrfs::set_read_only(&site.path("b/versions/v1.0.0"), false).unwrap();
    site.run(&["send", "v1.0.0"]).failed(8, "is writable");
    assert_eq!(site.releases(), [""; 0]);
    // The first release of all.
    op_dbus_btrfs::set_read_only(&site.path("b/versions/v1.0.0"), true).unwrap();
    let ended = site.run(&["send", "v1.0.0", "--full", "--parent", "auto"]);
    assert!(ended.stderr.contains("only the full stream"), "{ended:?}");
    ended.done();
}

/// `btrfs send` leaves them out without a word.
#[test]
fn subvolumes_within() {
    let Some(site) = Site::new() else { return };
    let nested = site.golden("share/nested");
    op_dbus_btrfs::create_subvolume(&nested).unwrap();
    fs::write(nested.join("file"), "lost").unwrap();
    site.run(&["snapshot", "v1.0.0"]).failed(8, "share/nested");
    assert_eq!(names(&site.path("b/versions")), [""; 0]);
    // A snapshot by hand has an empty directory in its place.
    let _ = fs::create_dir(site.path("b/versions"));
    op_dbus_btrfs::snapshot(&site.golden(""), &site.path("b/versions/v1.0.0"), true).unwrap();
    site.run(&["send", "v1.0.0"]).failed(8, "share/nested");
    assert_eq!(site.releases(), [""; 0]);
}

#[test]
fn what_overlayfs_acts_on() {
    let Some(site) = Site::new() else { return };
    let whiteout = site.golden("share/gone");
    sh("mknod", &[whiteout.to_str().unwrap(), "c", "0", "0"]);
    site.run(&["snapshot", "v1.0.0"])
        .failed(8, "share/gone (whiteout)");
    fs::remove_file(whiteout).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(site.golden("share"), "user.overlay.opaque", b"y", flags).unwrap();
    site.run(&["snapshot", "v1.0.0"])
        .failed(8, "user.overlay.opaque");
}

#[test]
fn golden_that_was_received() {
    let Some(site) = Site::new() else { return };
    site.version("v1.0.0");
    let (file, dir) = (site.text("plain"), site.text("b/other"));
    sh(
        "btrfs",
        &["-q", "send", "-f", &file, &site.text("b/versions/v1.0.0")],
    );
    fs::create_dir(&dir).unwrap();
    sh("btrfs", &["-q", "receive", "-f", &file, &dir]);
    let golden = site.path("b/other/v1.0.0");
    op_dbus_btrfs::set_read_only(&golden, false).unwrap();
    let golden = golden.to_str().unwrap();
    site.run(&["snapshot", "v2.0.0", "--golden", golden])
        .failed(8, "same UUID");
    // One that stays as it was received may be frozen, but is no new version of itself.
    op_dbus_btrfs::set_read_only(golden.as_ref(), true).unwrap();
    site.run(&["snapshot", "v2.0.0", "--golden", golden]).done();
    site.run(&["send", "v2.0.0", "--parent", "v1.0.0"])
        .failed(8, "has the UUID of v1.0.0");
}

#[test]
fn places_that_are_none() {
    let Some(site) = Site::new() else { return };
    for command in [
        &["snapshot", "v1.0.0"][..],
        &["send", "v1.0.0"],
        &["prune", "--source"],
    ] {
        let run = |dir: &str| -> Ended {
            let mut process = Command::new(PROGRAM);
            process
                .args(command)
                .args(["--build", dir])
                .output()
                .unwrap()
                .into()
        };
        run("/nonexistent").failed(5, "is not there");
        run("/proc").failed(5, "not on Btrfs");
    }
    site.run(&["snapshot", "v1.0.0", "--golden", "/nonexistent"])
        .failed(8, "is not there");
    site.run(&["snapshot", "v1.0.0", "--golden", &site.text("b/golden/bin")])
        .failed(8, "not a Btrfs subvolume");
}

#[test]
fn not_root() {
    let Some(site) = Site::new() else { return };
    let program = site.path("stage");
    fs::copy(PROGRAM, &program).unwrap();
    for path in [&program, &site.path("")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for command in [
        &["snapshot", "v1.0.0"][..],
        &["send", "v1.0.0"],
        &["prune", "--source"],
    ] {
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&program)
            .args(command)
            .arg("--build")
            .arg(site.path("b"))
            .output();
        Ended::from(output.unwrap()).failed(4, "run it as root");
    }
}
