//! Receipts and boot reports of any bytes: what is accepted is written back the
//! same.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use op_dbus_activator::activation::Activation;
use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::receipt::Receipt;

/// Reports are read and written as files; in memory where /dev/shm is.
static LAYOUT: LazyLock<Layout> = LazyLock::new(|| {
    let shm = std::path::PathBuf::from("/dev/shm");
    let dir = if shm.is_dir() {
        shm
    } else {
        std::env::temp_dir()
    };
    Layout::new(
        dir.join(format!("op-dbus-fuzz-{}", std::process::id())),
        "/",
    )
});

fuzz_target!(|data: &[u8]| {
    if let Ok(receipt) = Receipt::parse(data) {
        let bytes = serde_json::to_vec(&receipt).expect("encodes");
        assert_eq!(Receipt::parse(&bytes), Ok(receipt));
    }
    fs::create_dir_all(LAYOUT.run_dir()).expect("made");
    fs::write(LAYOUT.activation(), data).expect("written");
    let read = Activation::read(&LAYOUT);
    if let Ok(Some(report)) = read {
        let _ = report.running();
        report.write(&LAYOUT).expect("encodes");
        let again = Activation::read(&LAYOUT).expect("accepted once");
        assert_eq!(again, Some(report));
    }
    let _ = fs::remove_dir_all(&LAYOUT.run);
});
