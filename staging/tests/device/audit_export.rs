//! Heads of the audit log that were kept elsewhere, and what they show.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::builder::Builder;
use crate::fixture::{Device, names};
use crate::keys::keys;

fn busy() -> Option<Device> {
    let device = Device::new()?;
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.0.0"], "on-trial");
    Some(device)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Everything that somebody who is root can put back.
fn save(device: &Device) -> Vec<(PathBuf, Vec<u8>)> {
    ["audit", "boot"]
        .iter()
        .flat_map(|dir| {
            let dir = device.store(dir);
            names(&dir).into_iter().map(move |name| dir.join(name))
        })
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn put_back(files: &[(PathBuf, Vec<u8>)]) {
    for (path, content) in files {
        fs::write(path, content).unwrap();
    }
}

#[test]
fn an_export_verifies_without_the_device() {
    let Some(device) = busy() else { return };
    let place = device.path("export");
    let exported = device.result(&["audit", "export", text(&place)], "exported");
    assert_eq!(exported["head"]["length"], 3, "{exported}");
    assert_eq!(names(&place), ["head.json", "log.jsonl"]);
    let log = fs::read(device.store("audit/log.jsonl")).unwrap();
    assert_eq!(fs::read(place.join("log.jsonl")).unwrap(), log);
    let other = Device::bare(128).unwrap();
    let verified = other.result(&["audit", "verify", text(&place)], "sound");
    assert_eq!(
        (&verified["lines"], &verified["heads"][0]["line"]),
        (&3.into(), &3.into())
    );

    // Nothing gives way to an export, and a failed one leaves nothing.
    device
        .run(&["audit", "export", text(&place)])
        .failed(8, "is there already");
    device
        .run(&["audit", "export", "--head-only", text(&place)])
        .failed(8, "is there already");
    let nowhere = device.path("nowhere/export");
    device
        .run(&["audit", "export", text(&nowhere)])
        .failed(1, "write");
    assert!(!device.path(".export.part").exists());

    // Tampering with the export shows without the device, too.
    let path = place.join("log.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let cut: String = whole.split_inclusive('\n').take(2).collect();
    fs::write(&path, cut).unwrap();
    other
        .run(&["audit", "verify", text(&place)])
        .failed(9, "its end was cut off");
    fs::write(&path, whole.replacen("upgrade", "rollback", 1)).unwrap();
    other
        .run(&["audit", "verify", text(&place)])
        .failed(9, "log was rewritten");
}

#[test]
fn a_head_that_left_the_device_shows_a_past_that_was_made_up() {
    let Some(device) = busy() else { return };
    let head = device.path("head.json");
    let before = save(&device);
    device.result(&["pin", "v1.0.0"], "pinned");
    device.result(&["audit", "export", "--head-only", text(&head)], "exported");
    let check = ["audit", "verify", "--head", text(&head)];
    let verified = device.result(&check, "sound");
    assert_eq!(verified["heads"][0]["line"], 4);
    assert_eq!(verified["heads"][0]["signer"], Value::Null);
    // It still has it when it has gone on.
    device.result(&["unpin", "v1.0.0"], "unpinned");
    device.result(&check, "sound");

    // The log and the record put back together: by themselves they are sound.
    put_back(&before);
    device.result(&["audit", "verify"], "sound");
    device
        .run(&check)
        .failed(9, "ends at line 3, this head is of line 4");
    // And with another past than the one that was.
    device.result(&["cancel"], "cancelled");
    device.result(&["pin", "v1.0.0"], "pinned");
    device.result(&["audit", "verify"], "sound");
    device
        .run(&check)
        .failed(9, "line 4 of the log is another one");

    // A head of another device says nothing about this one.
    let other = Device::new().unwrap();
    other.run(&check).failed(9, "is of the store");
    fs::write(&head, "{}").unwrap();
    device.run(&check).failed(9, "missing field");
}

#[test]
fn a_signed_head_is_believed_by_its_signature_alone() {
    let Some(device) = busy() else { return };
    let head = device.path("head.json");
    device.result(&["audit", "export", "--head-only", text(&head)], "exported");
    let certificate = device.path("auditor.asc");
    keys().export("release", &certificate);
    let check = [
        "audit",
        "verify",
        "--head",
        text(&head),
        "--key",
        text(&certificate),
    ];
    device
        .run(&check)
        .failed(9, "head.json.asc: does not exist");

    let signed = Command::new(env!("CARGO_BIN_EXE_op-dbus-stage"))
        .args(["--json", "sign", text(&head), "--key", "release"])
        .env("GNUPGHOME", keys().home())
        .output()
        .unwrap();
    assert!(signed.status.success(), "{signed:?}");
    let signed: Value = serde_json::from_slice(&signed.stdout).unwrap();
    assert_eq!(signed["head"]["length"], 3);
    let verified = device.result(&check, "sound");
    let name = verified["heads"][0]["signer"].as_str().unwrap();
    assert!(name.contains("release"), "{verified}");
    // Without a certificate nobody says that the signature was checked.
    let unchecked = device.result(&["audit", "verify", "--head", text(&head)], "sound");
    assert!(
        unchecked["warnings"][0]
            .as_str()
            .unwrap()
            .contains("was not checked")
    );

    let stranger = device.path("stranger.asc");
    keys().export("other", &stranger);
    let by = [
        "audit",
        "verify",
        "--head",
        text(&head),
        "--key",
        text(&stranger),
    ];
    device.run(&by).failed(9, "");
    let changed = fs::read_to_string(&head)
        .unwrap()
        .replacen("\"missed\": 0", "\"missed\": 7", 1);
    fs::write(&head, changed).unwrap();
    device.run(&check).failed(9, "");
    device
        .run(&["audit", "verify", "--key", text(&certificate)])
        .failed(2, "there is no head");
}
