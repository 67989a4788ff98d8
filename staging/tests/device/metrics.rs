//! `metrics`: what Prometheus is told, read by a strict reader.

#[path = "../../src/commands/metrics/strict.rs"]
mod strict;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::json;

use crate::durable::durable;
use crate::fixture::{Device, names};

/// The samples, by name and one label's value.
struct Samples(Vec<strict::Sample>);

impl Samples {
    #[track_caller]
    fn of(device: &Device) -> Self {
        Self(strict::parse(&device.run(&["metrics"]).done()).unwrap())
    }

    fn get(&self, name: &str, label: &str) -> Option<f64> {
        let mut found = self.0.iter().filter(|sample| {
            let has = |value: &String| value == label;
            sample.name == name && (label.is_empty() || sample.labels.values().any(has))
        });
        let first = found.next().map(|sample| sample.value);
        assert!(found.next().is_none(), "{name} {label}: several");
        first
    }

    #[track_caller]
    fn are(&self, expected: &[(&str, &str, Option<f64>)]) {
        for (name, label, value) in expected {
            assert_eq!(self.get(name, label), *value, "{name} {label}");
        }
    }
}

fn configured(device: &Device) -> PathBuf {
    let dir = device.path("collector");
    fs::create_dir_all(&dir).unwrap();
    let textfile = dir.join("op-dbus.prom");
    let config = device.layout.config();
    let text = fs::read_to_string(&config).unwrap();
    let section = format!("\n[metrics]\ntextfile = \"{}\"\n", textfile.display());
    fs::write(&config, text + &section).unwrap();
    textfile
}

#[test]
fn a_life_in_numbers() {
    let Some((mut device, builder)) = Device::blessed() else {
        return;
    };
    let samples = Samples::of(&device);
    samples.are(&[
        ("op_dbus_condition", "healthy", Some(1.0)),
        ("op_dbus_condition", "fell-back", Some(0.0)),
        ("op_dbus_fallbacks_total", "condemned", Some(0.0)),
        ("op_dbus_verdicts_total", "blessed", Some(1.0)),
        ("op_dbus_trial_tries_left", "", None),
        ("op_dbus_store_readable", "", Some(1.0)),
        ("op_dbus_record_sound", "", Some(1.0)),
        ("op_dbus_audit_sound", "", Some(1.0)),
        ("op_dbus_audit_missed_total", "", Some(0.0)),
        ("op_dbus_release_keys", "", Some(1.0)),
        ("op_dbus_problems", "", Some(0.0)),
    ]);
    assert!(samples.get("op_dbus_time_to_bless_seconds", "").unwrap() > 0.0);
    let size = samples.get("op_dbus_store_size_bytes", "").unwrap();
    let free = samples.get("op_dbus_store_free_bytes", "").unwrap();
    assert!(
        0.0 < free && free < size && size <= 256.0 * 1024.0 * 1024.0,
        "{free} of {size}"
    );

    let stream = builder.release("v1.1.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.1.0"], "on-trial");
    device.boot();
    Samples::of(&device).are(&[
        ("op_dbus_condition", "on-trial", Some(1.0)),
        ("op_dbus_trial_tries_left", "", Some(2.0)),
        ("op_dbus_version_info", "running", Some(1.0)),
    ]);
    device.result(&["condemn"], "condemned");
    device.boot();
    device.result(&["bless"], "good");
    Samples::of(&device).are(&[
        ("op_dbus_condition", "fell-back", Some(1.0)),
        ("op_dbus_fallbacks_total", "condemned", Some(1.0)),
        ("op_dbus_verdicts_total", "condemned", Some(1.0)),
        ("op_dbus_quarantined_versions", "", Some(1.0)),
        ("op_dbus_boot_attempts_total", "trial-due", Some(2.0)),
    ]);
}

