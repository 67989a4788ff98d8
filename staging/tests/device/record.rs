//! Boot records that are lost, damaged, or of another release.

use std::fs;

use op_dbus_bootstate::codec;

use crate::builder::Builder;
use crate::fixture::{Device, flip};

const COPIES: [&str; 3] = ["boot/record.0", "boot/record.1", "boot/record.blessed"];

/// A device whose good version is v1.0.0, running, with v1.1.0 in the store.
fn with_good() -> Option<(Device, Builder)> {
    let (device, builder) = Device::blessed()?;
    let second = builder.release("v1.1.0", Some("v1.0.0"));
    device.result(&["receive", &second], "received");
    Some((device, builder))
}

#[test]
fn one_lost_copy_is_restored_by_the_next_command() {
    for copy in &COPIES[..2] {
        let Some((device, _builder)) = with_good() else {
            return;
        };
        flip(&device.store(copy), 40);
        let status = device.status();
        assert_eq!(status["record"]["state"], "one-copy");
        device.result(&["stage", "v1.1.0"], "on-trial");
        assert_eq!(device.status()["record"]["state"], "intact");
        let log = device.json(&["audit", "log"]).to_string();
        assert!(log.contains("checksum mismatch"), "{log}");
        device.result(&["audit", "verify"], "sound");
    }
}

/// A second write that is reported as failed leaves one copy older. The command is
/// run again and finds its work done: it says so with both copies renewed, or the
/// loss of the newer one would lose what it said.
#[test]
fn what_is_acknowledged_without_a_change_is_in_both_copies() {
    for older in &COPIES[..2] {
        let Some((device, _builder)) = with_good() else {
            return;
        };
        let before = fs::read(device.store(older)).unwrap();
        device.result(&["stage", "v1.1.0"], "on-trial");
        fs::write(device.store(older), before).unwrap();
        assert_eq!(device.status()["record"]["state"], "stale-copy");
        device.result(&["stage", "v1.1.0"], "already-staged");
        assert_eq!(device.status()["record"]["state"], "intact");
        let copies = COPIES.map(|copy| fs::read(device.store(copy)).unwrap());
        assert_eq!(copies[0], copies[1]);
        let newer = COPIES[..2].iter().find(|copy| *copy != older).unwrap();
        flip(&device.store(newer), 40);
        let status = device.status();
        assert_eq!(status["record"]["state"], "one-copy");
        assert_eq!(status["trial"]["version"], "v1.1.0");
        device.result(&["audit", "verify"], "sound");
    }
}

#[test]
fn both_lost_copies_come_back_from_the_last_bless() {
    let Some((mut device, _builder)) = with_good() else {
        return;
    };
    device.result(&["stage", "v1.1.0"], "on-trial");
    for copy in &COPIES[..2] {
        fs::write(device.store(copy), [0; 4096]).unwrap();
    }
    let status = device.status();
    assert_eq!(status["record"]["state"], "rebuilt-blessed");
    assert_eq!(status["trial"], serde_json::Value::Null);
    device.result(&["cancel"], "nothing-to-do");
    assert_eq!(device.status()["record"]["state"], "intact");
    device.result(&["audit", "verify"], "sound");
    assert_eq!(device.boot(), "good v1.0.0");
}

#[test]
fn all_lost_copies_come_back_from_the_log() {
    let Some((mut device, _builder)) = with_good() else {
        return;
    };
    for copy in COPIES {
        fs::remove_file(device.store(copy)).unwrap();
    }
    let status = device.status();
    assert_eq!(status["record"]["state"], "missing");
    assert!(
        status["next"]
            .to_string()
            .contains("rebuilt from the audit log"),
        "{status}"
    );
    device.result(&["stage", "v1.1.0"], "on-trial");
    let status = device.status();
    assert_eq!(status["good"]["version"], "v1.0.0");
    assert_eq!(status["record"]["state"], "intact");
    device.result(&["audit", "verify"], "sound");
    assert_eq!(device.boot(), "trial v1.1.0");
}

#[test]
fn preparing_again_does_not_forget_what_was_good() {
    let Some((device, _builder)) = with_good() else {
        return;
    };
    for copy in COPIES {
        fs::write(device.store(copy), [0; 4096]).unwrap();
    }
    device.json(&["prepare"]);
    assert_eq!(device.status()["good"]["version"], "v1.0.0");
}

#[test]
fn a_newer_format_is_not_touched() {
    let Some((device, builder)) = with_good() else {
        return;
    };
    for copy in &COPIES[..2] {
        let mut block = fs::read(device.store(copy)).unwrap();
        block[8..12].copy_from_slice(&(codec::FORMAT + 1).to_le_bytes());
        let crc = crc32fast::hash(&block[..4092]);
        block[4092..].copy_from_slice(&crc.to_le_bytes());
        fs::write(device.store(copy), block).unwrap();
    }
    let before = device.snapshot();
    let stream = builder.release("v2.0.0", None);
    let commands: [&[&str]; 10] = [
        &["prune"],
        &["pin", "v1.1.0"],
        &["unpin", "v1.1.0"],
        &["stage", "v1.1.0"],
        &["cancel"],
        &["bless"],
        &["condemn"],
        &["rollback"],
        &["orderly-shutdown"],
        &["receive", &stream],
    ];
    for command in commands {
        device.run(command).failed(10, "newer than this program's");
    }
    assert_eq!(device.snapshot(), before);
    let status = device.status();
    assert_eq!(status["record"]["state"], "newer-format");
    assert!(
        status["next"].to_string().contains("newer release"),
        "{status}"
    );
}

#[test]
fn nothing_is_written_that_the_initramfs_could_not_read() {
    let Some((device, _builder)) = with_good() else {
        return;
    };
    let path = device.layout.activation();
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("\"record_formats\":[1]", "\"record_formats\":[0]");
    fs::write(&path, text).unwrap();
    let before = device.snapshot();
    device
        .run(&["stage", "v1.1.0"])
        .failed(10, "bring the initramfs up to date");
    assert_eq!(device.snapshot(), before);
}
