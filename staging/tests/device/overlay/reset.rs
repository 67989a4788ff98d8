//! `overlay reset`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::{Lab, chmod, content, first, versions, write};

/// Takes a change back; what is kept of it.
#[track_caller]
fn reset(lab: &Lab, args: &[&str]) -> Option<String> {
    let args = [&["overlay", "reset"], args].concat();
    let found = lab.device.result(&args, "reset");
    found["kept"]["path"].as_str().map(str::to_owned)
}

fn changed(lab: &Lab, version: &str) -> Vec<String> {
    let found = lab.device.json(&["overlay", "diff", version]);
    super::listed(&found["changes"], &["change", "path"])
}

#[test]
fn through_the_mounted_overlay_files_are_had_back() {
    let Some(mut lab) = Lab::with(|tree| {
        super::first(tree);
        chmod(&tree.join("etc/a"), 0o4750);
        std::os::unix::fs::chown(tree.join("etc/b"), Some(12), Some(34)).unwrap();
        super::set_attribute(&tree.join("etc/b"), "user.x", "of the version");
    }) else {
        return;
    };
    let published = content(&lab.device.layout.host("/opt/op-dbus"));
    let before = fs::metadata(lab.over("etc/b")).unwrap();
    write(&lab.over("etc/a"), "mine");
    chmod(&lab.over("etc/a"), 0o600);
    fs::remove_file(lab.over("etc/b")).unwrap();
    write(&lab.over("etc/new"), "mine");
    fs::create_dir_all(lab.over("etc/new.d/below")).unwrap();
    chmod(&lab.over("etc/c"), 0o600);
    chmod(&lab.over("data"), 0o700);
    fs::remove_file(lab.over("etc/link")).unwrap();
    fs::create_dir(lab.over("etc/link")).unwrap();
    write(&lab.over("etc/link/inside"), "mine");

    assert_eq!(reset(&lab, &["etc/a"]).unwrap(), "etc/a.mine");
    assert_eq!(lab.mode("etc/a"), 0o4750);
    assert_eq!(lab.text("etc/a.mine").unwrap(), "mine");
    // As a path of the host; and again, while the first is still beside.
    write(&lab.over("etc/a"), "mine again");
    let path = lab.over("etc/a");
    let below = path.strip_prefix(lab.device.path("root")).unwrap();
    let typed = format!("/{}", below.display());
    assert_eq!(reset(&lab, &[&typed]).unwrap(), "etc/a.mine-1");
    assert_eq!(reset(&lab, &["etc/b"]), None);
    let after = fs::metadata(lab.over("etc/b")).unwrap();
    assert_eq!((after.uid(), after.gid()), (12, 34));
    assert_eq!(
        (after.mode(), after.mtime_nsec()),
        (before.mode(), before.mtime_nsec())
    );
    assert_eq!(
        super::attribute(&lab.over("etc/b"), "user.x"),
        "of the version"
    );
    assert_eq!(reset(&lab, &["etc/c"]), None);
    assert_eq!(reset(&lab, &["data"]), None);
    assert_eq!(reset(&lab, &["etc/link"]).unwrap(), "etc/link.mine");
    assert_eq!(lab.text("etc/link.mine/inside").unwrap(), "mine");
    assert_eq!(reset(&lab, &["etc/new", "--discard"]), None);
    assert_eq!(reset(&lab, &["etc/new.d"]).unwrap(), "etc/new.d.mine");
    lab.device
        .result(&["overlay", "reset", "etc/a"], "nothing-to-do");
    lab.device
        .result(&["overlay", "reset", "bin/app"], "nothing-to-do");

    assert_eq!(
        changed(&lab, "v1.0.0"),
        [
            "added etc/a.mine",
            "added etc/a.mine-1",
            "added etc/link.mine",
            "added etc/link.mine/inside",
            "added etc/new.d.mine",
            "added etc/new.d.mine/below",
        ]
    );
    for path in [
        "etc/a.mine",
        "etc/a.mine-1",
        "etc/link.mine",
        "etc/new.d.mine",
    ] {
        reset(&lab, &[path, "--discard"]);
    }
    assert_eq!(content(&lab.over("")), renamed(&published, &lab));
    // All of it is on disk, and shows in the next boot as well.
    lab.boot();
    assert_eq!(content(&lab.over("")), renamed(&published, &lab));
}

