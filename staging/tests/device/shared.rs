//! `prepare`, where the configuration shares paths among versions.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use nix::mount::MsFlags;

use crate::fixture::{Device, names};

/// Runs v1.0.0 under an overlay, and shares two paths.
fn device() -> Option<Device> {
    let (device, _) = Device::blessed()?;
    let version = "v1.0.0".parse().unwrap();
    let layout = &device.layout;
    op_dbus_btrfs::create_subvolume(&layout.overlay(&version)).unwrap();
    fs::create_dir(layout.upper(&version)).unwrap();
    fs::create_dir(layout.work(&version)).unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        layout.deployment(&version).display(),
        layout.upper(&version).display(),
        layout.work(&version).display()
    );
    let none = Some("overlay");
    let at = layout.host("/usr/local/op-dbus");
    nix::mount::mount(none, &at, none, MsFlags::empty(), Some(options.as_str())).unwrap();
    let mut text = fs::read_to_string(layout.config()).unwrap();
    text.push_str("\n[overlay]\nshared_paths = [\"var/lib/db\", \"none\"]\n");
    fs::write(layout.config(), text).unwrap();
    Some(device)
}

fn over(device: &Device, path: &str) -> PathBuf {
    device.layout.host("/usr/local/op-dbus").join(path)
}

#[test]
fn what_the_running_version_has_there_is_copied() {
    let Some(device) = device() else {
        return;
    };
    let dir = over(&device, "var/lib/db");
    fs::create_dir_all(dir.join("deep/er")).unwrap();
    fs::write(dir.join("large"), vec![7; 3 << 20]).unwrap();
    fs::write(dir.join("deep/er/small"), "x").unwrap();
    std::os::unix::fs::chown(dir.join("deep"), Some(7), Some(8)).unwrap();
    fs::set_permissions(dir.join("deep"), fs::Permissions::from_mode(0o2710)).unwrap();
    fs::set_permissions(dir.join("large"), fs::Permissions::from_mode(0o4640)).unwrap();
    symlink("/etc/shadow", dir.join("link")).unwrap();
    let attribute = |path: &std::path::Path| {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(path, "user.x", &mut value).ok()?;
        Some(value[..length].to_vec())
    };
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir.join("large"), "user.x", b"yes", flags).unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o620);
    nix::unistd::mkfifo(&dir.join("fifo"), mode).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    let before = fs::metadata(dir.join("large")).unwrap();

    let prepared = device.result(&["prepare"], "prepared");
    let text = prepared.to_string();
    assert!(text.contains("shared path var/lib/db"), "{text}");
    assert!(text.contains("1 sockets and devices"), "{text}");

    assert_eq!(names(&device.store("shared")), ["none", "var-lib-db"]);
    let copy = device.store("shared/var-lib-db");
    assert!(op_dbus_btrfs::is_subvolume(&copy).unwrap());
    assert_eq!(names(&copy), ["deep", "fifo", "large", "link"]);
    assert_eq!(fs::read_to_string(copy.join("deep/er/small")).unwrap(), "x");
    let deep = fs::metadata(copy.join("deep")).unwrap();
    assert_eq!(
        (deep.uid(), deep.gid(), deep.mode() & 0o7777),
        (7, 8, 0o2710)
    );
    assert_eq!(
        fs::read_link(copy.join("link")).unwrap(),
        PathBuf::from("/etc/shadow")
    );
    let fifo = copy.join("fifo").symlink_metadata().unwrap();
    assert!(fifo.file_type().is_fifo());
    assert_eq!(
        fifo.mode() & 0o777,
        fs::metadata(dir.join("fifo")).unwrap().mode() & 0o777
    );
    let large = fs::metadata(copy.join("large")).unwrap();
    assert_eq!(large.mode() & 0o7777, 0o4640);
    assert_eq!(
        (large.mtime(), large.mtime_nsec()),
        (before.mtime(), before.mtime_nsec())
    );
    assert_eq!(attribute(&copy.join("large")).as_deref(), Some(&b"yes"[..]));
    assert_eq!(fs::read(copy.join("large")).unwrap(), vec![7; 3 << 20]);
    // It takes no room of its own.
    let file = File::open(copy.join("large")).unwrap();
    assert_eq!(op_dbus_btrfs::unshared_bytes(&file).unwrap(), 0);

    // What is there is left alone.
    fs::write(copy.join("later"), "x").unwrap();
    device.result(&["prepare"], "nothing-to-do");
    assert_eq!(names(&copy), ["deep", "fifo", "large", "later", "link"]);
}

#[test]
fn what_a_cut_left_is_made_anew_and_what_is_in_the_way_is_told() {
    let Some(device) = device() else {
        return;
    };
    fs::create_dir_all(over(&device, "var/lib")).unwrap();
    fs::create_dir(device.store("shared")).unwrap();
    let hidden = device.store("shared/.new-var-lib-db");
    op_dbus_btrfs::create_subvolume(&hidden).unwrap();
    fs::write(hidden.join("half"), "x").unwrap();
    symlink("/etc", over(&device, "var/lib/db")).unwrap();
    device.run(&["prepare"]).failed(1, "no symlink leads to");
    fs::remove_file(over(&device, "var/lib/db")).unwrap();
    fs::write(device.store("shared/none"), "x").unwrap();
    device.run(&["prepare"]).failed(5, "is not a subvolume");
    fs::remove_file(device.store("shared/none")).unwrap();
    device.result(&["prepare"], "prepared");
    assert_eq!(names(&device.store("shared")), ["none", "var-lib-db"]);
    assert_eq!(
        names(&device.store("shared/var-lib-db")),
        Vec::<String>::new()
    );
}
