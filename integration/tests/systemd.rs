//! systemd's own programs take every line that the filters let through, and do
//! with it what is expected. Skipped where they are missing, or without root.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output};

use op_dbus_integration::{sysusers, tmpfiles};

fn run(program: &str, root: &Path, text: &str, options: &[&str]) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let file = root.join("lines.conf");
    fs::write(&file, text).unwrap();
    let output = Command::new(program)
        .args(options)
        .arg(format!("--root={}", root.display()))
        .arg(file)
        .output();
    output.ok()
}

#[test]
fn tmpfiles_lines_do_what_they_say() {
    let (mut lines, mut notes) = (Vec::new(), Vec::new());
    let text = "d! /run/demo 2750 - - -\nf+ /run/demo/a 0640 - - - one  two\\x21\n\
                L+ /run/demo/now - - - - ../x y\np /run/demo/p :0600\ne /run/demo ~0750\n\
                D= /tmp/demo 1777\nz /run/demo/a 0600\nZ- /run/demo - root root\n";
    tmpfiles::read("x.conf", text, &mut lines, &mut notes);
    let lines = tmpfiles::settle(lines, &mut notes);
    assert_eq!((lines.len(), notes.len()), (8, 0), "{notes:?}");
    let text: String = lines.iter().map(|line| line.text.clone() + "\n").collect();

    let root = tempfile::tempdir().unwrap();
    for directory in ["run", "tmp", "etc"] {
        fs::create_dir(root.path().join(directory)).unwrap();
    }
    fs::write(root.path().join("etc/passwd"), "root:x:0:0::/:\n").unwrap();
    fs::write(root.path().join("etc/group"), "root:x:0:\n").unwrap();
    let options = ["--create", "--remove", "--boot"];
    let Some(output) = run("systemd-tmpfiles", root.path(), &text, &options) else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let demo = root.path().join("run/demo");
    assert_eq!(fs::read(demo.join("a")).unwrap(), b"one  two!");
    assert_eq!(fs::metadata(demo.join("a")).unwrap().mode() & 0o7777, 0o600);
    let target = fs::read_link(demo.join("now")).unwrap();
    assert_eq!(target, Path::new("../x y"));
    assert!(root.path().join("tmp/demo").is_dir());
}

#[test]
fn sysusers_lines_do_what_they_say() {
    let (mut lines, mut notes) = (Vec::new(), Vec::new());
    let text =
        "u demo - \"A demo, of sorts\" /run/demo\ng demos 321\nm demo demos\nu two 300:demos\n";
    sysusers::read("x.conf", text, &mut lines, &mut notes);
    let text = sysusers::settle(&lines, &mut notes);
    assert_eq!(notes, [""; 0]);

    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let Some(output) = run("systemd-sysusers", root.path(), &text, &[]) else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let passwd = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let group = fs::read_to_string(root.path().join("etc/group")).unwrap();
    assert!(
        passwd.contains(":A demo, of sorts:/run/demo:/usr/sbin/nologin\n"),
        "{passwd}"
    );
    assert!(passwd.contains("two:x:300:321:"), "{passwd}");
    assert!(group.contains("demos:x:321:demo\n"), "{group}");
    assert_eq!(sysusers::missing(&lines, &passwd, &group), [""; 0]);
}
