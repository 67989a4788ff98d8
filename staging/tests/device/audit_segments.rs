//! The audit log of a device in segments: closing one, its backup, and a record
//! that is rebuilt from it.

use std::fs;
use std::path::PathBuf;

use op_dbus_calls::Call;

use crate::builder::Builder;
use crate::durable::durable;
use crate::fixture::{Device, names};

/// The other word, and what comes of it.
fn toggle(device: &Device) -> (&'static str, &'static str) {
    if device.store("pins/v1.0.0").symlink_metadata().is_ok() {
        ("unpin", "unpinned")
    } else {
        ("pin", "pinned")
    }
}

/// Writes to the log until it is due to be closed, and returns it.
fn fill(device: &Device) -> Vec<u8> {
    let log = device.store("audit/log.jsonl");
    while fs::metadata(&log).unwrap().len() < 16 * 1024 {
        one_more(device);
    }
    fs::read(&log).unwrap()
}

fn one_more(device: &Device) {
    let (word, result) = toggle(device);
    device.result(&[word, "v1.0.0"], result);
}

fn segments(device: &Device) -> Vec<PathBuf> {
    let mut names = names(&device.store("audit"));
    names.retain(|name| name.starts_with("log.0"));
    let paths = names.iter().map(|name| device.store("audit").join(name));
    paths.collect()
}

fn small_segments() -> Option<(Device, Builder)> {
    let (device, builder) = Device::blessed()?;
    let path = device.layout.config();
    let written = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        format!("{written}\n[audit]\nrotate_kib = 16\nkeep_segments = 1\n"),
    )
    .unwrap();
    Some((device, builder))
}

#[test]
fn a_segment_is_closed_durably_and_the_log_goes_on() {
    let Some((device, _builder)) = small_segments() else {
        return;
    };
    let full = fill(&device);
    let log = device.store("audit/log.jsonl");
    let calls = durable(&device, &[toggle(&device).0, "v1.0.0"]);
    let at = |is: &dyn Fn(&Call) -> bool| {
        calls
            .iter()
            .position(is)
            .unwrap_or_else(|| panic!("{calls:#?}"))
    };
    let closed = segments(&device);
    assert_eq!(closed.len(), 1);
    assert_eq!(fs::read(&closed[0]).unwrap(), full);
    let renamed = at(&|call| call.other.as_deref() == Some(&closed[0]));
    let audit = device.store("audit");
    let synced = at(&|call| call.name == "fsync" && call.path == audit);
    let written = at(&|call| call.name == "write" && call.path == log);
    assert!(renamed < synced && synced < written, "{calls:#?}");

    let verified = device.result(&["audit", "verify"], "sound");
    let lines = verified["lines"].as_u64().unwrap();
    let printed = device.json(&["audit", "log"]);
    assert_eq!(printed["lines"].as_array().unwrap().len() as u64, lines);
    let text = fs::read_to_string(&log).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["event"], "rotated");

    // A closed segment that was tampered with, or is gone, shows.
    fs::write(&closed[0], &full[..full.len() - 1]).unwrap();
    device
        .run(&["audit", "verify"])
        .failed(9, "is not an audit entry");
    let mut edited = full.clone();
    edited[20] ^= 1;
    fs::write(&closed[0], &edited).unwrap();
    device.run(&["audit", "verify"]).failed(9, "line ");
    let problems = device.status()["problems"].to_string();
    assert!(problems.contains("audit log"), "{problems}");
    fs::remove_file(&closed[0]).unwrap();
    device
        .run(&["audit", "verify"])
        .failed(9, "are gone, and no line says");
    // It is no reason not to go on.
    one_more(&device);
    fs::write(&closed[0], &full).unwrap();
    device.result(&["audit", "verify"], "sound");

    // The second segment pushes the first out, which a line has said before.
    fill(&device);
    let calls = durable(&device, &[toggle(&device).0, "v1.0.0"]);
    let at = |is: &dyn Fn(&Call) -> bool| {
        calls
            .iter()
            .position(is)
            .unwrap_or_else(|| panic!("{calls:#?}"))
    };
    let stated = at(&|call| call.name.starts_with("fsync") && call.path == log);
    let removed = at(&|call| call.name == "unlink" && call.path == closed[0]);
    assert!(stated < removed, "{calls:#?}");
    assert_eq!(segments(&device).len(), 1);
    let verified = device.result(&["audit", "verify"], "sound");
    assert!(verified["removed"].as_u64().unwrap() > 20, "{verified}");

    // The bless was in the segment that is gone; it is known all the same.
    let after = device.json(&["audit", "log"]).to_string();
    assert!(!after.contains("\"blessed\""), "{after}");
    for copy in ["record.0", "record.1", "record.blessed"] {
        fs::write(device.store("boot").join(copy), [0; 4096]).unwrap();
    }
    one_more(&device);
    assert_eq!(device.status()["good"]["version"], "v1.0.0");
    device.result(&["audit", "verify"], "sound");
}

#[test]
fn a_record_of_long_ago_does_not_make_the_log_a_forgery() {
    let Some((device, _builder)) = small_segments() else {
        return;
    };
    for _ in 0..3 {
        fill(&device);
        one_more(&device);
        one_more(&device);
    }
    // Both copies are lost; the one of the bless knows only lines that are gone.
    for copy in ["record.0", "record.1"] {
        fs::write(device.store("boot").join(copy), [0; 4096]).unwrap();
    }
    device.run(&["audit", "verify"]).failed(9, "begins at line");
    one_more(&device);
    device.result(&["audit", "verify"], "sound");
    let aside = names(&device.store("audit"));
    assert!(
        !aside.iter().any(|name| name.contains("aside")),
        "{aside:?}"
    );
}

#[test]
fn a_backup_has_all_segments_in_one() {
    let Some((device, builder)) = small_segments() else {
        return;
    };
    let mut whole = fill(&device);
    one_more(&device);
    whole.extend(fs::read(device.store("audit/log.jsonl")).unwrap());
    // What other programs keep there is not the log's.
    fs::write(device.store("audit/notified"), "7").unwrap();
    fs::create_dir(device.store("audit/console")).unwrap();
    let file = device.path("backup");
    let file = file.to_str().unwrap();
    let made = device.json(&["backup", "create", file]);
    assert_eq!(made["warnings"].as_array().unwrap().len(), 0, "{made}");
    let checked = device.json(&["backup", "verify", file]);
    assert_eq!(
        checked["warnings"].as_array().unwrap().len(),
        0,
        "{checked}"
    );

    let other = Device::new().unwrap();
    let manifest = PathBuf::from(builder.manifest("v1.0.0"));
    let releases = manifest.parent().unwrap().to_str().unwrap();
    other.run(&["restore", file, "--releases", releases]).done();
    let kept = names(&other.store("audit"));
    let kept = kept.iter().find(|name| name.starts_with("restored-"));
    let kept = other.store("audit").join(kept.unwrap());
    assert_eq!(fs::read(kept).unwrap(), whole);
    let verified = other.result(&["audit", "verify"], "sound");
    assert_eq!(verified["kept"][0]["broken"], serde_json::Value::Null);
}
