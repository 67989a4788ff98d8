//! What makes a version healthy, as configured, and verdicts: any text as a
//! configuration, any bytes as `health.json`.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use op_dbus_activator::config::Config;
use op_dbus_health::settings::Settings;
use op_dbus_health::verdict::Report;

/// What a terminal or a log may be shown.
fn is_plain(text: &str) -> bool {
    text.len() <= 200 && !text.chars().any(char::is_control)
}

fuzz_target!(|data: &[u8]| {
    match Report::parse(data) {
        Ok(report) => {
            assert!(report.failures.len() <= 100);
            for failure in &report.failures {
                assert!(is_plain(&failure.check) && is_plain(&failure.reason));
            }
            let bytes = serde_json::to_vec(&report).expect("encodes");
            assert_eq!(Report::parse(&bytes), Ok(report));
        }
        Err(why) => assert!(!why.contains('\n'), "{why}"),
    }

    let text = String::from_utf8_lossy(data);
    match Settings::parse(&text) {
        Ok(settings) => {
            assert!(Config::parse(&text).is_ok(), "the activator refuses it");
            let names: BTreeSet<_> = settings.checks.iter().map(|check| &check.name).collect();
            assert_eq!(names.len(), settings.checks.len(), "two of one name");
        }
        Err(why) => assert!(!why.contains('\n'), "{why}"),
    }
});
