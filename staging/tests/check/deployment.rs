//! `check deployment`.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use op_dbus_loopback::{run, sh};

use crate::builder::Builder;
use crate::fit::{check, put};
use crate::fixture::Device;

/// A device that runs v1.0.0 as good, with a configuration that asks for something.
fn device() -> Option<(Device, Builder)> {
    let mut device = Device::new()?;
    let builder = Builder::new();
    builder.chmod("bin/app", 0o755);
    let unit = "[Unit]\nDescription=App\n[Service]\nExecStart=/opt/op-dbus/bin/app\n";
    put(
        &builder.tree("work"),
        "lib/systemd/system/app.service",
        unit,
        0o644,
    );
    let config = fs::read_to_string(device.layout.config()).unwrap();
    let more = "[health]\nunits = [\"app.service\"]\n[[link]]\npath = \"/usr/bin/app\"\ntarget = \"bin/app\"\n";
    fs::write(device.layout.config(), format!("{config}\n{more}")).unwrap();
    fs::create_dir_all(device.path("root/usr/bin")).unwrap();
    let stream = builder.release("v1.0.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.0.0"], "on-trial");
    device.boot();
    device.result(&["bless"], "trial");
    Some((device, builder))
}

#[test]
fn a_version_that_will_do() {
    let Some((device, builder)) = device() else {
        return;
    };
    let stream = builder.release("v1.1.0", Some("v1.0.0"));
    device.result(&["receive", &stream], "received");
    let before = device.snapshot();
    let checked = check(&device, &["deployment", "v1.1.0", "--strict"]);
    checked.healthy();
    assert_eq!(device.snapshot(), before, "a check changes nothing");
    check(&device, &["deployment", "v1.1.0", "--deep"]).healthy();
    let table = device.run(&["check", "deployment", "v1.1.0"]).done();
    assert!(
        table.starts_with("v1.1.0, which does not run:\n"),
        "{table}"
    );
    assert!(
        table.contains("it may be staged: op-dbus-stage stage v1.1.0"),
        "{table}"
    );
    device.result(&["stage", "v1.1.0"], "on-trial");
    let table = device.run(&["check", "deployment", "v1.1.0"]).done();
    assert!(
        table.contains("the next boot activates it (3 tries left)"),
        "{table}"
    );
}

#[test]
fn a_version_that_is_not_there_or_not_sound() {
    let Some((device, builder)) = device() else {
        return;
    };
    check(&device, &["deployment", "v2.0.0"]).only(7, "receipt", "not in the store");
    let stream = builder.release("v1.1.0", None);
    device.result(&["receive", &stream], "received");
    let signature = device.store("manifests/v1.1.0.json.asc");
    fs::write(&signature, "x").unwrap();
    check(&device, &["deployment", "v1.1.0"]).only(9, "content", "");
    // What the remedy says.
    device.result(&["receive", &stream], "already-there");
    check(&device, &["deployment", "v1.1.0"]).healthy();
    let path = device.store("deploy/v1.1.0");
    op_dbus_btrfs::set_read_only(&path, false).unwrap();
    fs::write(path.join("bin/app"), "altered").unwrap();
    op_dbus_btrfs::set_read_only(&path, true).unwrap();
    op_dbus_btrfs::sync_filesystem(&path).unwrap();
    check(&device, &["deployment", "v1.1.0"]).only(9, "content", "changed since");
}

#[test]
fn a_version_that_stage_would_refuse() {
    let Some((mut device, builder)) = device() else {
        return;
    };
    let stream = builder.release("v1.1.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.1.0"], "on-trial");
    device.boot();
    device.json(&["condemn"]);
    check(&device, &["deployment", "v1.1.0"]);
    device.boot();
    check(&device, &["deployment", "v1.1.0"]).only(8, "stage", "is quarantined");
}

#[test]
fn what_a_boot_would_refuse_of_a_version() {
    let Some((device, builder)) = device() else {
        return;
    };
    let work = builder.tree("work");
    fs::remove_file(work.join("lib/systemd/system/app.service")).unwrap();
    put(
        &work,
        "lib/systemd/system/other.service",
        "[Service]\nExecStart=/bin/true\n",
        0o644,
    );
    let version = |version: &str| {
        let stream = builder.release(version, None);
        device.result(&["receive", &stream], "received");
        check(&device, &["deployment", version])
    };
    version("v1.1.0").only(3, "health", "neither v1.1.0 nor the host has it");
    put(
        &device.path("root"),
        "usr/lib/systemd/system/app.service",
        "[Service]\n",
        0o644,
    );
    version("v1.2.0").healthy();
    put(
        &work,
        "lib/systemd/system/app.service",
        "[Service]\nExecStart=/bin/true\n",
        0o644,
    );
    version("v1.3.0").only(0, "brings", "is the host's");
    fs::remove_file(device.path("root/usr/lib/systemd/system/app.service")).unwrap();
    put(
        &work,
        "lib/systemd/system/app.service",
        "[Service]\nExecStart=/opt/op-dbus/bin/gone\n",
        0o644,
    );
    version("v1.4.0").only(9, "units", "bin/gone");
    put(
        &work,
        "lib/systemd/system/app.service",
        "[Service]\nExecStart=/bin/true\nwhat\n",
        0o644,
    );
    version("v1.5.0").only(0, "units", "app.service, line 3");
    put(
        &work,
        "lib/systemd/system/app.service",
        "[Service]\nExecStart=/bin/true\n",
        0o644,
    );
    version("v1.6.0").healthy();
    fs::rename(work.join("bin/app"), work.join("bin/renamed")).unwrap();
    version("v1.7.0").only(0, "links", "would lead nowhere");
}

