//! A restore that is cut off at any moment.

use std::fs;
use std::path::Path;

use op_dbus_calls::{kill_after, trace};

use super::restore::full;
use super::trees::describe;
use crate::durable::durable;
use crate::fixture::{Device, names};

/// Moments a restore is killed at.
const STEPS: usize = 10;

#[test]
fn a_kill_at_any_moment_is_made_good_by_the_same_command() {
    let Some((device, builder, file)) = full() else {
        return;
    };
    let manifest = builder.manifest("v1.0.0");
    let releases = Path::new(&manifest)
        .parent()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let args = ["restore", file.to_str().unwrap(), "--releases", &releases];
    let whole = trace(&mut Device::new().unwrap().command(&args))
        .calls
        .len();
    let expected = describe(&device.store("overlays/v1.1.0/upper"));
    for step in 1..STEPS {
        let mut other = Device::new().unwrap();
        let killed = kill_after(&mut other.command(&args), whole * step / STEPS);
        assert_eq!(killed.code, 128 + 9, "{}", killed.stderr);
        let is_fresh = other.record().good.is_none();
        // As it was, or restored.
        if is_fresh {
            assert_eq!(other.boot(), "rescue");
        }
        let again = other.json(&args);
        let expected_result = if is_fresh {
            "restored"
        } else {
            "already-restored"
        };
        assert_eq!(again["result"], expected_result, "{again}");
        assert_eq!(describe(&other.store("overlays/v1.1.0/upper")), expected);
        assert_eq!(
            names(&other.store("overlays")),
            ["v1.0.0", "v1.1.0", "v1.1.0.failed"]
        );
        assert!(names(&other.store("incoming")).is_empty());
        other.result(&["audit", "verify"], "sound");
        other.result(&["verify", "--deep"], "sound");
        assert_eq!(other.boot(), "trial v1.2.0");
    }
}

/// Cut off after the record, before what was unpacked is cleared away.
#[test]
fn what_a_cut_left_after_the_record_is_cleared_by_the_same_command() {
    let Some((_device, builder, file)) = full() else {
        return;
    };
    let manifest = builder.manifest("v1.0.0");
    let releases = Path::new(&manifest).parent().unwrap().to_str().unwrap();
    let args = ["restore", file.to_str().unwrap(), "--releases", releases];
    let other = Device::new().unwrap();
    other.result(&args, "restored");
    let left = other.store("incoming/restore.left");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("piece"), "x").unwrap();
    other.result(&args, "already-restored");
    assert!(names(&other.store("incoming")).is_empty());
}

/// Cut off between the overlays' names and the record, then another backup.
#[test]
fn what_a_cut_left_of_one_backup_gives_way_to_another() {
    let Some((device, builder, file)) = full() else {
        return;
    };
    let manifest = builder.manifest("v1.0.0");
    let releases = Path::new(&manifest)
        .parent()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let newer = device.path("newer");
    fs::write(device.store("overlays/v1.1.0/upper/newer"), "x").unwrap();
    super::story::backup(&device, &newer);
    let other = Device::new().unwrap();
    let blank: Vec<_> = ["record.0", "record.1", "record.blessed"]
        .into_iter()
        .map(|copy| other.store("boot").join(copy))
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    let log = fs::read(other.store("audit/log.jsonl")).unwrap();
    other.result(
        &["restore", file.to_str().unwrap(), "--releases", &releases],
        "restored",
    );
    // As before the log went on; marks are taken away only after that.
    for (bytes, path) in blank {
        fs::write(path, bytes).unwrap();
    }
    fs::write(other.store("audit/log.jsonl"), log).unwrap();
    let again = ["restore", newer.to_str().unwrap(), "--releases", &releases];
    other.run(&again).failed(8, "is there already");
    for name in names(&other.store("overlays")) {
        let path = other.store("overlays").join(name);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(&path, "trusted.op-dbus.restored", b"other", flags).unwrap();
    }
    other.result(&again, "restored");
    assert!(other.store("overlays/v1.1.0/upper/newer").exists());
}

#[test]
fn everything_is_durable_before_the_record_names_it() {
    let Some((_device, builder, file)) = full() else {
        return;
    };
    let manifest = builder.manifest("v1.0.0");
    let releases = Path::new(&manifest)
        .parent()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let other = Device::new().unwrap();
    let calls = durable(
        &other,
        &["restore", file.to_str().unwrap(), "--releases", &releases],
    );
    let place = other.store("overlays/v1.1.0");
    let named = calls
        .iter()
        .position(|call| call.other.as_deref() == Some(&place))
        .unwrap();
    // The first copy that is written after that.
    let boot = other.store("boot");
    let is_record =
        |call: &op_dbus_calls::Call| call.name == "pwrite64" && call.path.starts_with(&boot);
    let written = named + calls[named..].iter().position(is_record).unwrap();
    let synced = |call: &op_dbus_calls::Call| call.name == "syncfs";
    assert!(
        calls[named..written].iter().any(synced),
        "the names are durable first"
    );
    let hidden = other.store("overlays/.new-restore-v1.1.0");
    let made = calls.iter().position(|call| call.path == hidden).unwrap();
    assert!(
        calls[made..named].iter().any(synced),
        "and what they name before that"
    );
}
