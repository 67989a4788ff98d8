//! `overlay lint`, and `stage`.

use std::fs;
use std::path::Path;

use super::{Lab, chmod, first, listed, versions, write};

/// Changes of each kind to what [`super::first`] makes.
pub(super) fn change_all(lab: &Lab) {
    write(&lab.over("etc/a"), "mine");
    fs::remove_file(lab.over("etc/b")).unwrap();
    write(&lab.over("etc/c"), "mine");
    write(&lab.over("etc/both"), "mine");
    fs::remove_dir_all(lab.over("etc/d.d")).unwrap();
    fs::create_dir(lab.over("etc/d.d")).unwrap();
    write(&lab.over("etc/d.d/one"), "mine");
    write(&lab.over("data/x"), "mine");
    let copied = fs::File::options().append(true).open(lab.over("bin/app"));
    copied.unwrap().sync_all().unwrap();
    // Of no interest to the next version.
    write(&lab.over("etc/gone.d/x"), "mine");
    write(&lab.over("only-mine"), "mine");
}

/// What the next version changes of it.
pub(super) fn next(tree: &Path) {
    write(&tree.join("etc/a"), "new");
    write(&tree.join("etc/b"), "new");
    fs::remove_file(tree.join("etc/c")).unwrap();
    fs::create_dir(tree.join("etc/c")).unwrap();
    write(&tree.join("etc/c/inside"), "new");
    write(&tree.join("etc/both"), "new");
    write(&tree.join("etc/d.d/three"), "new");
    write(&tree.join("bin/app"), "new");
    chmod(&tree.join("data/x"), 0o640);
}

#[test]
fn every_kind_of_conflict_is_told_and_settled() {
    let Some(lab) = Lab::new() else { return };
    change_all(&lab);
    lab.receive("v1.1.0", next);
    let found = lab.device.result(&["overlay", "lint"], "settled");
    assert_eq!(found["over"], "v1.0.0");
    assert_eq!(
        listed(&found["conflicts"], &["conflict", "outcome", "path"]),
        [
            "stale-copy set-aside bin/app",
            "owner-changed kept data/x",
            "both-changed offered etc/a",
            "deleted-came-back offered etc/b",
            "both-added offered etc/both",
            "type-changed kept etc/c",
            "hidden-directory kept etc/d.d",
        ]
    );
    let found = lab.device.result(
        &["overlay", "lint", "v1.1.0", "--overlay", "take-new"],
        "settled",
    );
    assert_eq!(
        listed(&found["conflicts"], &["outcome", "path"]),
        [
            "set-aside bin/app",
            "owner-taken data/x",
            "set-aside etc/a",
            "unhidden etc/b",
            "set-aside etc/both",
            "set-aside etc/c",
            "unhidden etc/d.d",
        ]
    );
    // Looking changes nothing.
    assert!(!lab.device.store("plans").exists());
}

#[test]
fn what_the_policy_refuses_is_not_staged() {
    let Some(lab) = Lab::new() else { return };
    change_all(&lab);
    lab.receive("v1.1.0", next);
    lab.configure(
        "[lint]\ndefault = \"take-new\"\n[[lint.rule]]\npath = \"etc/?\"\npolicy = \"refuse\"\n",
    );
    let before = lab.device.decisions();
    for command in [&["overlay", "lint"][..], &["stage", "v1.1.0"]] {
        let ended = lab.device.run(&[command, &["--json"]].concat());
        assert_eq!(ended.code, 8, "{ended:?}");
        let found: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(found["result"], "refused");
        assert_eq!(found["refused"], 3);
        let refused: Vec<_> = listed(&found["conflicts"], &["outcome", "rule", "path"])
            .into_iter()
            .filter(|text| text.starts_with("refused"))
            .collect();
        assert_eq!(
            refused,
            [
                "refused etc/? etc/a",
                "refused etc/? etc/b",
                "refused etc/? etc/c"
            ]
        );
        assert!(ended.stderr.contains("etc/a, etc/b, etc/c"), "{ended:?}");
    }
    assert_eq!(lab.device.decisions(), before);
    assert!(!lab.device.store("plans/v1.1.0").exists());

    let staged = lab
        .device
        .result(&["stage", "v1.1.0", "--overlay", "keep-mine"], "on-trial");
    assert_eq!(staged["overlay"]["conflicts"], 7);
    assert!(lab.device.store("plans/v1.1.0").exists());
    // Staged again otherwise, while it has not booted.
    let plan = fs::read(lab.device.store("plans/v1.1.0")).unwrap();
    lab.device.result(
        &["stage", "v1.1.0", "--overlay", "take-new"],
        "already-staged",
    );
    assert_ne!(fs::read(lab.device.store("plans/v1.1.0")).unwrap(), plan);
}

