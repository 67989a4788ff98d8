//! `overlay diff`.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use super::{Lab, chmod, listed, write};

#[test]
fn everything_a_user_can_do_is_told() {
    let Some(lab) = Lab::new() else { return };
    let unchanged = lab.device.result(&["overlay", "diff"], "unchanged");
    assert_eq!(unchanged["version"], "v1.0.0");

    write(&lab.over("etc/a"), "mine");
    write(&lab.over("etc/new"), "mine");
    fs::create_dir_all(lab.over("etc/new.d/below")).unwrap();
    fs::remove_file(lab.over("etc/b")).unwrap();
    fs::remove_dir_all(lab.over("etc/gone.d")).unwrap();
    fs::remove_dir_all(lab.over("etc/d.d")).unwrap();
    fs::create_dir(lab.over("etc/d.d")).unwrap();
    write(&lab.over("etc/d.d/one"), "mine");
    chmod(&lab.over("etc/c"), 0o600);
    chmod(&lab.over("data"), 0o700);
    fs::remove_file(lab.over("etc/link")).unwrap();
    fs::create_dir(lab.over("etc/link")).unwrap();
    // Copied, and nothing changed.
    let app = fs::File::options().append(true).open(lab.over("bin/app"));
    app.unwrap().sync_all().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"etc/caf\xe9\n");
    fs::write(lab.over("").join(name), "mine").unwrap();

    let found = lab.device.result(&["overlay", "diff"], "changed");
    assert_eq!(
        listed(&found["changes"], &["change", "path"]),
        [
            "owner-changed data",
            "changed etc/a",
            "removed etc/b",
            "owner-changed etc/c",
            "added etc/caf\u{fffd}\n",
            "replaced-directory etc/d.d",
            "changed etc/d.d/one",
            "removed etc/gone.d",
            "changed etc/link",
            "added etc/new",
            "added etc/new.d",
            "added etc/new.d/below",
        ]
    );
    let hex = &found["changes"][4]["path_hex"];
    assert_eq!(*hex, "6574632f636166e90a");
    assert_eq!(found["changes"][1]["mine"]["size"], 4);
    assert_eq!(found["changes"][1]["version"]["kind"], "file");
    assert!(found["changes"][2]["mine"].is_null());
    assert_eq!(found["unchanged_copies"], 1);
    assert_eq!(found["unseen_count"], 0);

    let text = lab.device.run(&["overlay", "diff"]).done();
    assert!(text.starts_with("12 changes over v1.0.0.\n"), "{text}");
    assert!(text.contains("  etc/caf\\xe9\\n\n"), "{text}");
    assert!(
        text.ends_with("1 copy of the version's own, in which nothing was changed.\n"),
        "{text}"
    );
}

#[test]
fn shared_paths_are_nobody_s_change() {
    let Some(lab) = Lab::new() else { return };
    write(&lab.over("data/x"), "mine");
    write(&lab.over("etc/a"), "mine");
    lab.configure("[overlay]\nshared_paths = [\"data\"]\n");
    let found = lab.device.json(&["overlay", "diff"]);
    assert_eq!(listed(&found["changes"], &["path"]), ["etc/a"]);
}

#[test]
fn one_version_or_another() {
    let Some(lab) = Lab::new() else { return };
    lab.receive("v1.1.0", |_| ());
    // It never ran.
    lab.device
        .result(&["overlay", "diff", "v1.1.0"], "unchanged");
    lab.device
        .run(&["overlay", "diff", "v9.0.0"])
        .failed(7, "is not in the store");
}
