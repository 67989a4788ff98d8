//! How boots ended, told by the boots after them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::Value;

use crate::builder::Builder;
use crate::durable::durable;
use crate::fixture::{Device, names};

const LIVE: &str = "sys/fs/pstore";

fn host(device: &Device, path: &str) -> PathBuf {
    let path = device.layout.sysroot.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

/// What a kernel leaves where firmware keeps it.
fn panic(device: &Device, id: u32, message: &str) {
    let text = format!("Panic#1 Part1\n<0>[    9.2] Kernel panic - not syncing: {message}\n");
    fs::write(host(device, &format!("{LIVE}/dmesg-erst-{id}")), text).unwrap();
}

/// What a watchdog's driver says at boot.
fn watchdog(device: &Device, status: u32) {
    let path = host(device, "sys/class/watchdog/watchdog0/bootstatus");
    fs::write(path, format!("{status}\n")).unwrap();
}

fn report(device: &Device) -> Value {
    device.json(&["boot-report"])
}

/// The log's lines on endings: boot, version, ending, and why.
fn ended(device: &Device) -> Vec<(String, String, String, String)> {
    let log = device.json(&["audit", "log"]);
    let lines = log["lines"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines
        .filter(|line| line["event"] == "ended")
        .map(|line| {
            let (boot, version) = (text(&line["boot"]), text(&line["version"]));
            assert_eq!(line["up_ms"], Value::Null, "of another boot");
            (boot, version, text(&line["ending"]), text(&line["detail"]))
        })
        .collect()
}

/// Of the last boot that was told of: its version, and how it ended.
#[track_caller]
fn last(device: &Device) -> (String, String) {
    let (_, version, ending, _) = ended(device).pop().unwrap();
    (version, ending)
}

fn pair(version: &str, ending: &str) -> (String, String) {
    (version.to_owned(), ending.to_owned())
}

/// A device whose good version is v1.0.0, and v1.1.0 staged.
fn staged() -> Option<(Device, Builder)> {
    let (device, builder) = Device::blessed()?;
    let stream = builder.release("v1.1.0", Some("v1.0.0"));
    device.result(&["receive", &stream], "received");
    Some((device, builder))
}

#[test]
fn each_way_to_end_is_told_apart() {
    let Some((mut device, _)) = Device::blessed() else {
        return;
    };
    // The first report: the boot it runs in was told to nobody before.
    assert_eq!(device.boot(), "good v1.0.0");
    let first = report(&device);
    assert_eq!(first["result"], "nothing-to-do", "{first}");
    assert_eq!(report(&device)["result"], "nothing-to-do");

    device.run(&["orderly-shutdown"]).done();
    device.boot();
    let told = report(&device);
    assert_eq!(told["result"], "told");
    assert_eq!(told["boots"][0]["ending"], "orderly");
    assert_eq!(last(&device), pair("v1.0.0", "orderly"));

    // Cut.
    device.boot();
    report(&device);
    assert_eq!(last(&device), pair("v1.0.0", "power-cut"));

    panic(&device, 1, "sysrq triggered crash");
    device.boot();
    report(&device);
    assert_eq!(last(&device), pair("v1.0.0", "panic"));
    let detail = ended(&device).pop().unwrap().3;
    assert_eq!(detail, "the kernel panicked: sysrq triggered crash");

    // Nobody took the record away: it is the same one, and old.
    device.boot();
    report(&device);
    assert_eq!(last(&device), pair("v1.0.0", "power-cut"));

    watchdog(&device, 0x20);
    device.boot();
    report(&device);
    assert_eq!(last(&device), pair("v1.0.0", "watchdog"));
    watchdog(&device, 0);

    // Before the host was up: counted, and not a word.
    device.boot();
    let lost = fs::read_to_string(device.path("boot_id")).unwrap();
    device.boot();
    report(&device);
    let (boot, version, ending, _) = ended(&device).pop().unwrap();
    assert_eq!((boot, version), (lost, "v1.0.0".to_owned()));
    assert_eq!(ending, "unknown");
    // The boot before that one ran, and was told of as well.
    assert_eq!(ended(&device).len(), 7);
    device.result(&["audit", "verify"], "sound");
}

#[test]
fn a_shutdown_tells_what_no_report_did() {
    let Some((mut device, _)) = Device::blessed() else {
        return;
    };
    device.boot();
    device.run(&["orderly-shutdown"]).done();
    device.boot();
    // This boot's report never ran.
    device.run(&["orderly-shutdown"]).done();
    assert_eq!(last(&device), pair("v1.0.0", "orderly"));
    device.boot();
    report(&device);
    assert_eq!(last(&device), pair("v1.0.0", "orderly"));
    assert_eq!(ended(&device).len(), 2);
}

/// Runs the report with another `udevadm` than the machine's.
fn report_with_udev(device: &Device, script: &str) -> Value {
    let args = ["--json", "boot-report", "--watchdog-wait", "60"];
    let output = device
        .command_where("udevadm", script, &args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_watchdog_whose_driver_comes_late_is_waited_for() {
    let Some((mut device, _)) = Device::blessed() else {
        return;
    };
    device.boot();
    report(&device);
    // It comes while udev is busy, and nobody waits for the rest.
    device.boot();
    let driver = host(&device, "sys/class/watchdog/watchdog0/bootstatus");
    let asked = device.path("asked");
    let comes = format!(
        "echo \"$@\" > {}; sleep 1; echo 32 > {}",
        asked.display(),
        driver.display()
    );
    let told = report_with_udev(&device, &format!("{comes}; exec sleep 1000"));
    assert_eq!(told["boots"][0]["ending"], "watchdog", "{told}");
    let words = fs::read_to_string(&asked).unwrap();
    assert_eq!(words, "settle --timeout=60\n");
    // It comes at the last moment.
    fs::write(&driver, "0\n").unwrap();
    device.boot();
    let told = report_with_udev(&device, &comes);
    assert_eq!(told["boots"][0]["ending"], "watchdog", "{told}");
    // What nobody takes down says nothing of the next boot.
    device.run(&["orderly-shutdown"]).done();
    device.boot();
    report(&device);
    assert_eq!(last(&device), pair("v1.0.0", "orderly"));
    // None comes, and after a shutdown none is waited for.
    fs::write(&driver, "0\n").unwrap();
    device.boot();
    assert_eq!(
        report_with_udev(&device, "exit 1")["boots"][0]["ending"],
        "power-cut"
    );
    device.run(&["orderly-shutdown"]).done();
    device.boot();
    fs::remove_file(&asked).unwrap();
    let told = report_with_udev(&device, &comes);
    assert_eq!(told["boots"][0]["ending"], "orderly", "{told}");
    assert!(!asked.exists());
}

#[test]
fn a_soft_reboot_goes_on_with_the_same_boot() {
    let Some((mut device, _)) = Device::blessed() else {
        return;
    };
    device.boot();
    report(&device);
    device.run(&["orderly-shutdown"]).done();
    // The kernel lives on, and so does its boot id.
    assert_eq!(report(&device)["result"], "nothing-to-do");
    device.boot();
    report(&device);
    assert_eq!(last(&device), pair("v1.0.0", "power-cut"));
}

#[test]
fn a_trial_that_panics_leaves_its_last_words() {
    let Some((mut device, _builder)) = staged() else {
        return;
    };
    report(&device);
    device.result(&["stage", "v1.1.0"], "on-trial");
    device.run(&["orderly-shutdown"]).done();
    let mut tries = Vec::new();
    for n in 1..=3 {
        assert_eq!(device.boot(), "trial v1.1.0");
        tries.push(fs::read_to_string(device.path("boot_id")).unwrap());
        panic(&device, n, &format!("try {n}"));
    }
    assert_eq!(device.boot(), "good v1.0.0");
    // The last words as well, before the line that tells of them.
    durable(&device, &["boot-report"]);
    let told = ended(&device);
    assert_eq!(told.len(), 4);
    assert_eq!(told[0].2, "orderly");
    for (told, (n, boot)) in told[1..].iter().zip((1..).zip(&tries)) {
        let detail = format!("the kernel panicked before the host was up: try {n}");
        let expected = (
            boot.clone(),
            "v1.1.0".to_owned(),
            "panic".to_owned(),
            detail,
        );
        assert_eq!(*told, expected);
        let words = device.store(&format!("audit/console/{boot}.txt"));
        let words = fs::read_to_string(words).unwrap();
        assert!(
            words.ends_with(&format!("not syncing: try {n}\n")),
            "{words}"
        );
    }
    // The log and its readers do not mind the directory.
    device.result(&["audit", "verify"], "sound");
    device.status();
    device.json(&["prune", "--dry-run"]);
}

#[test]
fn what_was_told_is_not_told_twice_and_nothing_is_lost() {
    let Some((mut device, _)) = Device::blessed() else {
        return;
    };
    device.boot();
    report(&device);
    let mark = device.store("boot/running");
    let before = fs::read_link(&mark).unwrap();
    device.boot();
    report(&device);
    assert_eq!(ended(&device).len(), 1);
    // The power went after the log, and before the mark.
    let put = |target: &std::path::Path| {
        fs::remove_file(&mark).unwrap();
        symlink(target, &mark).unwrap();
    };
    let after = fs::read_link(&mark).unwrap();
    let both = join(before.to_str().unwrap(), after.to_str().unwrap());
    put(both.as_ref());
    device.boot();
    report(&device);
    let told = ended(&device);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_ne!(told[0].0, told[1].0);

    // It went after the mark, and before the log.
    let after = fs::read_link(&mark).unwrap();
    let other = Device::next_boot(&mut device);
    let own = before
        .to_str()
        .unwrap()
        .replace(&boot_of(&before), &other.to_string());
    put(join(after.to_str().unwrap(), &own).as_ref());
    device.boot();
    report(&device);
    let told: Vec<_> = ended(&device).into_iter().skip(2).collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(told[1].0, other.to_string());
    assert!(told.iter().all(|told| told.2 == "power-cut"));
}

fn boot_of(mark: &std::path::Path) -> String {
    let mark: Value = serde_json::from_str(mark.to_str().unwrap()).unwrap();
    mark["boots"][0]["boot"].as_str().unwrap().to_owned()
}

/// One mark of the boots of two.
fn join(first: &str, second: &str) -> String {
    let [mut first, second] =
        [first, second].map(|text| serde_json::from_str::<Value>(text).unwrap());
    let more = second["boots"].as_array().unwrap().clone();
    first["boots"].as_array_mut().unwrap().extend(more);
    first.to_string()
}

#[test]
fn a_mark_in_disorder_costs_no_more_than_itself() {
    let Some((mut device, _)) = Device::blessed() else {
        return;
    };
    device.boot();
    report(&device);
    let mark = device.store("boot/running");
    fs::remove_file(&mark).unwrap();
    symlink("nonsense", &mark).unwrap();
    device.boot();
    let ended = device.run(&["boot-report"]);
    assert!(ended.stderr.contains("it is made anew"), "{}", ended.stderr);
    ended.done();
    device.boot();
    report(&device);
    assert_eq!(last(&device), pair("v1.0.0", "power-cut"));
}

#[test]
fn marks_are_durable_before_anything_is_acknowledged() {
    let Some((mut device, _)) = Device::blessed() else {
        return;
    };
    device.boot();
    let mark = device.store("boot/running");
    let marked = |calls: &[op_dbus_calls::Call]| -> Vec<usize> {
        let is_mark = |call: &op_dbus_calls::Call| call.other.as_deref() == Some(&mark);
        let at = calls.iter().enumerate();
        at.filter(|(_, call)| call.name.starts_with("rename") && is_mark(call))
            .map(|(at, _)| at)
            .collect()
    };
    let calls = durable(&device, &["boot-report"]);
    let log = device.store("audit/log.jsonl");
    let logged = calls
        .iter()
        .position(|call| call.name == "write" && call.path == log)
        .unwrap();
    let at = marked(&calls);
    // That it runs comes before the log, and that all is told after it.
    assert_eq!(at.len(), 2, "{calls:#?}");
    assert!(at[0] < logged && logged < at[1], "{calls:#?}");
    // Committed before the log tells anything.
    let committed = calls[at[0]..logged]
        .iter()
        .any(|call| call.name == "syncfs");
    assert!(committed, "{calls:#?}");

    let calls = durable(&device, &["orderly-shutdown"]);
    let at = marked(&calls);
    assert_eq!(at.len(), 1, "{calls:#?}");
    assert!(calls[at[0]..].iter().any(|call| call.name == "syncfs"));
}

#[test]
fn a_full_disk_still_takes_the_mark() {
    let Some((mut device, _)) = Device::blessed() else {
        return;
    };
    device.boot();
    report(&device);
    let mut filler = fs::File::create(device.store("filler")).unwrap();
    for length in [1 << 20, 64 << 10, 4 << 10] {
        let block = crate::common::noise(length);
        while filler.write_all(&block).is_ok() {}
    }
    filler.sync_all().unwrap();
    let mut more = fs::File::create(device.store("more")).unwrap();
    assert!(
        more.write_all(&crate::common::noise(8 << 10))
            .and_then(|()| more.sync_all())
            .is_err()
    );
    device.run(&["orderly-shutdown"]).done();
    device.boot();
    let told = report(&device);
    assert_eq!(told["boots"][0]["ending"], "orderly", "{told}");
    assert!(!names(&device.store("boot")).contains(&".running.new".to_owned()));
}
