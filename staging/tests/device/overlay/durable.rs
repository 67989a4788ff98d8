//! What of plans and resets must be on the disk before what.

use std::fs;

use op_dbus_calls::trace;

use super::{Lab, first, versions, write};
use crate::durable::durable;

#[test]
fn a_plan_is_durable_before_the_version_is_on_trial() {
    let Some(lab) = Lab::new() else { return };
    write(&lab.over("etc/a"), "mine");
    lab.receive("v1.1.0", |tree| write(&tree.join("etc/a"), "new"));
    let calls = durable(&lab.device, &["stage", "v1.1.0"]);
    let plan = lab.device.store("plans/v1.1.0");
    let made = |call: &op_dbus_calls::Call| call.other.as_deref() == Some(&plan);
    // Else the rules had nothing to hold against.
    assert!(calls.iter().any(made), "{calls:#?}");
    // And so is that there is none any more.
    lab.device.result(&["cancel"], "cancelled");
    lab.configure("[overlay]\nmode = \"fresh\"\n");
    durable(&lab.device, &["stage", "v1.1.0"]);
    assert!(!plan.exists());
}

#[test]
fn a_change_is_taken_back_durably() {
    let [version, _] = versions();
    let Some(lab) = Lab::running(&version, first) else {
        return;
    };
    for name in ["etc/a", "etc/c"] {
        write(&lab.over(name), "mine");
    }
    fs::remove_file(lab.over("etc/b")).unwrap();
    // Through the overlay: what is to show is on the disk before it has the name.
    let mut command = lab.device.command(&["overlay", "reset", "etc/a"]);
    let traced = trace(&mut command);
    assert_eq!(traced.code, 0, "{}", traced.stderr);
    let hidden = lab.over("etc/.op-dbus-reset");
    let named = lab.over("etc/a");
    let place =
        |found: &dyn Fn(&op_dbus_calls::Call) -> bool| traced.calls.iter().position(found).unwrap();
    let synced = place(&|call| call.name == "fsync" && call.path == hidden);
    let renamed = place(&|call| call.path == hidden && call.other.as_deref() == Some(&named));
    let ended = place(&|call| call.name == "syncfs");
    assert!(synced < renamed && renamed < ended);
    // Beneath it.
    lab.down();
    for args in [&["etc/b"][..], &["etc/c"], &["etc/a.mine", "--discard"]] {
        durable(&lab.device, &[&["overlay", "reset"], args].concat());
    }
}
