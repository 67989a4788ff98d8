//! `prune --source`.

use std::fs;

use serde_json::Value;

use crate::fixture::{Site, names};

fn deleted(value: &Value) -> Vec<&str> {
    let versions = value["versions"].as_array().unwrap().iter();
    versions
        .filter(|version| version["deleted"] == true)
        .map(|version| version["version"].as_str().unwrap())
        .collect()
}

#[test]
fn what_releases_need_stays() {
    let Some(site) = Site::new() else { return };
    for version in [
        "v1.8.0",
        "v1.9.0",
        "v1.10.0",
        "v1.11.0",
        "v2.0.0-rc.1",
        "v2.0.0",
    ] {
        site.version(version);
    }
    // Published: a delta from 1.8 in the usual place, a full release elsewhere.
    site.run(&["send", "v1.10.0", "--parent", "v1.8.0"]).done();
    let other = site.text("stable");
    site.run(&["send", "v1.9.0", "--output", &other]).done();
    let before = names(&site.path("b/versions"));

    let args = ["prune", "--source", "--keep", "1", "--published", &other];
    let tried = site.json(&[&args[..], &["--dry-run"]].concat());
    assert_eq!(tried["result"], "dry-run");
    assert_eq!(names(&site.path("b/versions")), before);
    let pruned = site.json(&args);
    assert_eq!(pruned["result"], "pruned");
    assert_eq!(deleted(&pruned), ["v2.0.0-rc.1", "v1.11.0"]);
    assert_eq!(
        names(&site.path("b/versions")),
        ["v1.10.0", "v1.8.0", "v1.9.0", "v2.0.0"]
    );
    assert_eq!(pruned["versions"][5]["kept"][0]["why"], "parent-of");
    assert_eq!(site.json(&args)["result"], "nothing-to-do");
    // Without the other directory nobody knows of 1.9.
    let pruned = site.json(&["prune", "--source", "--keep", "1"]);
    assert_eq!(deleted(&pruned), ["v1.9.0"]);
    // The next delta can still be made.
    site.version("v2.1.0");
    site.run(&["send", "v2.1.0", "--parent", "v1.8.0"]).done();
}

#[test]
fn what_can_t_be_read_stops_it() {
    let Some(site) = Site::new() else { return };
    for version in ["v1.0.0", "v1.1.0"] {
        site.version(version);
    }
    site.run(&["send", "v1.1.0", "--parent", "v1.0.0"]).done();
    let before = names(&site.path("b/versions"));
    let path = site.path("b/releases/v1.1.0.json");
    let good = fs::read(&path).unwrap();
    for bad in [&good[..good.len() - 2], b"", &vec![b' '; 5 << 20]] {
        fs::write(&path, bad).unwrap();
        site.run(&["prune", "--source", "--keep", "1"])
            .failed(9, "v1.1.0.json");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    site.run(&["prune", "--source", "--keep", "1"])
        .failed(9, "v1.1.0.json");
    fs::remove_dir(&path).unwrap();
    for dir in ["/nonexistent", "/etc/hostname"] {
        site.run(&["prune", "--source", "--keep", "1", "--published", dir])
            .failed(8, "nobody knows what is published");
    }
    assert_eq!(names(&site.path("b/versions")), before);
    // Other JSON is no manifest, and what is no version is left alone.
    fs::write(site.path("b/releases/index.json"), "[]").unwrap();
    fs::create_dir(site.path("b/versions/notes")).unwrap();
    let ended = site.run(&["prune", "--source", "--keep", "1"]);
    assert!(
        ended.stderr.contains("index.json") && ended.stderr.contains("notes"),
        "{ended:?}"
    );
    assert_eq!(
        ended.done(),
        "v1.1.0  kept: one of the newest\nv1.0.0  deleted\n1 of 2 deleted.\n"
    );
    assert_eq!(names(&site.path("b/versions")), ["notes", "v1.1.0"]);
}

#[test]
fn sizes_are_told_where_quotas_are_on() {
    let Some(site) = Site::new() else { return };
    site.version("v1.0.0");
    let value = site.json(&["prune", "--source", "--dry-run"]);
    assert_eq!(value["versions"][0]["exclusive_bytes"], Value::Null);
    op_dbus_loopback::sh("btrfs", &["quota", "enable", &site.text("b")]);
    op_dbus_loopback::sh("btrfs", &["quota", "rescan", "-w", &site.text("b")]);
    let value = site.json(&["prune", "--source", "--dry-run"]);
    assert!(value["versions"][0]["exclusive_bytes"].is_u64(), "{value}");
}

#[test]
fn nothing_there_is_nothing_to_do() {
    let Some(site) = Site::new() else { return };
    assert_eq!(site.json(&["prune", "--source"])["result"], "nothing-to-do");
}
