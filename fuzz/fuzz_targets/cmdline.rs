//! Kernel command lines of any text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use op_dbus_bootstate::cmdline::{CommandLine, Select};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let parsed = CommandLine::parse(&text);
    assert!(parsed.unknown.len() <= 8);
    // Without our name in it, it says nothing to us, but for quotes within the name.
    if !text.replace('"', "").contains("op-dbus") {
        assert_eq!(parsed, CommandLine::default());
    }
    // An even number of quotes before it leaves a word what it is.
    if text.matches('"').count() % 2 == 0 {
        let more = CommandLine::parse(&format!("{text} op-dbus.select=none"));
        assert_eq!(more.select, Some(Select::None), "the last one counts");
        assert_eq!(more.off, parsed.off);
    }
    if let Some(Select::Version(version)) = &parsed.select {
        assert!(!version.as_str().contains('/') && !version.as_str().starts_with('.'));
    }
});
