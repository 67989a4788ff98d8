//! Plans for an overlay: any bytes, and any payload under a magic and a checksum
//! that fit. What is accepted is written back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use op_dbus_activator::overlay::beneath;
use op_dbus_activator::overlay::plan::{ENTRIES_MAX, FORMAT, Plan};

fn check(bytes: &[u8]) {
    let Ok(plan) = Plan::decode(bytes) else {
        return;
    };
    assert!(plan.entries.len() <= ENTRIES_MAX);
    assert!(
        plan.entries
            .iter()
            .all(|entry| beneath::is_plain(&entry.path))
    );
    let bytes = plan.encode().expect("no longer than what was read");
    assert_eq!(Plan::decode(&bytes), Ok(plan));
}

fuzz_target!(|data: &[u8]| {
    check(data);
    let mut bytes = b"OPDBUSPL".to_vec();
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend(data);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    check(&bytes);
});
