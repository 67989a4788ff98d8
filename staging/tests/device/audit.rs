//! The audit log as evidence, and as something that may be missing.

use std::fs;
use std::io::Write as _;

use crate::builder::Builder;
use crate::fixture::Device;

fn staged(device: &Device) -> String {
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.0.0"], "on-trial");
    device.result(&["cancel"], "cancelled");
    fs::read_to_string(device.store("audit/log.jsonl")).unwrap()
}

#[test]
fn the_log_is_read_in_batches_without_a_gap() {
    let Some(device) = Device::new() else { return };
    let whole = staged(&device).lines().count() as u64;
    assert!(whole > 3);
    let mut numbers = Vec::new();
    loop {
        let after = numbers.last().copied().unwrap_or(0).to_string();
        let batch = device.json(&["audit", "log", "--after", &after, "--first", "2"]);
        let lines = batch["lines"].as_array().unwrap();
        assert!(lines.len() <= 2);
        numbers.extend(lines.iter().map(|line| line["n"].as_u64().unwrap()));
        if lines.is_empty() {
            break;
        }
    }
    assert_eq!(numbers, (1..=whole).collect::<Vec<_>>());
}

#[test]
fn an_edited_line_shows() {
    let Some(device) = Device::new() else { return };
    let log = staged(&device);
    let path = device.store("audit/log.jsonl");
    fs::write(&path, log.replacen("upgrade", "rollback", 1)).unwrap();
    device
        .run(&["audit", "verify"])
        .failed(9, "does not follow");
    let problems = device.status()["problems"].to_string();
    assert!(problems.contains("audit log"), "{problems}");
    // What happens later does not cover it up.
    device.result(&["stage", "v1.0.0"], "on-trial");
    device
        .run(&["audit", "verify"])
        .failed(9, "does not follow");
    fs::write(&path, &log).unwrap();
    device.run(&["audit", "verify"]).failed(9, "was cut off");
}

#[test]
fn a_log_that_does_not_continue_the_record_is_kept_as_evidence() {
    let Some(device) = Device::new() else { return };
    let log = staged(&device);
    let path = device.store("audit/log.jsonl");
    let cut: String = log.split_inclusive('\n').take(2).collect();
    fs::write(&path, &cut).unwrap();
    device
        .run(&["audit", "verify"])
        .failed(9, "its end was cut off");
    device.result(&["stage", "v1.0.0"], "on-trial");
    let aside = device.store("audit/log.set-aside.1");
    assert_eq!(fs::read_to_string(&aside).unwrap(), cut);
    device.run(&["audit", "verify"]).failed(9, "set aside as");
    let lines = device.json(&["audit", "log"]);
    assert_eq!(lines["lines"][0]["event"], "repaired");
    // Moved out of the way by someone who has looked at it.
    fs::remove_file(aside).unwrap();
    device.result(&["audit", "verify"], "sound");
}

#[test]
fn an_edited_last_line_is_not_written_on() {
    let Some(device) = Device::new() else { return };
    let log = staged(&device);
    let path = device.store("audit/log.jsonl");
    let edited = log.trim_end().len() - "\"}".len();
    let mut forged = log.into_bytes();
    forged[edited - 1] ^= 1;
    fs::write(&path, &forged).unwrap();
    device.result(&["stage", "v1.0.0"], "on-trial");
    let aside = device.store("audit/log.set-aside.1");
    assert_eq!(fs::read(&aside).unwrap(), forged);
}

#[test]
fn a_log_that_is_gone_begins_anew_and_says_so() {
    let Some(device) = Device::new() else { return };
    staged(&device);
    fs::remove_file(device.store("audit/log.jsonl")).unwrap();
    device.run(&["audit", "verify"]).failed(9, "ends at line 0");
    device.result(&["stage", "v1.0.0"], "on-trial");
    let lines = device.json(&["audit", "log"]);
    assert_eq!(lines["lines"][0]["event"], "repaired");
    device.result(&["audit", "verify"], "sound");
}

