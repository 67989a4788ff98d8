//! `check target`.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use op_dbus_loopback::sh;

use crate::common::noise;
use crate::fit::{INITRD, check, install, put, rebuild};
use crate::fixture::{Device, flip};

fn fit() -> Option<Device> {
    let (device, _) = Device::blessed()?;
    install(&device);
    Some(device)
}

#[test]
fn a_device_that_is_fit() {
    let Some(device) = fit() else { return };
    let before = device.snapshot();
    let checked = check(&device, &["target", "--strict"]);
    checked.healthy();
    assert_eq!(checked.json["result"], "fit");
    for subject in [
        "store",
        "devices",
        "space",
        "metadata",
        "boot record",
        "audit log",
        "mount points",
        "programs",
        "units",
        "D-Bus",
        "way",
        "initramfs",
        "keys",
        "command line",
        "kernel",
    ] {
        let is_told = checked.findings.iter().any(|one| one["subject"] == subject);
        assert!(is_told, "{subject}: {:#?}", checked.findings);
    }
    assert_eq!(device.snapshot(), before, "a check changes nothing");
    let table = device.run(&["check", "target"]).done();
    assert!(table.ends_with("\nThis device is fit.\n"), "{table}");
    assert!(table.contains("tell is left out"), "{table}");
}

#[test]
fn a_device_that_was_only_prepared() {
    let Some(device) = Device::new() else { return };
    let checked = check(&device, &["target"]);
    assert_eq!(checked.json["result"], "not-fit");
    assert_eq!(checked.code, 1);
    let ended = device.run(&["check", "target"]);
    assert!(
        ended.stdout.contains("This device is not fit: "),
        "{}",
        ended.stdout
    );
    assert_eq!(ended.stderr, "");
}

/// Moves something aside for as long as a check takes.
fn without(device: &Device, path: &Path, code: i32, subject: &str, words: &str) {
    let aside = device.path("aside");
    fs::rename(path, &aside).unwrap();
    check(device, &["target"]).only(code, subject, words);
    fs::rename(&aside, path).unwrap();
}

#[test]
fn what_is_missing_is_told() {
    let Some(device) = fit() else { return };
    let root = device.path("root");
    for (path, code, subject, words) in [
        ("opt/op-dbus", 1, "mount points", "/opt/op-dbus"),
        (
            "etc/op-dbus/keys.d",
            3,
            "keys",
            "no release can be received",
        ),
        (
            "usr/lib/systemd/system/op-dbus-bless.service",
            1,
            "units",
            "no version becomes good",
        ),
        (
            "usr/share/dbus-1/system.d/op-dbus.conf",
            1,
            "D-Bus",
            "is not there",
        ),
        (INITRD, 1, "initramfs", "is in /boot"),
    ] {
        without(&device, &root.join(path), code, subject, words);
    }
    without(
        &device,
        &device.layout.config(),
        3,
        "configuration",
        "does not exist",
    );
    check(&device, &["target"]).healthy();
}

#[test]
fn what_hides_or_switches_off_is_told() {
    let Some(device) = fit() else { return };
    let root = device.path("root");
    let fstab = put(&root, "etc/fstab", "UUID=1 /opt ext4 rw 0 2\n", 0o644);
    check(&device, &["target"]).only(3, "mount points", "is hidden");
    fs::remove_file(fstab).unwrap();

    let mask = root.join("etc/systemd/system/op-dbus-deadline.timer");
    fs::create_dir_all(mask.parent().unwrap()).unwrap();
    symlink("/dev/null", &mask).unwrap();
    check(&device, &["target"]).only(1, "units", "op-dbus-deadline.timer is masked");
    fs::remove_file(mask).unwrap();

    let grub = put(
        &root,
        "boot/grub/grub.cfg",
        "linux /vmlinuz ro quiet\n",
        0o644,
    );
    let checked = check(&device, &["target"]);
    checked.only(0, "command line", "the next boot has no panic=10");
    assert_eq!(check(&device, &["target", "--strict"]).code, 8);
    fs::write(grub, "linux /vmlinuz ro panic=10 rd.emergency=reboot\n").unwrap();
    check(&device, &["target"]).healthy();
}

