//! From a user's change to what the next version shows: linted, planned, carried
//! out and mounted by the activator's own code.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use op_dbus_activator::overlay::Begin;

use super::lint::{change_all, next};
use super::{Lab, write};

fn boot_of(winner: &str) -> Option<(Lab, op_dbus_activator::activation::Activation)> {
    let mut lab = Lab::new()?;
    change_all(&lab);
    lab.receive("v1.1.0", next);
    lab.device
        .result(&["stage", "v1.1.0", "--overlay", winner], "on-trial");
    let report = lab.boot();
    Some((lab, report))
}

#[test]
fn keeping_mine_shows_mine_and_offers_new() {
    let Some((mut lab, report)) = boot_of("keep-mine") else {
        return;
    };
    let overlay = report.overlay.unwrap();
    assert_eq!(overlay.origin, Begin::Carried);
    let plan = overlay.plan.unwrap();
    assert_eq!((plan.applied, plan.kept), (4, Vec::new()));
    for (path, text) in [
        ("etc/a", Some("mine")),
        ("etc/a.new", Some("new")),
        ("etc/b", None),
        ("etc/b.new", Some("new")),
        ("etc/both", Some("mine")),
        ("etc/both.new", Some("new")),
        ("etc/c", Some("mine")),
        ("etc/d.d/one", Some("mine")),
        ("etc/d.d/two", None),
        ("etc/d.d/three", None),
        ("etc/gone.d/x", Some("mine")),
        ("only-mine", Some("mine")),
        // In this nothing was the user's.
        ("bin/app", Some("new")),
        ("version", Some("v1.1.0")),
    ] {
        assert_eq!(lab.text(path).as_deref(), text, "{path}");
    }
    assert_eq!(lab.mode("data/x"), 0o644);

    // Told by status, until a boot has nothing to tell.
    let text = lab.device.run(&["status"]).done();
    assert!(
        text.contains("; 4 conflicts settled as planned\n"),
        "{text}"
    );
    // What was offered is taken: it is the version's own then.
    fs::rename(lab.over("etc/both.new"), lab.over("etc/both")).unwrap();
    let found = lab.device.json(&["overlay", "diff"]);
    let changed = super::listed(&found["changes"], &["path"]);
    assert!(!changed.iter().any(|path| path.starts_with("etc/both")));
    lab.device.result(&["bless"], "trial");
    let report = lab.boot();
    assert_eq!(report.overlay.unwrap().plan, None);
    // Back: all as it was.
    lab.device.result(&["rollback"], "on-trial");
    lab.boot();
    assert_eq!(lab.text("etc/a").unwrap(), "mine");
    assert_eq!(lab.text("etc/a.new"), None);
    assert_eq!(lab.text("etc/b"), None);
}

#[test]
fn taking_new_shows_new_and_keeps_mine_beside() {
    let Some((lab, report)) = boot_of("take-new") else {
        return;
    };
    let plan = report.overlay.unwrap().plan.unwrap();
    assert_eq!((plan.applied, plan.kept), (7, Vec::new()));
    for (path, text) in [
        ("etc/a", Some("new")),
        ("etc/a.mine", Some("mine")),
        ("etc/b", Some("new")),
        ("etc/both", Some("new")),
        ("etc/both.mine", Some("mine")),
        ("etc/c/inside", Some("new")),
        ("etc/c.mine", Some("mine")),
        ("etc/d.d/one", Some("mine")),
        ("etc/d.d/two", Some("etc/d.d/two of the version\n")),
        ("etc/d.d/three", Some("new")),
        ("data/x", Some("mine")),
        ("bin/app", Some("new")),
        ("only-mine", Some("mine")),
    ] {
        assert_eq!(lab.text(path).as_deref(), text, "{path}");
    }
    assert_eq!(lab.mode("data/x"), 0o640);
}

#[test]
fn what_changed_after_staging_stays_mine_and_is_told() {
    let Some(mut lab) = Lab::new() else { return };
    change_all(&lab);
    lab.receive("v1.1.0", next);
    lab.device
        .result(&["stage", "v1.1.0", "--overlay", "take-new"], "on-trial");
    write(&lab.over("etc/a"), "mine, at the last moment");
    let plan = lab.boot().overlay.unwrap().plan.unwrap();
    assert_eq!(plan.applied, 6);
    assert!(plan.kept[0].starts_with("etc/a: "), "{plan:?}");
    assert_eq!(lab.text("etc/a").unwrap(), "mine, at the last moment");
    let status = lab.device.run(&["status"]).done();
    assert!(status.contains("etc/a: changed since"), "{status}");
}

#[test]
fn odd_names_links_and_attributes_come_along() {
    let odd = OsStr::from_bytes(b"etc/caf\xe9\n\x1b[1m");
    let Some(mut lab) = Lab::with(|tree| {
        super::first(tree);
        fs::write(tree.join(odd), "of the version").unwrap();
    }) else {
        return;
    };
    let mine = lab.over("").join(odd);
    fs::write(&mine, "mine").unwrap();
    // Two names of one file, with an attribute.
    fs::hard_link(&mine, lab.over("other-name")).unwrap();
    super::set_attribute(&mine, "user.op-dbus", "kept");
    fs::remove_file(lab.over("etc/link")).unwrap();
    std::os::unix::fs::symlink("c", lab.over("etc/link")).unwrap();
    lab.receive("v1.1.0", |tree| {
        fs::write(tree.join(odd), "new").unwrap();
        fs::remove_file(tree.join("etc/link")).unwrap();
        std::os::unix::fs::symlink("b", tree.join("etc/link")).unwrap();
    });
    lab.device
        .result(&["stage", "v1.1.0", "--overlay", "take-new"], "on-trial");
    let plan = lab.boot().overlay.unwrap().plan.unwrap();
    assert_eq!((plan.applied, plan.kept), (2, Vec::new()));
    assert_eq!(fs::read(lab.over("").join(odd)).unwrap(), b"new");
    let aside = [odd.as_bytes(), b".mine"].concat();
    let aside = lab.over("").join(OsStr::from_bytes(&aside));
    assert_eq!(fs::read(&aside).unwrap(), b"mine");
    assert_eq!(super::attribute(&aside, "user.op-dbus"), "kept");
    let inode = |path: &std::path::Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&aside), inode(&lab.over("other-name")));
    assert_eq!(
        fs::read_link(lab.over("etc/link")).unwrap(),
        OsStr::new("b")
    );
    assert_eq!(
        fs::read_link(lab.over("etc/link.mine")).unwrap(),
        OsStr::new("c")
    );
}