#[test]
fn what_a_crash_leaves_at_its_end_is_no_tampering() {
    let Some(device) = Device::new() else { return };
    let log = staged(&device);
    let path = device.store("audit/log.jsonl");
    // A torn line.
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"{\"n\":5,\"time\":\"20").unwrap();
    // Longer than what comes in its place.
    file.write_all(&[b'0'; 4000]).unwrap();
    device.result(&["audit", "verify"], "sound");
    device.result(&["stage", "v1.0.0"], "on-trial");
    device.result(&["audit", "verify"], "sound");
    let now = fs::read_to_string(&path).unwrap();
    assert!(now.starts_with(&log) && now.lines().count() == 5, "{now}");

    // Whole lines the record does not know yet: the record is that of before.
    let records = ["boot/record.0", "boot/record.1"]
        .map(|copy| (device.store(copy), fs::read(device.store(copy)).unwrap()));
    device.result(&["cancel"], "cancelled");
    for (copy, content) in records {
        fs::write(copy, content).unwrap();
    }
    device.result(&["audit", "verify"], "sound");
    device.result(&["cancel"], "cancelled");
    device.result(&["audit", "verify"], "sound");
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 7);
}

#[test]
fn without_a_log_transitions_go_on_and_are_counted() {
    let Some(mut device) = Device::new() else {
        return;
    };
    staged(&device);
    device.boot();
    // A directory in its place takes no lines.
    let (path, kept) = (device.store("audit/log.jsonl"), device.path("kept"));
    fs::copy(&path, &kept).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let staged = device.result(&["stage", "v1.0.0"], "on-trial");
    assert!(
        staged["warnings"][0]
            .as_str()
            .unwrap()
            .contains("could not be written"),
        "{staged}"
    );
    let record = device.record();
    assert_eq!(record.audit.missed, 1);
    assert!(!record.attempts.is_empty(), "attempts wait in the record");
    assert!(record.trial.is_some());

    fs::remove_dir(&path).unwrap();
    fs::copy(&kept, &path).unwrap();
    device.result(&["cancel"], "cancelled");
    let verified = device.result(&["audit", "verify"], "sound");
    assert_eq!(verified["missed"], 1);
    assert!(
        device.record().attempts.is_empty(),
        "attempts were handed over"
    );
}

#[test]
fn a_pin_that_could_not_be_logged_is_counted() {
    let Some(device) = Device::new() else { return };
    staged(&device);
    let (path, kept) = (device.store("audit/log.jsonl"), device.path("kept"));
    fs::copy(&path, &kept).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    // The record has nothing else to say about it.
    device.result(&["pin", "v1.0.0"], "pinned");
    assert_eq!(device.record().audit.missed, 1);
    fs::remove_dir(&path).unwrap();
    fs::copy(&kept, &path).unwrap();
    let verified = device.result(&["audit", "verify"], "sound");
    assert_eq!(verified["missed"], 1);
    let status = device.status();
    assert_eq!(status["audit"]["missed"], 1, "{status}");
    assert!(
        status["problems"]
            .to_string()
            .contains("could not be logged")
    );
}

#[test]
fn a_full_store_still_takes_a_transition() {
    let Some(device) = Device::with_size(128) else {
        return;
    };
    staged(&device);
    let mut file = fs::File::create(device.store("incoming/ballast")).unwrap();
    let block = vec![0x5a; 1 << 20];
    while file.write_all(&block).is_ok() {}
    let _ = file.sync_all();
    for index in 0..20_000 {
        if fs::write(device.store(&format!("incoming/small{index}")), [1; 3000]).is_err() {
            break;
        }
    }
    device.result(&["stage", "v1.0.0"], "on-trial");
    assert!(device.record().trial.is_some());
    device.result(&["cancel"], "cancelled");
    assert!(device.record().trial.is_none());
}