#[test]
fn an_initramfs_that_is_behind_is_told() {
    let Some(device) = fit() else { return };
    let activator = device.path("root/usr/libexec/op-dbus/op-dbus-activate");
    fs::write(&activator, "a newer one").unwrap();
    check(&device, &["target"]).only(1, "initramfs", "another activator");
    rebuild(&device);
    check(&device, &["target"]).healthy();

    let config = device.layout.config();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[limits]\ntries = 5\n")).unwrap();
    check(&device, &["target"]).only(1, "initramfs", "another [limits]");
    fs::write(&config, format!("# A comment.\n{text}")).unwrap();
    check(&device, &["target"]).healthy();

    let image = device.path("root").join(INITRD);
    let length = fs::metadata(&image).unwrap().len();
    File::options()
        .write(true)
        .open(&image)
        .unwrap()
        .set_len(length - 40)
        .unwrap();
    check(&device, &["target"]).only(1, "initramfs", "cut short");
}

#[test]
fn a_configuration_with_a_mistake_is_told_and_the_rest_is_looked_at() {
    let Some(device) = fit() else { return };
    let config = device.layout.config();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[limitz]\n")).unwrap();
    rebuild(&device);
    let checked = check(&device, &["target"]);
    assert_eq!(checked.code, 3);
    assert!(
        checked.bad()[0]["found"]
            .as_str()
            .unwrap()
            .contains("limitz")
    );
    assert!(
        checked
            .findings
            .iter()
            .any(|one| one["subject"] == "boot record")
    );
    fs::write(&config, text.replace("units = [\"app.service\"]", "")).unwrap();
    rebuild(&device);
    check(&device, &["target"]).only(
        0,
        "configuration",
        "every version that starts is judged healthy",
    );
}

#[test]
fn a_mistake_in_a_health_check_is_told_in_its_line() {
    let Some(device) = fit() else { return };
    let config = device.layout.config();
    let text = fs::read_to_string(&config).unwrap();
    // What is only for the agent does not keep the device from booting, so this
    // is the place to hear of it.
    fs::write(
        &config,
        format!("{text}\n[[health.check]]\ntcp = \"web:80\"\n"),
    )
    .unwrap();
    rebuild(&device);
    check(&device, &["target"]).only(3, "configuration", "\"web:80\" must be an IP address");
    device.run(&["prepare"]).failed(3, "must be an IP address");
    fs::write(
        &config,
        format!("{text}\n[[health.check]]\ntcp = \"127.0.0.1:80\"\n")
            .replace("units = [\"app.service\"]", ""),
    )
    .unwrap();
    rebuild(&device);
    check(&device, &["target"]).healthy();
}

#[test]
fn a_record_that_is_damaged_is_told() {
    let Some(device) = fit() else { return };
    let copy = |number: u8| device.store(&format!("boot/record.{number}"));
    flip(&copy(0), 20);
    check(&device, &["target"]).only(0, "boot record", "record.0 is lost");
    flip(&copy(1), 20);
    check(&device, &["target"]).only(0, "boot record", "both copies are lost");
    flip(&copy(0), 20);
    flip(&copy(1), 20);
    check(&device, &["target"]).healthy();
    flip(&device.store("boot/record.blessed"), 20);
    check(&device, &["target"]).only(0, "boot record", "copy of the last bless");
    flip(&copy(0), 20);
    flip(&copy(1), 20);
    let checked = check(&device, &["target"]);
    assert_eq!(checked.code, 10, "{:#?}", checked.bad());
}

