//! What follows from what the health check said.

use std::fs;

use op_dbus_bootstate::BootId;
use op_dbus_health::verdict::Report;
use serde_json::{Value, json};

use crate::common::Ended;
use crate::fixture::Device;

/// Writes what the agent would have written in this boot.
pub(crate) fn say(device: &Device, verdict: &str, version: &str, failures: &Value) {
    let boot = fs::read_to_string(device.path("boot_id")).unwrap();
    let text = json!({
        "schema": 1, "boot_id": boot, "version": version, "verdict": verdict,
        "decided_ms": 60_000, "failures": failures,
    });
    let path = Report::path(&device.layout);
    fs::write(path, text.to_string()).unwrap();
}

fn bad() -> Value {
    json!([
        {"check": "unit web.service", "reason": "failed (exit-code)", "kind": "required"},
        {"check": "free /var", "reason": "2 MiB", "kind": "wanted"},
    ])
}

fn no_dns() -> Value {
    json!([{"check": "dns example.org", "reason": "timed out", "kind": "infrastructure"}])
}

/// A device that runs v1.1.0 on trial, v1.0.0 is good.
fn on_trial() -> Option<Device> {
    let (mut device, builder) = Device::blessed()?;
    let stream = builder.release("v1.1.0", Some("v1.0.0"));
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.1.0"], "on-trial");
    assert_eq!(device.boot(), "trial v1.1.0");
    Some(device)
}

/// As `op-dbus-condemn.service` calls it, with a systemctl that only notes what
/// it is asked: the result, and the requests.
fn judged(device: &Device, more: &[&str]) -> (Value, String) {
    let asked = device.path("asked");
    let _ = fs::remove_file(&asked);
    let script = format!(
        "if [ \"$1\" = is-system-running ]; then cat {}; exit 1; fi\necho \"$@\" >> {}",
        device.path("state").display(),
        asked.display()
    );
    let args = ["condemn", "--from-health", "--reboot", "--json"];
    let mut command = device.command_where("systemctl", &script, &args);
    let output = command.args(more).output().unwrap();
    let result = serde_json::from_str(&Ended::from(output).done()).unwrap();
    (result, fs::read_to_string(asked).unwrap_or_default())
}

/// The details of the log's lines on an event, in order.
fn details(device: &Device, event: &str) -> Vec<String> {
    let log = device.json(&["audit", "log"]);
    let lines = log["lines"].as_array().unwrap().iter();
    lines
        .filter(|line| line["event"] == event)
        .map(|line| line["detail"].as_str().unwrap().to_owned())
        .collect()
}

const REBOOT: &str = "--no-block start op-dbus-reboot.service\n";

#[test]
fn a_bad_verdict_condemns_for_its_own_reasons() {
    let Some(mut device) = on_trial() else { return };
    say(&device, "unhealthy", "v1.1.0", &bad());
    let (result, asked) = judged(&device, &[]);
    assert_eq!(result["result"], "condemned");
    assert_eq!(result["quarantined"], true);
    assert_eq!(asked, REBOOT);
    let reason = "unit web.service: failed (exit-code)";
    assert_eq!(
        details(&device, "condemned"),
        [format!("was trial: {reason}")]
    );
    assert_eq!(device.boot(), "good v1.0.0");
}

#[test]
fn what_is_not_known_costs_a_trial_no_verdict() {
    let Some(mut device) = on_trial() else { return };
    // Tries and refunds, as the unit of the shutdown gives them back.
    for boot in 1..=6 {
        say(&device, "unknown", "v1.1.0", &no_dns());
        let before = device.record();
        let (result, asked) = judged(&device, &["--reason", "not blessed in time"]);
        assert_eq!(result["result"], "not-known", "{boot}");
        assert_eq!(result["reason"], "dns example.org: timed out");
        assert_eq!(asked, REBOOT);
        assert_eq!(device.record(), before);
        device.run(&["orderly-shutdown"]).done();
        let expected = if boot < 6 {
            "trial v1.1.0"
        } else {
            "good v1.0.0"
        };
        assert_eq!(device.boot(), expected, "{boot}");
    }
    assert!(details(&device, "condemned").is_empty());
    let status = device.status();
    assert_eq!(status["quarantine"][0]["cause"], "tries-exhausted");
    // The refunds say what for.
    let refunded = details(&device, "refunded");
    assert_eq!(refunded.len(), 3);
    assert!(
        refunded
            .iter()
            .all(|detail| detail.ends_with("; not known: dns example.org: timed out")),
        "{refunded:?}"
    );

    // Good is not on trial: whatever is not known, it stays up.
    say(&device, "unknown", "v1.0.0", &no_dns());
    let before = device.record();
    let (result, asked) = judged(&device, &["--reason", "not blessed in time"]);
    assert_eq!(result["next"], "stay-up");
    assert_eq!(asked, "");
    assert_eq!(device.record(), before);
}

