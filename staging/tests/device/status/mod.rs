//! `status`: one screen, its JSON, and the history behind it.

mod schema;
pub(crate) mod watch;

use std::fs;

use op_dbus_bootstate::audit::{Kind, Line};
use op_dbus_bootstate::{BootId, Digest};
use serde_json::{Value, json};

use crate::builder::Builder;
use crate::fixture::Device;

/// A device on which v1.1.0 was tried, judged unhealthy and taken back.
fn fell_back() -> Option<(Device, Builder)> {
    let (mut device, builder) = Device::blessed()?;
    let stream = builder.release("v1.1.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.1.0"], "on-trial");
    assert_eq!(device.boot(), "trial v1.1.0");
    let why = "unit demo.service: failed (exit-code)";
    device.result(&["condemn", "--reason", why], "condemned");
    assert_eq!(device.boot(), "good v1.0.0");
    Some((device, builder))
}

/// Status, checked against its schema.
#[track_caller]
fn checked(device: &Device) -> Value {
    let status = device.status();
    schema::check(&status);
    status
}

#[track_caller]
fn condition(device: &Device, expected: &str) -> Value {
    let status = checked(device);
    assert_eq!(status["condition"], expected, "{status}");
    let text = device.run(&["status"]).done();
    let word = expected.replace('-', " ").to_uppercase();
    assert!(text.starts_with(&format!("{word}: ")), "{text}");
    status
}

#[test]
fn the_first_line_follows_a_version_through_its_life() {
    let Some(mut device) = Device::new() else {
        return;
    };
    condition(&device, "inactive");
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    device.result(&["receive", &stream], "received");
    device.boot();
    condition(&device, "rescue");
    device.result(&["stage", "v1.0.0"], "on-trial");
    device.boot();
    let status = condition(&device, "on-trial");
    assert_eq!(status["boots"][0]["this_boot"], true);
    assert_eq!(status["boots"][0]["verdict"], Value::Null);
    device.result(&["bless"], "trial");
    let status = condition(&device, "healthy");
    assert_eq!(status["boots"][0]["verdict"], "blessed");
    device.boot();
    condition(&device, "unblessed");
    device.result(&["bless"], "good");
    condition(&device, "healthy");
    let stream = builder.release("v1.1.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.1.0"], "on-trial");
    let status = condition(&device, "staged");
    assert!(status["headline"].as_str().unwrap().contains("v1.1.0"));
    device.boot();
    device.result(&["condemn", "--reason", "it is slow"], "condemned");
    condition(&device, "unhealthy");
    device.boot();
    condition(&device, "fell-back");
    // The operator gives up on it, and another one is good: all is well again.
    let stream = builder.release("v1.2.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.2.0"], "on-trial");
    device.boot();
    device.result(&["bless"], "trial");
    condition(&device, "healthy");
}

