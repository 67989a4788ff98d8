//! The links role on a read-only root, and what of its work a power cut may undo
//! ([`op_dbus_calls::Unsynced`]).
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nix::mount::MsFlags;
use op_dbus_calls::{Call, trace};
use op_dbus_loopback::private_dir;

const CONFIG: &str = "[store]\ndevice = \"/dev/vda\"\n";

/// A host below `dir`, whose configuration wants these links.
fn host(dir: &Path, names: &[&str]) -> Command {
    for path in [
        "root/etc/op-dbus",
        "root/usr/local/bin",
        "run/op-dbus/store/boot",
    ] {
        fs::create_dir_all(dir.join(path)).unwrap();
    }
    let link = |name: &&str| {
        format!("[[link]]\npath = \"/usr/local/bin/{name}\"\ntarget = \"bin/{name}\"\n")
    };
    let text: String = names.iter().map(link).collect();
    fs::write(dir.join("deploy.toml"), format!("{CONFIG}{text}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_op-dbus-activate"));
    command.arg("links").arg("--sysroot").arg(dir.join("root"));
    command.arg("--run").arg(dir.join("run"));
    command.arg("--config").arg(dir.join("deploy.toml"));
    command
}

/// Whether the list of links was replaced by this call.
fn is_list(call: &Call, list: &Path) -> bool {
    let other = call.other.as_deref();
    call.name.starts_with("rename") && (call.path == list || other == Some(list))
}

fn position(calls: &[Call], what: impl Fn(&Call) -> bool) -> usize {
    calls
        .iter()
        .position(what)
        .unwrap_or_else(|| panic!("{calls:#?}"))
}

#[test]
fn a_read_only_root_keeps_its_links_and_the_boot_goes_on() {
    let Some(dir) = private_dir("lnk") else {
        return;
    };
    let bin = dir.path().join("root/usr/local/bin");
    let none: Option<&str> = None;
    assert!(host(dir.path(), &["a"]).status().unwrap().success());
    let root = dir.path().join("root");
    nix::mount::mount(Some(&root), &root, none, MsFlags::MS_BIND, none).unwrap();
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    nix::mount::mount(none, &root, none, read_only, none).unwrap();
    for names in [&["a", "b"][..], &["b"]] {
        assert!(host(dir.path(), names).status().unwrap().success());
        assert!(bin.join("a").is_symlink() && !bin.join("b").is_symlink());
    }
    nix::mount::umount(&root).unwrap();
    // Not forgotten meanwhile.
    assert!(host(dir.path(), &["b"]).status().unwrap().success());
    assert!(!bin.join("a").is_symlink() && bin.join("b").is_symlink());
}

#[test]
fn no_power_cut_leaves_a_link_that_nobody_knows_of() {
    if !op_dbus_loopback::is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("root/usr/local/bin");
    let list = dir.path().join("run/op-dbus/store/links.json");
    let calls = trace(&mut host(dir.path(), &["a"])).calls;
    let named = position(&calls, |call| is_list(call, &list));
    let synced = position(&calls, |call| {
        call.name == "fsync" && call.path == list.parent().unwrap()
    });
    let made = position(&calls, |call| call.name.starts_with("symlink"));
    assert!(named < synced && synced < made, "{calls:#?}");

    symlink("/opt/op-dbus/bin/a", bin.join(".op-dbus-a")).unwrap();
    let calls = trace(&mut host(dir.path(), &[])).calls;
    let removed = position(&calls, |call| {
        call.name.starts_with("unlink") && call.path == bin.join("a")
    });
    let synced = position(&calls, |call| call.name == "fsync" && call.path == bin);
    let forgotten = position(&calls, |call| is_list(call, &list));
    assert!(removed < synced && synced < forgotten, "{calls:#?}");
    assert_eq!(fs::read_dir(&bin).unwrap().count(), 0);
}