/// Mounts what the activator mounts.
fn activate(device: &Device, version: &str) {
    let root = |path: &str| device.path("root").join(path).to_str().unwrap().to_owned();
    let store = |path: String| device.store(&path).to_str().unwrap().to_owned();
    let deployment = store(format!("deploy/{version}"));
    let overlay = store(format!("overlays/{version}"));
    for dir in ["upper", "work"] {
        fs::create_dir_all(format!("{overlay}/{dir}")).unwrap();
    }
    sh("mount", &["--bind", &deployment, &root("opt/op-dbus")]);
    sh(
        "mount",
        &["-o", "remount,bind,ro,nosuid,nodev", &root("opt/op-dbus")],
    );
    let options = format!("lowerdir={deployment},upperdir={overlay}/upper,workdir={overlay}/work");
    run(Command::new("mount")
        .args(["-t", "overlay", "op-dbus", "-o", &options])
        .arg(root("usr/local/op-dbus")));
    let link = device.path("root/usr/bin/app");
    let _ = fs::remove_file(&link);
    symlink("/usr/local/op-dbus/bin/app", link).unwrap();
}

fn deactivate(device: &Device) {
    for path in ["root/opt/op-dbus", "root/usr/local/op-dbus"] {
        sh("umount", &[device.path(path).to_str().unwrap()]);
    }
}

#[test]
fn a_version_that_runs() {
    let Some((mut device, builder)) = device() else {
        return;
    };
    activate(&device, "v1.0.0");
    let checked = check(&device, &["deployment"]);
    checked.healthy();
    assert_eq!(checked.json["checked"][0]["runs"], true);
    let table = device.run(&["check", "deployment"]).done();
    assert!(table.starts_with("v1.0.0, which runs as "), "{table}");
    assert!(table.contains("this boot is blessed"), "{table}");

    let stream = builder.release("v1.1.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.1.0"], "on-trial");
    let both = check(&device, &["deployment"]);
    both.healthy();
    assert_eq!(both.json["checked"].as_array().unwrap().len(), 2);
    deactivate(&device);

    assert_eq!(device.boot(), "trial v1.1.0");
    activate(&device, "v1.1.0");
    check(&device, &["deployment"]).only(0, "blessed", "on trial and not blessed yet");
    device.result(&["bless"], "trial");
    check(&device, &["deployment"]).healthy();
    device.boot();
    check(&device, &["deployment"]).only(0, "blessed", "this boot is not blessed yet");
    deactivate(&device);
}

#[test]
fn what_is_wrong_with_a_version_that_runs() {
    let Some((device, builder)) = device() else {
        return;
    };
    let look = || check(&device, &["deployment"]);
    let root = |path: &str| device.path("root").join(path).to_str().unwrap().to_owned();
    activate(&device, "v1.0.0");
    let link = device.path("root/usr/bin/app");
    fs::remove_file(&link).unwrap();
    look().only(1, "links", "is not there");
    symlink("/opt/op-dbus/bin/app", &link).unwrap();
    look().only(1, "links", "points to something else");
    fs::remove_file(&link).unwrap();
    fs::write(&link, "mine").unwrap();
    look().only(0, "links", "not a link of ours");
    fs::remove_file(&link).unwrap();
    symlink("/usr/local/op-dbus/bin/app", &link).unwrap();
    look().healthy();

    sh("umount", &[&root("usr/local/op-dbus")]);
    let checked = look();
    assert!(
        checked.bad().iter().any(|one| one["subject"] == "overlay"),
        "{checked:#?}"
    );
    sh("mount", &["-t", "tmpfs", "x", &root("opt/op-dbus")]);
    let checked = look();
    let mount = checked
        .bad()
        .into_iter()
        .find(|one| one["subject"] == "mount")
        .unwrap()
        .clone();
    assert!(
        mount["found"].as_str().unwrap().contains("is not v1.0.0"),
        "{mount}"
    );
    sh("umount", &[&root("opt/op-dbus")]);
    sh("umount", &[&root("opt/op-dbus")]);

    // Another version where this one should be.
    let stream = builder.release("v1.1.0", None);
    device.result(&["receive", &stream], "received");
    activate(&device, "v1.1.0");
    let subjects: Vec<_> = look()
        .bad()
        .iter()
        .map(|one| one["subject"].clone())
        .collect();
    assert_eq!(subjects, ["mount", "overlay"]);
    deactivate(&device);
}

#[test]
fn nothing_runs_and_nothing_is_on_trial() {
    let Some(device) = Device::new() else { return };
    let ended = device.run(&["check", "deployment"]);
    ended.failed(7, "no version runs");
}
