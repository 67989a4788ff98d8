//! The boot role on a real store: which version comes up, and what is left when
//! one does not.

use std::fs;

use op_dbus_activator::activation::{Outcome, RecordState, Source};
use op_dbus_bootstate::Slot;

mod common;
use common::{Device, is_root, mounts, on_trial};

#[test]
fn good_comes_up_with_a_writable_overlay() {
    if !is_root() {
        return;
    }
    let (device, _) = Device::with_good();
    let report = device.boot();
    assert_eq!(report.outcome, Outcome::Activated, "{report:?}");
    assert_eq!(report.slot, Some(Slot::Good));
    assert_eq!(report.degraded, Vec::<String>::new());
    assert_eq!(report.record.state, RecordState::Intact);
    assert_eq!(report.source, Source::Record);
    assert!(report.counted);
    device.assert_runs("v1.0.0");
    fs::write(device.layout.host("/usr/local/op-dbus/new"), "x").unwrap();
    assert!(fs::write(device.layout.host("/opt/op-dbus/new"), "x").is_err());
}