#[test]
fn a_check_that_was_stopped_condemns_nothing() {
    let Some(device) = on_trial() else { return };
    let stopped = json!([
        {"check": "op-dbus-agent", "reason": "was stopped", "kind": "required"},
    ]);
    say(&device, "none", "v1.1.0", &stopped);
    let before = device.record();
    let (result, asked) = judged(&device, &[]);
    assert_eq!(result["result"], "nothing-to-do");
    assert_eq!(result["next"], "stay-up");
    assert_eq!(asked, "");
    assert_eq!(device.record(), before);
    // By hand, not by a shutdown: the deadline comes.
    let (result, asked) = judged(&device, &["--reason", "not blessed in time"]);
    assert_eq!(result["result"], "condemned");
    assert_eq!(asked, REBOOT);
}

/// Before it could listen for signals.
#[test]
fn a_check_that_a_shutdown_stopped_early_condemns_nothing() {
    let Some(device) = on_trial() else { return };
    let before = device.record();
    fs::write(device.path("state"), "stopping\n").unwrap();
    let (result, asked) = judged(&device, &[]);
    assert_eq!(result["result"], "nothing-to-do");
    assert_eq!(asked, "");
    assert_eq!(device.record(), before);
    // One that has crashed is another matter.
    fs::write(device.path("state"), "degraded\n").unwrap();
    let (result, _) = judged(&device, &[]);
    assert_eq!(result["result"], "condemned");
}

#[test]
fn the_policy_may_condemn_or_bless_what_is_not_known() {
    let Some(device) = on_trial() else { return };
    // What the configuration said when the check ran is in its verdict.
    let with = |policy: &str| {
        say(&device, "unknown", "v1.1.0", &no_dns());
        let path = Report::path(&device.layout);
        let mut said: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        said["policy"] = policy.into();
        fs::write(path, said.to_string()).unwrap();
    };
    with("bless");
    let (result, asked) = judged(&device, &[]);
    assert_eq!(result["result"], "nothing-to-do");
    assert_eq!(asked, "");
    with("condemn");
    let (result, asked) = judged(&device, &[]);
    assert_eq!(result["result"], "condemned");
    assert_eq!(asked, REBOOT);
    assert_eq!(
        details(&device, "condemned"),
        ["was trial: not known in time: dns example.org: timed out"]
    );
}

#[test]
fn a_check_that_said_nothing_that_counts_condemns() {
    type Spoil = fn(&Device);
    let cases: [(&str, Spoil); 5] = [
        ("missing", |_| {}),
        ("torn", |device| {
            let path = Report::path(&device.layout);
            fs::write(path, "{\"schema\":1,").unwrap();
        }),
        ("of another version", |device| {
            say(device, "unknown", "v1.0.0", &no_dns());
        }),
        ("of another boot", |device| {
            let own = fs::read_to_string(device.path("boot_id")).unwrap();
            fs::write(device.path("boot_id"), BootId([99; 16]).to_string()).unwrap();
            say(device, "unknown", "v1.1.0", &no_dns());
            fs::write(device.path("boot_id"), own).unwrap();
        }),
        // Said well, and failed all the same; or nobody blessed.
        ("healthy", |device| {
            say(device, "healthy", "v1.1.0", &json!([]));
        }),
    ];
    let Some(mut device) = on_trial() else { return };
    for (case, spoil) in cases {
        let _ = fs::remove_file(Report::path(&device.layout));
        spoil(&device);
        let (result, asked) = judged(&device, &[]);
        assert_eq!(result["result"], "condemned", "{case}");
        assert_eq!(asked, REBOOT, "{case}");
        let last = details(&device, "condemned").pop();
        let words = "was trial: the health check did not end properly";
        assert_eq!(last.as_deref(), Some(words), "{case}");
        assert_eq!(device.boot(), "good v1.0.0", "{case}");
        device.result(&["stage", "v1.1.0", "--allow-quarantined"], "on-trial");
        assert_eq!(device.boot(), "trial v1.1.0", "{case}");
    }
    let (_, _) = judged(&device, &["--reason", "not blessed in time"]);
    let last = details(&device, "condemned").pop();
    assert_eq!(last.as_deref(), Some("was trial: not blessed in time"));
}