#[test]
fn a_log_that_was_changed_is_told() {
    let Some(device) = fit() else { return };
    flip(&device.store("audit/log.jsonl"), 40);
    check(&device, &["target"]).only(9, "audit log", "");
}

#[test]
fn whoever_writes_is_told() {
    let Some(device) = fit() else { return };
    let file = File::open(device.layout.lock()).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    check(&device, &["target"]).only(0, "lock", "is writing to the store");
}

#[test]
fn a_store_that_takes_no_writes_or_is_open_to_all_is_told() {
    let Some(device) = fit() else { return };
    let store = device.layout.store.to_str().unwrap();
    fs::set_permissions(&device.layout.store, fs::Permissions::from_mode(0o755)).unwrap();
    check(&device, &["target"]).only(0, "store", "others than root");
    fs::set_permissions(&device.layout.store, fs::Permissions::from_mode(0o700)).unwrap();
    sh("mount", &["-o", "remount,bind,ro", store]);
    check(&device, &["target"]).only(5, "store", "mounted read-only");
    sh("mount", &["-o", "remount,ro", store]);
    check(&device, &["target"]).only(5, "store", "its file system is read-only");
}

#[test]
fn another_subvolume_or_file_system_in_its_place_is_told() {
    let Some(device) = fit() else { return };
    let config = device.layout.config();
    let text = fs::read_to_string(&config).unwrap();
    let at = text.find("UUID=").unwrap() + 5;
    let digit = if text[at..].starts_with('0') {
        '1'
    } else {
        '0'
    };
    let other_uuid = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
    for (changed, words) in [
        (text.replace("@op-dbus", "@other"), "names /@other"),
        (other_uuid, "uses another store"),
    ] {
        fs::write(&config, changed).unwrap();
        rebuild(&device);
        check(&device, &["target"]).only(5, "store", words);
    }
    fs::write(&config, &text).unwrap();
    rebuild(&device);
    sh("umount", &[device.layout.store.to_str().unwrap()]);
    // Of an image that is being built, the store need not be mounted.
    let checked = check(&device, &["target"]);
    checked.healthy();
    let told = checked
        .findings
        .iter()
        .find(|one| one["subject"] == "store")
        .unwrap();
    assert!(
        told["found"].as_str().unwrap().contains("not mounted"),
        "{told}"
    );
}

#[test]
fn a_full_store_is_told() {
    let Some(device) = fit() else { return };
    let filler = device.store("filler");
    let mut file = File::create(&filler).unwrap();
    let piece = noise(1 << 20);
    while std::io::Write::write_all(&mut file, &piece).is_ok() {}
    drop(file);
    op_dbus_btrfs::sync_filesystem(&device.layout.store).unwrap();
    let checked = check(&device, &["target"]);
    let spaces: Vec<_> = checked
        .bad()
        .iter()
        .map(|one| one["subject"].clone())
        .collect();
    assert!(spaces.contains(&"space".into()), "{:#?}", checked.bad());
    assert_eq!(checked.code, 11);
}

#[test]
fn hostile_files_hang_nothing() {
    let Some(device) = fit() else { return };
    let all = nix::sys::stat::Mode::S_IRWXU;
    for path in [
        device.layout.config(),
        device.store("audit/log.jsonl"),
        device.store("boot/record.1"),
        device.path("root").join(INITRD),
        device.path("root/boot/grub/grub.cfg"),
        device.path("root/etc/dracut.conf.d/50-op-dbus.conf"),
        device.path("root/usr/share/dbus-1/system.d/op-dbus.conf"),
        device.path("root/usr/lib/systemd/system/op-dbus.target"),
    ] {
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        nix::unistd::mkfifo(&path, all).unwrap();
        check(&device, &["target"]);
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        check(&device, &["target"]);
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    }
    let receipt = device.store("manifests/v9.9.9.deployment.json");
    nix::unistd::mkfifo(&receipt, all).unwrap();
    check(&device, &["target"]);
}
