//! What whoever runs in a device may leave in an overlay, to trip who looks.

use std::fs;
use std::os::unix::fs::symlink;

use op_dbus_loopback::sh;

use super::{Lab, listed, write};

#[test]
fn nothing_is_followed_and_nothing_is_waited_for() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.device.path("outside");
    fs::create_dir(&outside).unwrap();
    write(&outside.join("one"), "outside");
    // Links in the place of directories, and out of the tree.
    fs::remove_dir_all(lab.over("etc/d.d")).unwrap();
    symlink(&outside, lab.over("etc/d.d")).unwrap();
    fs::remove_dir_all(lab.over("etc/gone.d")).unwrap();
    symlink("../../../../../..", lab.over("etc/gone.d")).unwrap();
    // What blocks who opens it, and what has no end.
    for name in ["etc/a", "etc/b"] {
        fs::remove_file(lab.over(name)).unwrap();
    }
    sh("mkfifo", &[lab.over("etc/a").to_str().unwrap()]);
    sh(
        "mknod",
        &[lab.over("etc/b").to_str().unwrap(), "c", "1", "5"],
    );
    lab.receive("v1.1.0", |tree| {
        for name in ["etc/a", "etc/b", "etc/d.d/one", "etc/gone.d/x"] {
            write(&tree.join(name), "new");
        }
    });
    let found = lab.device.result(&["overlay", "diff"], "changed");
    assert_eq!(
        listed(&found["changes"], &["change", "path"]),
        [
            "changed etc/a",
            "changed etc/b",
            "changed etc/d.d",
            "changed etc/gone.d"
        ]
    );
    let found = lab.device.result(&["overlay", "lint"], "settled");
    assert_eq!(
        listed(&found["conflicts"], &["conflict", "outcome", "path"]),
        [
            "type-changed offered etc/a",
            "type-changed offered etc/b",
            "type-changed kept etc/d.d",
            "type-changed kept etc/gone.d"
        ]
    );
    lab.device
        .run(&["overlay", "reset", "etc/d.d/one"])
        .failed(8, "etc/d.d was removed or replaced");
    lab.device.result(&["overlay", "reset", "etc/a"], "reset");
    assert_eq!(fs::read_to_string(outside.join("one")).unwrap(), "outside");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn depth_and_other_subvolumes_end_the_look_there_only() {
    let Some(mut lab) = Lab::new() else { return };
    lab.down();
    let mut deep = lab.upper("v1.0.0", "deep");
    for _ in 0..200 {
        fs::create_dir(&deep).unwrap();
        deep.push("d");
    }
    write(&lab.upper("v1.0.0", "after"), "mine");
    op_dbus_btrfs::create_subvolume(&lab.upper("v1.0.0", "inner")).unwrap();
    let found = lab.device.result(&["overlay", "diff"], "changed");
    assert_eq!(found["unseen_count"], 2);
    let unseen = listed(&found["unseen"], &["why"]);
    assert!(
        unseen[0].contains("more than 128 directories deep"),
        "{unseen:?}"
    );
    assert!(unseen[1].contains("another subvolume"), "{unseen:?}");
    let paths = listed(&found["changes"], &["path"]);
    assert!(paths.contains(&"after".to_owned()));
    // A policy that may refuse does not let pass what it could not see.
    lab.receive("v1.1.0", |_| ());
    lab.device.result(&["overlay", "lint"], "no-conflicts");
    lab.configure("[[lint.rule]]\npath = \"x\"\npolicy = \"refuse\"\n");
    let refused = lab.device.run(&["stage", "v1.1.0"]);
    assert_eq!(refused.code, 8, "{refused:?}");
    assert!(
        refused.stderr.contains("could not be looked at"),
        "{refused:?}"
    );
    lab.device
        .result(&["stage", "v1.1.0", "--overlay", "keep-mine"], "on-trial");
    lab.boot();
}

#[test]
fn more_than_a_plan_can_hold_stays_mine() {
    let Some(mut lab) = Lab::with(|tree| {
        fs::create_dir(tree.join("many")).unwrap();
        for number in 0..4200 {
            write(&tree.join(format!("many/{number:04}")), "old");
        }
        write(&tree.join("large"), "old");
        let copied = fs::File::create(tree.join("copied")).unwrap();
        copied.set_len(17 << 20).unwrap();
    }) else {
        return;
    };
    for number in 0..4200 {
        write(&lab.over(&format!("many/{number:04}")), "mine");
    }
    let large = fs::File::create(lab.over("large")).unwrap();
    large.set_len(17 << 20).unwrap();
    let copied = fs::File::options().append(true).open(lab.over("copied"));
    copied.unwrap().sync_all().unwrap();
    lab.receive("v1.1.0", |tree| {
        for number in 0..4200 {
            write(&tree.join(format!("many/{number:04}")), "new");
        }
        write(&tree.join("large"), "new");
        write(&tree.join("copied"), "new");
    });
    let staged = lab
        .device
        .result(&["stage", "v1.1.0", "--overlay", "take-new"], "on-trial");
    assert_eq!(staged["overlay"]["conflicts"], 4202);
    assert_eq!(staged["overlay"]["planned"], 4094);
    assert_eq!(staged["overlay"]["unplanned"], 108);
    let warnings = staged["warnings"].to_string();
    assert!(warnings.contains("overlay reset copied"), "{warnings}");
    let found = lab
        .device
        .json(&["overlay", "lint", "--overlay", "take-new"]);
    assert_eq!(found["more"], 106);
    for (index, path) in [(0, "copied"), (1, "large")] {
        let conflict = &found["conflicts"][index];
        assert_eq!(conflict["path"], path);
        assert_eq!(conflict["outcome"], "kept");
        assert_eq!(conflict["why"], "too large to be compared");
    }
    let plan = lab.boot().overlay.unwrap().plan.unwrap();
    assert_eq!((plan.applied, plan.kept), (4094, Vec::new()));
    assert_eq!(lab.text("many/0000").unwrap(), "new");
    assert_eq!(lab.text("many/4199").unwrap(), "mine");
    assert_eq!(fs::metadata(lab.over("large")).unwrap().len(), 17 << 20);
    // Nobody's, and in the way.
    assert_eq!(fs::metadata(lab.over("copied")).unwrap().len(), 17 << 20);
    lab.device
        .result(&["overlay", "reset", "copied", "--discard"], "reset");
    assert_eq!(lab.text("copied").unwrap(), "new");
}

#[test]
fn a_disk_that_takes_no_plan_keeps_mine() {
    let Some(mut lab) = Lab::new() else { return };
    write(&lab.over("etc/a"), "mine");
    lab.receive("v1.1.0", |tree| write(&tree.join("etc/a"), "new"));
    // As a full disk: what should be a directory can't be made.
    write(&lab.device.store("plans"), "in the way");
    let staged = lab
        .device
        .result(&["stage", "v1.1.0", "--overlay", "take-new"], "on-trial");
    let warnings = staged["warnings"].to_string();
    assert!(
        warnings.contains("every change stays as it is"),
        "{warnings}"
    );
    lab.boot();
    assert_eq!(lab.text("etc/a").unwrap(), "mine");
}
