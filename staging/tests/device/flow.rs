//! The main job: receive, stage, boot, bless, and back.

use op_dbus_bootstate::Slot;

use crate::builder::Builder;
use crate::common::Ended;
use crate::fixture::{Device, names};

#[test]
fn a_version_becomes_good_and_the_next_one_falls_back() {
    let Some(mut device) = Device::new() else {
        return;
    };
    let builder = Builder::new();
    let first = builder.release("v1.0.0", None);
    let second = builder.release("v1.1.0", Some("v1.0.0"));
    let third = builder.release("v1.2.0", Some("v1.1.0"));

    // Nothing there yet.
    assert_eq!(device.boot(), "rescue");
    device.result(&["bless"], "nothing-to-do");

    device.result(&["receive", &first], "received");
    device.result(&["receive", &first], "already-there");
    device.result(&["stage", "v1.0.0"], "on-trial");
    device.result(&["stage", "v1.0.0"], "already-staged");
    assert_eq!(device.boot(), "trial v1.0.0");
    device.result(&["bless"], "trial");
    device.result(&["bless"], "already");
    assert_eq!(device.status()["good"]["version"], "v1.0.0");
    assert_eq!(device.boot(), "good v1.0.0");
    device.result(&["bless"], "good");

    // An increment, blessed.
    device.result(&["receive", &second], "received");
    device.result(&["stage", "v1.1.0"], "on-trial");
    assert_eq!(device.boot(), "trial v1.1.0");
    let blessed = device.result(&["bless"], "trial");
    assert_eq!(blessed["fallback"], "v1.0.0");
    device.result(&["stage", "v1.1.0"], "already-good");

    // One that is bad.
    device.result(&["receive", &third], "received");
    device.result(&["stage", "v1.2.0"], "on-trial");
    assert_eq!(device.boot(), "trial v1.2.0");
    let condemned = device.result(&["condemn", "--reason", "it smokes"], "condemned");
    assert_eq!(condemned["next"], "reboot");
    assert_eq!(condemned["quarantined"], true);
    device
        .run(&["bless"])
        .failed(8, "can't be blessed any more");
    assert_eq!(device.boot(), "good v1.1.0");
    device.run(&["stage", "v1.2.0"]).failed(8, "is quarantined");
    let status = device.status();
    assert_eq!(status["quarantine"][0]["version"], "v1.2.0");
    assert_eq!(status["quarantine"][0]["cause"], "condemned");

    // Overridden, taken back, rolled back.
    device.result(&["stage", "v1.2.0", "--allow-quarantined"], "on-trial");
    device.result(&["cancel"], "cancelled");
    device.result(&["cancel"], "nothing-to-do");
    device.result(&["bless"], "good");
    let rolled = device.result(&["rollback"], "on-trial");
    assert_eq!(rolled["version"], "v1.0.0");
    device.result(&["rollback"], "cancelled-trial");
    device.result(&["rollback", "v1.1.0"], "already-good");
    device.result(&["rollback"], "on-trial");
    assert_eq!(device.boot(), "trial v1.0.0");
    device.result(&["bless"], "trial");
    let status = device.status();
    assert_eq!(status["good"]["version"], "v1.0.0");
    assert_eq!(status["fallback"]["version"], "v1.1.0");
    assert_eq!(status["result"], "ok", "{status}");
    assert_eq!(status["versions"].as_array().unwrap().len(), 3);

    device.result(&["audit", "verify"], "sound");
    let log = device.json(&["audit", "log"]);
    let events: Vec<_> = log["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    for event in [
        "prepared",
        "received",
        "staged",
        "attempt",
        "blessed",
        "condemned",
        "released",
        "cancelled",
    ] {
        assert!(events.contains(&event), "{event} in {events:?}");
    }
    let last = device.json(&["audit", "log", "-n", "2"]);
    assert_eq!(last["lines"].as_array().unwrap().len(), 2);
    assert_eq!(names(&device.store("incoming")), Vec::<String>::new());
}

#[test]
fn the_blessed_copy_follows_each_bless() {
    let Some((device, _builder)) = Device::blessed() else {
        return;
    };
    // Both copies gone: the one of the last bless knows what is good.
    for copy in ["boot/record.0", "boot/record.1"] {
        std::fs::write(device.store(copy), [0; 4096]).unwrap();
    }
    let status = device.status();
    assert_eq!(status["record"]["state"], "rebuilt-blessed");
    assert_eq!(status["good"]["version"], "v1.0.0");
}

