//! `check source`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::fixture::Site;

/// The findings of a check that must come out in a certain way.
#[track_caller]
fn findings(site: &Site, args: &[&str], code: i32) -> Vec<Value> {
    let ended = site.run(&[&["check", "source", "--json"], args].concat());
    assert_eq!(ended.code, code, "{ended:?}");
    let value: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        value["result"],
        if code == 0 { "ready" } else { "problems" }
    );
    value["findings"].as_array().unwrap().clone()
}

fn problems(findings: &[Value]) -> Vec<&str> {
    let problems = findings.iter().filter(|found| found["severity"] == "error");
    problems
        .map(|found| found["found"].as_str().unwrap())
        .collect()
}

#[test]
fn a_build_system_that_is_ready() {
    let Some(site) = Site::new() else { return };
    site.key("release");
    let found = findings(&site, &[], 0);
    assert!(
        found.iter().all(|found| found["severity"] == "ok"),
        "{found:?}"
    );
    let table = site.run(&["check", "source"]).done();
    assert!(table.contains("ok       golden"), "{table}");
    assert!(
        table.ends_with("\nA release can be made here.\n"),
        "{table}"
    );
    // A check changes nothing.
    assert!(!site.path("b/versions").exists() && !site.path("b/releases").exists());
}

#[test]
fn every_problem_is_told_with_its_remedy() {
    let Some(site) = Site::new() else { return };
    op_dbus_btrfs::create_subvolume(&site.golden("share/nested")).unwrap();
    fs::write(site.golden("share/op-dbus/epoch"), "three").unwrap();
    fs::write(
        site.golden("lib/systemd/system/app.service"),
        "[Service]\nExecStart=/usr/local/op-dbus/bin/missing\nExecStartPre=/usr/bin/true\n",
    )
    .unwrap();
    fs::set_permissions(site.golden("bin/app"), fs::Permissions::from_mode(0o644)).unwrap();
    let found = findings(&site, &[], 8);
    let told = problems(&found);
    assert_eq!(told.len(), 4, "{told:?}");
    for (index, words) in ["share/nested", "no executable", "bin/missing", "epoch"]
        .iter()
        .enumerate()
    {
        assert!(told[index].contains(words), "{told:?}");
    }
    for finding in &found {
        let remedy = finding["remedy"].as_str();
        assert_eq!(remedy.is_some(), finding["severity"] != "ok", "{finding}");
    }
    let ended = site.run(&["check", "source"]);
    assert_eq!(ended.code, 8);
    assert!(ended.stdout.contains("ERROR"), "{}", ended.stdout);
    assert!(
        ended
            .stdout
            .contains("4 problems are in the way of a release"),
        "{}",
        ended.stdout
    );
}

#[test]
fn what_is_expected() {
    let Some(site) = Site::new() else { return };
    findings(&site, &["--expect", "bin/app", "--expect", "/lib"], 0);
    let found = findings(&site, &["--expect", "bin/other"], 8);
    assert_eq!(problems(&found), ["bin/other is not in the tree"]);
}

#[test]
fn privileged_files_are_listed() {
    let Some(site) = Site::new() else { return };
    fs::set_permissions(site.golden("bin/app"), fs::Permissions::from_mode(0o4755)).unwrap();
    let found = findings(&site, &[], 0);
    let privileged: Vec<_> = found
        .iter()
        .filter(|found| found["subject"] == "privileged")
        .collect();
    assert_eq!(privileged.len(), 1);
    assert_eq!(privileged[0]["severity"], "warning");
    assert!(
        privileged[0]["found"]
            .as_str()
            .unwrap()
            .contains("bin/app is a setuid")
    );
}

#[test]
fn the_sites_own_checks() {
    let Some(site) = Site::new() else { return };
    site.script(
        "checks/10-first",
        "test \"$1\" = \"$OP_DBUS_GOLDEN\" && test -f \"$1/bin/app\"",
    );
    site.script("checks/20-second", "echo no licence file >&2; exit 1");
    site.script("checks/30-third", "exit 0");
    let found = findings(&site, &[], 8);
    let texts: Vec<_> = found
        .iter()
        .filter(|found| found["subject"] == "checks")
        .map(|found| found["found"].as_str().unwrap())
        .collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts[0].starts_with("10-first: passed"));
    assert_eq!(texts[1], "20-second: exit status: 1: no licence file");
    assert!(texts[2].starts_with("30-third: passed"));
}

#[test]
fn what_is_missing_altogether() {
    let Some(site) = Site::new() else { return };
    let found = findings(
        &site,
        &[
            "--golden",
            "/nonexistent",
            "--btrfs",
            "/nonexistent",
            "--gpg",
            "/nonexistent",
        ],
        8,
    );
    let told = problems(&found);
    assert_eq!(told.len(), 2, "{told:?}");
    let gpg = found
        .iter()
        .find(|found| found["subject"] == "gpg")
        .unwrap();
    assert_eq!(gpg["severity"], "warning", "signing may be done elsewhere");
}