/// The content of the version, below the overlay's mount point.
fn renamed(
    published: &[(std::path::PathBuf, String)],
    lab: &Lab,
) -> Vec<(std::path::PathBuf, String)> {
    let lower = lab.device.layout.host("/opt/op-dbus");
    let all = published.iter().map(|(path, text)| {
        let path = path.strip_prefix(&lower).unwrap();
        (lab.over("").join(path), text.clone())
    });
    all.collect()
}

#[test]
fn what_was_had_back_gives_way_to_the_next_version() {
    let Some(mut lab) = Lab::new() else { return };
    write(&lab.over("etc/a"), "mine");
    reset(&lab, &["etc/a", "--discard"]);
    lab.receive("v1.1.0", |tree| write(&tree.join("etc/a"), "new"));
    lab.device.result(&["stage", "v1.1.0"], "on-trial");
    lab.boot();
    assert_eq!(lab.text("etc/a").unwrap(), "new");
}

#[test]
fn directories_are_had_back_only_where_nothing_is_mounted() {
    let [version, _] = versions();
    let Some(lab) = Lab::running(&version, first) else {
        return;
    };
    fs::remove_dir_all(lab.over("etc/gone.d")).unwrap();
    fs::remove_dir_all(lab.over("etc/d.d")).unwrap();
    fs::create_dir(lab.over("etc/d.d")).unwrap();
    write(&lab.over("etc/d.d/one"), "mine");
    write(&lab.over("etc/a"), "mine");
    fs::remove_file(lab.over("etc/b")).unwrap();
    let before = content(&lab.upper(&version, ""));
    for (path, words) in [
        ("etc/gone.d", "removed or replaced"),
        ("etc/gone.d/x", "etc/gone.d was removed or replaced"),
        ("etc/d.d", "removed or replaced"),
        ("etc", "what was changed is in it"),
    ] {
        lab.device.run(&["overlay", "reset", path]).failed(8, words);
    }
    assert_eq!(content(&lab.upper(&version, "")), before);
    // A file in a directory that was replaced is a file all the same.
    assert_eq!(reset(&lab, &["etc/d.d/one"]).unwrap(), "etc/d.d/one.mine");

    lab.down();
    lab.device
        .run(&["overlay", "reset", "etc/d.d/one.mine"])
        .failed(8, "which was replaced");
    assert_eq!(reset(&lab, &["etc/gone.d"]), None);
    assert_eq!(reset(&lab, &["etc/d.d"]).unwrap(), "etc/d.d.mine");
    assert_eq!(reset(&lab, &["etc/b"]), None);
    assert_eq!(reset(&lab, &["etc/a", "--discard"]), None);
    assert_eq!(
        changed(&lab, &version),
        [
            "added etc/d.d.mine",
            "added etc/d.d.mine/one",
            "added etc/d.d.mine/one.mine"
        ]
    );
    assert_eq!(reset(&lab, &["etc/d.d.mine", "--discard"]), None);
    assert_eq!(changed(&lab, &version), Vec::<String>::new());
    // Nothing is left beside it.
    let left = crate::fixture::names(&lab.device.store("overlays").join(&version));
    assert_eq!(left, ["upper", "work"]);
}

#[test]
fn what_is_mounted_elsewhere_is_not_touched() {
    let [good, next] = versions();
    let Some(mut lab) = Lab::running(&good, first) else {
        return;
    };
    write(&lab.over("etc/a"), "mine");
    lab.receive(&next, |_| ());
    lab.device.result(&["stage", &next], "on-trial");
    // What ran before is still mounted somewhere when the next version runs.
    let other = lab.device.path("other");
    fs::create_dir(&other).unwrap();
    let from = lab.device.layout.host("/usr/local/op-dbus");
    op_dbus_loopback::sh(
        "mount",
        &["--bind", from.to_str().unwrap(), other.to_str().unwrap()],
    );
    lab.boot();
    lab.device
        .run(&["overlay", "reset", "etc/a", &good])
        .failed(8, "mounted somewhere");
    op_dbus_loopback::unmount(&other);
    let kept = reset(&lab, &["etc/a", &good]);
    assert_eq!(kept.unwrap(), "etc/a.mine");
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let Some(lab) = Lab::new() else { return };
    lab.configure("[overlay]\nshared_paths = [\"data\"]\n");
    for path in ["../x", "/etc/passwd", "a/../../x", ""] {
        let ended = lab.device.run(&["overlay", "reset", path]);
        assert_eq!(ended.code, 2, "{path}: {ended:?}");
    }
    for path in ["data", "data/x"] {
        lab.device
            .run(&["overlay", "reset", path])
            .failed(8, "is a shared path");
    }
}