#[test]
fn what_this_boot_did_and_which_checks_fail() {
    let Some((device, _builder)) = Device::blessed() else {
        return;
    };
    let path = device.layout.activation();
    let mut activation: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    activation["steps_us"] = json!([["config", 1500], ["mount", 250], ["config", 500]]);
    activation["total_us"] = json!(3000);
    activation["degraded"] = json!(["store-read-only"]);
    fs::write(&path, activation.to_string()).unwrap();
    let hostile = "unit \"a\\b\"\nop_dbus_problems 99";
    let shown = hostile.replace('\n', " ");
    let health = json!({
        "schema": 1, "boot_id": activation["boot_id"], "version": "v1.0.0", "verdict": "unhealthy",
        "decided_ms": 5, "failures": [{ "check": hostile, "reason": "x", "kind": "required" }],
    });
    fs::write(
        device.layout.run_dir().join("health.json"),
        health.to_string(),
    )
    .unwrap();
    let samples = Samples::of(&device);
    samples.are(&[
        ("op_dbus_activation_seconds", "", Some(0.003)),
        ("op_dbus_activation_step_seconds", "config", Some(0.002)),
        ("op_dbus_activation_step_seconds", "mount", Some(0.00025)),
        ("op_dbus_degraded", "store-read-only", Some(1.0)),
        ("op_dbus_health_verdict_info", "unhealthy", Some(1.0)),
        ("op_dbus_check_failing", &shown, Some(1.0)),
        ("op_dbus_condition", "degraded", Some(1.0)),
        ("op_dbus_problems", "", Some(0.0)),
    ]);
}

#[test]
fn the_file_is_replaced_in_one_step_and_others_may_read_it() {
    let Some((mut device, _builder)) = Device::blessed() else {
        return;
    };
    device.result(&["metrics", "--write"], "nothing-to-do");
    let textfile = configured(&device);
    let written = device.result(&["metrics", "--write"], "written");
    let text = fs::read_to_string(&textfile).unwrap();
    assert_eq!(written["text"], text);
    assert_eq!(strict::parse(&text).unwrap().len(), written["samples"]);
    let mode = textfile.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    device.boot();
    let collector = File::open(&textfile).unwrap();
    device.run(&["metrics", "--write"]).done();
    assert_ne!(fs::read_to_string(&textfile).unwrap(), text);
    // Whoever is in the middle of reading it goes on with the old one.
    assert_eq!(io::read_to_string(collector).unwrap(), text);
    assert_eq!(names(textfile.parent().unwrap()), ["op-dbus.prom"]);
    // Printing writes nothing.
    fs::remove_file(&textfile).unwrap();
    device.run(&["metrics"]).done();
    assert!(!textfile.exists());
    fs::remove_dir(textfile.parent().unwrap()).unwrap();
    device
        .run(&["metrics", "--write"])
        .failed(3, "its directory does not exist");
}

#[test]
fn counters_survive_what_the_log_does_not() {
    let Some((device, _builder)) = Device::blessed() else {
        return;
    };
    configured(&device);
    // The counts get their name only once they are on the disk.
    let calls = durable(&device, &["metrics", "--write"]);
    let kept = device.store("metrics.json");
    assert!(calls.iter().any(|call| call.other.as_ref() == Some(&kept)));
    let path = device.store("audit/log.jsonl");
    let log = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    Samples::of(&device).are(&[
        ("op_dbus_verdicts_total", "blessed", Some(1.0)),
        ("op_dbus_audit_sound", "", Some(0.0)),
        ("op_dbus_audit_lines_total", "", None),
    ]);
    fs::write(&path, log).unwrap();
    // What is kept is no part of the history, and nothing else minds it.
    device.result(&["audit", "verify"], "sound");
    device.result(&["prune"], "nothing-to-do");
    assert_eq!(device.status()["result"], "ok");
    fs::write(device.store("metrics.json"), "{\"schema\":1,").unwrap();
    Samples::of(&device).are(&[("op_dbus_verdicts_total", "blessed", Some(1.0))]);
}

#[test]
fn a_device_without_a_store_still_says_so() {
    let Some((device, _builder)) = Device::blessed() else {
        return;
    };
    let textfile = configured(&device);
    let gone = device.path("gone");
    fs::create_dir(&gone).unwrap();
    device
        .run(&["metrics", "--write", "--store", gone.to_str().unwrap()])
        .done();
    let text = fs::read_to_string(&textfile).unwrap();
    Samples(strict::parse(&text).unwrap()).are(&[
        ("op_dbus_store_readable", "", Some(0.0)),
        ("op_dbus_condition", "broken", Some(1.0)),
        ("op_dbus_fallbacks_total", "condemned", None),
        ("op_dbus_record_sound", "", None),
    ]);
    assert_eq!(names(&gone), Vec::<String>::new());
}