#[test]
fn an_orderly_shutdown_gives_a_try_back_once_a_boot() {
    let Some(mut device) = Device::new() else {
        return;
    };
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.0.0"], "on-trial");
    device.result(&["orderly-shutdown"], "nothing-to-do");
    for refunds_left in [2, 1, 0] {
        assert_eq!(device.boot(), "trial v1.0.0");
        device.result(&["orderly-shutdown"], "refunded");
        device.result(&["orderly-shutdown"], "nothing-to-do");
        let trial = device.record().trial.unwrap();
        assert_eq!((trial.tries_left, trial.refunds_left), (3, refunds_left));
    }
    assert_eq!(device.boot(), "trial v1.0.0");
    device.result(&["orderly-shutdown"], "nothing-to-do");
    assert_eq!(device.record().trial.unwrap().tries_left, 2);
}

#[test]
fn verdicts_are_about_this_boot_only() {
    let Some(mut device) = Device::new() else {
        return;
    };
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.0.0"], "on-trial");
    device.boot();
    // The file of the boot before, as a restored /run would hold it.
    let old = std::fs::read(device.layout.activation()).unwrap();
    device.next_boot();
    std::fs::write(device.layout.activation(), old).unwrap();
    let before = device.record();
    for verdict in ["bless", "condemn", "orderly-shutdown"] {
        for _ in 0..2 {
            device.run(&[verdict]).failed(8, "is of another boot");
        }
    }
    // That it was asked is logged, once; nothing else comes of it.
    let after = device.record();
    assert_eq!(
        (before.good, before.trial, before.last_boot),
        (after.good, after.trial, after.last_boot)
    );
    let log = device.json(&["audit", "log"]);
    let lines = log["lines"].as_array().unwrap();
    let refused: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "refused")
        .map(|line| line["detail"].as_str().unwrap())
        .collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].starts_with("bless: ") && refused[1].starts_with("condemn: "));
    device.result(&["audit", "verify"], "sound");
}

#[test]
fn a_boot_by_the_operator_s_choice_is_never_judged() {
    let Some((mut device, _builder)) = Device::blessed() else {
        return;
    };
    device.boot();
    let mut report = op_dbus_activator::activation::Activation::read(&device.layout)
        .unwrap()
        .unwrap();
    report.slot = Some(Slot::Named);
    report.counted = false;
    report.write(&device.layout).unwrap();
    let before = device.record();
    device
        .run(&["bless"])
        .failed(8, "selected on the kernel command line");
    let condemned = device.result(&["condemn"], "not-counted");
    assert_eq!(condemned["next"], "stay-up");
    let after = device.record();
    assert_eq!(
        (before.good, before.good_unblessed),
        (after.good, after.good_unblessed)
    );
}

#[test]
fn condemning_reboots_only_where_that_helps() {
    let Some(mut device) = Device::new() else {
        return;
    };
    let builder = Builder::new();
    let first = builder.release("v1.0.0", None);
    let second = builder.release("v1.1.0", None);
    device.result(&["receive", &first], "received");
    device.result(&["receive", &second], "received");
    let rebooted = device.path("rebooted");
    let script = format!("echo \"$@\" >> {}", rebooted.display());
    let condemn = |device: &Device| {
        let args = ["condemn", "--reboot", "--json"];
        let output = device
            .command_where("systemctl", &script, &args)
            .output()
            .unwrap();
        let result: serde_json::Value = serde_json::from_str(&Ended::from(output).done()).unwrap();
        result["next"].as_str().unwrap().to_owned()
    };
    let reboots = || {
        std::fs::read_to_string(&rebooted)
            .unwrap_or_default()
            .lines()
            .count()
    };

    // The only version there is: a reboot would end in rescue.
    device.result(&["stage", "v1.0.0"], "on-trial");
    device.boot();
    assert_eq!(condemn(&device), "stay-up");
    assert_eq!(reboots(), 0);
    device.result(&["stage", "v1.0.0", "--allow-quarantined"], "on-trial");
    device.boot();
    device.result(&["bless"], "trial");

    device.result(&["stage", "v1.1.0"], "on-trial");
    device.boot();
    assert_eq!(condemn(&device), "reboot");
    assert_eq!(reboots(), 1);

    // Good itself: once more, then it stays up.
    assert_eq!(device.boot(), "good v1.0.0");
    assert_eq!(condemn(&device), "reboot");
    assert_eq!(device.boot(), "good v1.0.0");
    assert_eq!(condemn(&device), "stay-up");
    assert_eq!(reboots(), 2);
    let advice = device.status()["next"].to_string();
    assert!(advice.contains("nothing better is left"), "{advice}");
}