#[test]
fn without_a_conflict_there_is_no_plan() {
    let [good, next] = versions();
    let Some(lab) = Lab::running(&good, first) else {
        return;
    };
    let plan = lab.device.store("plans").join(&next);
    write(&lab.over("etc/a"), "mine");
    lab.receive(&next, |tree| write(&tree.join("etc/a"), "new"));
    lab.device.result(&["stage", &next], "on-trial");
    assert!(plan.exists());
    // The change is taken back: what was planned has no reason any more.
    lab.down();
    let reset = lab
        .device
        .result(&["overlay", "reset", "etc/a", "--discard"], "reset");
    let warnings = reset["warnings"].to_string();
    assert!(warnings.contains("stage it again"), "{warnings}");
    lab.device.result(&["stage", &next], "already-staged");
    assert!(!plan.exists());
    lab.device.result(&["overlay", "lint"], "no-conflicts");
}

#[test]
fn versions_that_take_nothing_along_are_not_compared() {
    let Some(mut lab) = Lab::new() else { return };
    let reason = |lab: &Lab, args: &[&str]| {
        let args = [&["overlay", "lint"], args].concat();
        let found = lab.device.result(&args, "not-compared");
        found["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(&lab, &["v1.0.0"]), "is-good");
    lab.device
        .run(&["overlay", "lint"])
        .failed(7, "no version but the good one");
    write(&lab.over("etc/a"), "mine");
    lab.receive("v1.1.0", |tree| write(&tree.join("etc/a"), "new"));
    lab.device.result(&["stage", "v1.1.0"], "on-trial");
    lab.boot();
    lab.device.result(&["bless"], "trial");
    // The fallback goes on with its own, and so does whatever is rolled back to.
    assert_eq!(reason(&lab, &["v1.0.0"]), "keeps-own");
    lab.receive("v1.2.0", |tree| write(&tree.join("etc/a"), "newer"));
    lab.device.result(&["rollback", "v1.2.0"], "on-trial");
    assert_eq!(reason(&lab, &[]), "keeps-own");
    lab.device.result(&["cancel"], "cancelled");
    lab.device.result(&["overlay", "lint"], "settled");
    lab.configure("[overlay]\nmode = \"fresh\"\n");
    assert_eq!(reason(&lab, &[]), "fresh");
    let staged = lab.device.result(&["stage", "v1.2.0"], "on-trial");
    assert_eq!(staged["overlay"]["reason"], "fresh");
}

#[test]
fn a_mistake_in_the_policy_stops_before_anything_is_done() {
    let Some(lab) = Lab::new() else { return };
    lab.receive("v1.1.0", |_| ());
    lab.configure("[lint]\ndefault = \"mine\"\n");
    for command in [&["overlay", "lint"][..], &["stage", "v1.1.0"]] {
        lab.device.run(command).failed(3, "unknown variant `mine`");
    }
    // Said on the command line, the policy is not asked.
    lab.device
        .result(&["stage", "v1.1.0", "--overlay", "keep-mine"], "on-trial");
}