#[test]
fn what_happened_is_told_with_its_reasons() {
    let Some((device, _builder)) = fell_back() else {
        return;
    };
    let status = checked(&device);
    let [now, before, first] = status["boots"].as_array().unwrap().as_slice() else {
        panic!("{status}");
    };
    assert_eq!(
        (&now["slot"], &now["version"], &now["reason"]),
        (&json!("good"), &json!("v1.0.0"), &json!("regular"))
    );
    assert_eq!(before["verdict"], "condemned");
    assert_eq!(before["why"], "unit demo.service: failed (exit-code)");
    assert_eq!(before["version"], "v1.1.0");
    assert!(before["verdict_ms"].is_u64(), "{before}");
    assert_eq!(first["verdict"], "blessed");
    let quarantined = &status["quarantine"][0];
    assert_eq!(quarantined["cause"], "condemned");
    assert_eq!(
        quarantined["detail"],
        "unit demo.service: failed (exit-code)"
    );
    let text = device.run(&["status"]).done();
    for words in [
        "FELL BACK: v1.1.0 was taken back (judged unhealthy), and v1.0.0 runs.",
        "Last boots, the newest first:",
        "trial v1.1.0",
        "v1.1.0 failed on this device (judged unhealthy)",
        "unit demo.service: failed (exit-code)",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let table: Vec<_> = text
        .lines()
        .skip_while(|line| !line.starts_with("Last boots"))
        .collect();
    let column = |line: &str, word: &str| {
        line.find(word)
            .unwrap_or_else(|| panic!("{word} in {line}"))
    };
    let heads = table[1];
    assert_eq!(column(heads, "Chosen"), column(table[2], "good v1.0.0"));
    assert_eq!(column(heads, "Verdict"), column(table[3], "condemned"));
    assert!(!text.contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn every_line_fits_a_terminal_and_is_plain_without_colours() {
    let Some((device, _builder)) = fell_back() else {
        return;
    };
    let coloured = watch::on_terminal(&device, &["status"], 80, &[]);
    assert!(coloured.contains("\u{1b}[1;33mFELL"), "{coloured}");
    let plain = watch::on_terminal(&device, &["status"], 80, &[("NO_COLOR", "1")]);
    assert!(!plain.contains('\u{1b}'), "{plain}");
    for line in plain.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let dumb = watch::on_terminal(&device, &["status"], 80, &[("TERM", "dumb")]);
    assert_eq!(dumb, plain);
}

#[test]
fn a_log_that_is_broken_long_or_gone_keeps_nothing_else_from_being_told() {
    let Some((device, _builder)) = fell_back() else {
        return;
    };
    let path = device.store("audit/log.jsonl");
    let log = fs::read_to_string(&path).unwrap();
    // A line in the middle that is none: the boots around it are still told.
    let broken: Vec<_> = log
        .lines()
        .map(|line| {
            let is_received = line.contains("\"received\"");
            if is_received { "{\"n\":" } else { line }
        })
        .collect();
    fs::write(&path, broken.join("\n") + "\n").unwrap();
    let status = checked(&device);
    assert_eq!(status["result"], "attention");
    assert_eq!(status["boots"].as_array().unwrap().len(), 3, "{status}");
    // Gone: the boots that wait in the record are known.
    fs::remove_file(&path).unwrap();
    let status = checked(&device);
    let boots = status["boots"].as_array().unwrap();
    assert_eq!(boots.len(), 1, "{status}");
    assert_eq!(
        (&boots[0]["this_boot"], &boots[0]["version"]),
        (&json!(true), &json!("v1.0.0"))
    );
    // Not a log at all.
    fs::create_dir(&path).unwrap();
    assert_eq!(checked(&device)["good"]["version"], "v1.0.0");
    fs::remove_dir(&path).unwrap();
    // More than anyone wants to read: of the old boots nothing is told.
    let mut text = String::new();
    for n in 1..=20_000_u64 {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        let line = Line {
            n,
            time: "2026-11-23T10:00:00Z".to_owned(),
            boot: Some(BootId(id)),
            up_ms: Some(n),
            actor: "test".to_owned(),
            event: Kind::Blessed,
            version: Some("v1.0.0".parse().unwrap()),
            digest: None,
            ending: None,
            rotation: None,
            detail: String::new(),
            prev: Digest([0; 32]),
        };
        text += &(serde_json::to_string(&line).unwrap() + "\n");
    }
    fs::write(&path, text).unwrap();
    let status = checked(&device);
    let boots = status["boots"].as_array().unwrap();
    assert_eq!(boots.len(), 8);
    assert_eq!(boots[1]["verdict_ms"], 20_000, "{status}");
}

#[test]
fn a_kernels_last_words_are_shown_where_they_were_kept() {
    let Some((device, _builder)) = fell_back() else {
        return;
    };
    let status = checked(&device);
    let boot = &status["boots"][1];
    assert_eq!(boot["console"], Value::Null);
    let dir = device.store("audit/console");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join(format!("{}.txt", boot["boot_id"].as_str().unwrap()));
    let words = "one\ntwo\nthree\nKernel panic - not syncing: \u{1b}[31mFatal\n\n";
    fs::write(&path, words).unwrap();
    let status = checked(&device);
    let console = &status["boots"][1]["console"];
    assert_eq!(console["path"], path.to_str().unwrap());
    assert_eq!(console["last"][0], "two");
    let text = device.run(&["status"]).done();
    assert!(
        text.contains("| Kernel panic - not syncing: ?[31mFatal"),
        "{text}"
    );
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    // Longer than anything we keep: not ours, and not read.
    fs::write(&path, "x".repeat(1 << 20)).unwrap();
    assert_eq!(checked(&device)["boots"][1]["console"], Value::Null);
}

#[test]
fn of_a_log_in_many_segments_only_the_newest_are_read() {
    let Some((device, _builder)) = Device::blessed() else {
        return;
    };
    let config = device.layout.config();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + "\n[audit]\nrotate_kib = 16\n").unwrap();
    assert_eq!(checked(&device)["audit"]["whole"], true);
    let segments = || {
        let names = crate::fixture::names(&device.store("audit"));
        names
            .into_iter()
            .filter(|name| name.starts_with("log.0"))
            .collect::<Vec<_>>()
    };
    while segments().len() < 3 {
        device.run(&["pin", "v1.0.0"]).done();
        device.run(&["unpin", "v1.0.0"]).done();
    }
    let status = checked(&device);
    assert_eq!(status["audit"]["whole"], false, "{status}");
    assert_eq!(status["result"], "ok");
    // What is wrong with an old one is not looked for here; with a new one it is.
    let path = |at: usize| device.store("audit").join(&segments()[at]);
    let (old, new) = (path(0), path(2));
    let damage = |path: &std::path::Path| {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, text.replacen("pinned", "pruned", 1)).unwrap();
    };
    damage(&old);
    assert_eq!(checked(&device)["result"], "ok");
    assert_eq!(device.run(&["audit", "verify"]).code, 9);
    damage(&new);
    let status = checked(&device);
    assert_eq!(
        (&status["result"], &status["audit"]["lines"]),
        (&json!("attention"), &Value::Null)
    );
}

#[test]
fn what_another_boot_left_says_nothing_about_this_one() {
    let Some((mut device, _builder)) = Device::blessed() else {
        return;
    };
    assert_eq!(checked(&device)["this_boot"], true);
    // The file of the boot before, as a restored /run would hold it.
    let old = fs::read(device.layout.activation()).unwrap();
    device.next_boot();
    fs::write(device.layout.activation(), old).unwrap();
    assert_eq!(condition(&device, "inactive")["this_boot"], false);
}

#[test]
fn words_of_a_version_do_not_reach_the_terminal_as_commands() {
    let Some((mut device, builder)) = Device::blessed() else {
        return;
    };
    let stream = builder.release("v1.1.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.1.0"], "on-trial");
    device.boot();
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\nGood         v9.9.9";
    device.result(&["condemn", "--reason", hostile], "condemned");
    let text = watch::on_terminal(&device, &["status"], 80, &[("NO_COLOR", "1")]);
    assert!(text.contains("owned"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    assert!(
        !text.lines().any(|line| line.starts_with("Good         v9")),
        "{text}"
    );
    assert_eq!(checked(&device)["boots"][0]["why"], hostile);
}
