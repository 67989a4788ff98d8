//! The story, on a plain disk: nothing is recorded, and it goes as it is told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use op_dbus_crash::host::{Host, enter_namespace};
use op_dbus_crash::prepared::Prepared;
use op_dbus_crash::programs::Programs;
use op_dbus_crash::story;
use op_dbus_loopback::sh;

#[test]
fn the_story_goes_as_it_is_told() {
    let Some(dir) = op_dbus_loopback::private_dir("opc") else {
        return;
    };
    let target =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/x86_64-unknown-linux-gnu");
    let programs = Programs::new(
        &target.join("release/op-dbus-stage"),
        &target.join("boot/op-dbus-activate"),
    );
    let programs = match programs {
        Ok(programs) => programs,
        Err(why) => {
            eprintln!("SKIPPED: {why}");
            return;
        }
    };
    let prepared = Prepared::make(&dir.path().join("prepared"), &programs).unwrap();
    let disk = prepared.disk();
    let node = sh("losetup", &["--find", "--show", disk.to_str().unwrap()]);
    enter_namespace().unwrap();
    let place = dir.path().join("host");
    fs::create_dir(&place).unwrap();
    let mut host = Host::new(&place, &programs, 0).unwrap();
    host.use_device(Path::new(&node)).unwrap();
    let steps = story::steps(&prepared.releases(), &prepared.certificate());
    let mut names = Vec::new();
    let result = story::perform(
        &steps,
        &mut host,
        |_| (),
        |name| names.push(name.to_owned()),
    );
    let _ = host.down();
    sh("losetup", &["--detach", &node]);
    println!("{names:#?}");
    println!("{:?}", result.unwrap());
}
