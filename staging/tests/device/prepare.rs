//! `prepare`.

use std::fs;
use std::process::Command;

use op_dbus_loopback::sh;

use crate::fixture::{Device, names};

#[test]
fn makes_everything_once_and_then_nothing() {
    let Some(device) = Device::bare(256) else {
        return;
    };
    let args = [
        "prepare",
        "--device",
        device.disk.node(),
        "--link",
        "/usr/local/bin/app=bin/app",
        "--unit",
        "app.service",
        "--bus-name",
        "org.example.App",
    ];
    let made = device.result(&args, "prepared");
    assert_eq!(made["way"], "initrd");
    assert!(made["device"].as_str().unwrap().starts_with("UUID="));
    for dir in ["root/opt/op-dbus", "root/usr/local/op-dbus"] {
        assert!(device.path(dir).is_dir());
    }
    assert_eq!(
        names(&device.layout.store),
        [
            "audit",
            "boot",
            "deploy",
            "incoming",
            "manifests",
            "overlays",
            "reserve"
        ]
    );
    assert_eq!(names(&device.store("reserve")), ["0", "1", "2", "3"]);
    for copy in ["record.0", "record.1", "record.blessed"] {
        let path = device.store("boot").join(copy);
        assert_eq!(fs::metadata(&path).unwrap().len(), 4096);
        assert!(
            sh("lsattr", &[path.to_str().unwrap()]).contains('C'),
            "{copy} is NOCOW"
        );
    }
    let before = device.snapshot();
    let config = fs::read(device.layout.config()).unwrap();
    device.result(&args, "nothing-to-do");
    device.result(&["prepare"], "nothing-to-do");
    assert_eq!(device.snapshot(), before);
    assert_eq!(fs::read(device.layout.config()).unwrap(), config);
    assert_eq!(device.status()["record"]["state"], "intact");
}

#[test]
fn works_without_leaving_a_mount() {
    let Some(device) = Device::bare(256) else {
        return;
    };
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    device.result(
        &["prepare", "--device", device.disk.node(), "--no-mount"],
        "prepared",
    );
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    device.run(&["cancel"]).failed(5, "the store is not there");
    let made = device.result(&["prepare"], "prepared");
    assert_eq!(
        made["made"].as_array().unwrap().len(),
        1,
        "only the mount was missing: {made}"
    );
}

/// What an image builder does around us. In a mount namespace of its own: this
/// machine's directories must be gone from the image before that is removed.
const CHROOT: &str = r#"
set -eu
for dir in dev proc sys lib lib64; do
    mount --rbind "/$dir" "$1/$dir"
    mount --make-rslave "$1/$dir"
done
mount --bind "$2" "$1/run"
exec chroot "$1" /stage prepare --no-mount --json --device "$3"
"#;

#[test]
fn works_in_a_chroot_while_an_image_is_built() {
    let Some(device) = Device::bare(256) else {
        return;
    };
    let image = device.path("image");
    let dirs = "dev proc sys run etc usr/lib/dracut lib lib64 tmp";
    for dir in dirs.split(' ') {
        fs::create_dir_all(image.join(dir)).unwrap();
    }
    fs::copy(crate::common::PROGRAM, image.join("stage")).unwrap();
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            CHROOT,
            "sh",
        ])
        .args([&image, &device.path("run")])
        .arg(device.disk.node())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(
        !stderr.contains("panic="),
        "the builder's command line says nothing: {stderr}"
    );
    assert!(image.join("etc/op-dbus/deploy.toml").is_file());
    assert!(image.join("opt/op-dbus").is_dir());
    for dir in ["dev", "proc", "sys", "lib"] {
        assert!(fs::read_dir(image.join(dir)).unwrap().next().is_none());
    }
}

#[test]
fn the_generator_way_is_chosen_where_the_initrd_s_mounts_would_be_hidden() {
    let Some(device) = Device::bare(256) else {
        return;
    };
    fs::write(
        device.path("root/etc/fstab"),
        "UUID=1 / ext4 rw 0 1\nUUID=2 /opt ext4 rw 0 2\n",
    )
    .unwrap();
    let made = device.json(&["prepare", "--device", device.disk.node()]);
    assert_eq!(made["way"], "generator");
    assert!(
        made["warnings"][0].as_str().unwrap().contains("/opt"),
        "{made}"
    );
}

#[test]
fn without_dracut_the_generator_way_is_chosen_and_the_word_of_the_user_counts() {
    for (args, way) in [(&[][..], "generator"), (&["--way", "initrd"], "initrd")] {
        let Some(device) = Device::bare(256) else {
            return;
        };
        fs::remove_dir_all(device.path("root/usr/lib/dracut")).unwrap();
        let made = device.json(&[&["prepare", "--device", device.disk.node()], args].concat());
        assert_eq!(made["way"], way);
    }
}

#[test]
fn an_existing_configuration_is_never_overwritten() {
    let Some(device) = Device::new() else { return };
    let config = fs::read(device.layout.config()).unwrap();
    let again = device.json(&["prepare", "--unit", "other.service", "--way", "generator"]);
    let warning = again["warnings"].to_string();
    assert!(
        warning.contains("left as it is") && warning.contains("--way, --unit"),
        "{warning}"
    );
    assert_eq!(fs::read(device.layout.config()).unwrap(), config);
    device
        .run(&["prepare", "--subvolume", "@other"])
        .failed(3, "differs from what was asked for");
    fs::write(device.layout.config(), "[store]\ndevice = 5\n").unwrap();
    device.run(&["prepare"]).failed(3, "line 2");
}

#[test]
fn refuses_what_is_no_place_for_a_store() {
    let Some(device) = Device::bare(256) else {
        return;
    };
    let ext = device.path("ext");
    fs::File::create(&ext).unwrap().set_len(64 << 20).unwrap();
    let disk = sh("losetup", &["--find", "--show", ext.to_str().unwrap()]);
    let ended = device.run(&["prepare", "--device", &disk]);
    sh("losetup", &["--detach", &disk]);
    ended.failed(5, "holds no Btrfs file system");
    device
        .run(&["prepare", "--device", "/dev/nonexistent"])
        .failed(5, "no such device");
    device
        .run(&[
            "prepare",
            "--device",
            "UUID=11111111-2222-3333-4444-555555555555",
        ])
        .failed(5, "no such device");
    device
        .run(&["prepare", "--device", "sda"])
        .failed(2, "neither UUID=");
    device
        .run(&[
            "prepare",
            "--device",
            device.disk.node(),
            "--subvolume",
            "../x",
        ])
        .failed(2, "store.subvolume");
    device
        .run(&[
            "prepare",
            "--device",
            device.disk.node(),
            "--link",
            "relative=bin/x",
        ])
        .failed(2, "link.path");
    // The temporary directory's file system is that of this machine.
    assert!(!device.layout.config().exists());
    assert!(names(&device.path("run")).is_empty());
}
