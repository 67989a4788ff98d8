//! What the host did not take of a version is told by `status`.

use std::fs;

use op_dbus_integration::report::Report;

use crate::fixture::Device;

#[test]
fn what_the_host_does_not_take_is_told() {
    let Some(device) = Device::new() else { return };
    assert_eq!(device.status()["import"], serde_json::Value::Null);

    let report = Report {
        version: "v1.1.0".to_owned(),
        tmpfiles: 1,
        ..Report::default()
    };
    let refused =
        "/opt/op-dbus/lib/tmpfiles.d/x.conf:1: refused: /var/lib/x would outlive the version";
    let notes = vec![refused.to_owned(); 40];
    report.refusing(notes).write(&device.layout).unwrap();
    let status = device.json(&["status"]);
    assert_eq!(status["result"], "attention");
    assert_eq!(status["import"]["tmpfiles"], 1);
    let text = device.run(&["status"]).done();
    assert!(
        text.contains(&format!(
            "  - v1.1.0 brings what the host does not take: {refused}\n"
        )),
        "{text}"
    );
    assert!(text.contains("v1.1.0 brings 8 more things"), "{text}");

    fs::write(Report::path(&device.layout), "{").unwrap();
    let text = device.run(&["status"]).done();
    assert!(text.contains("systemctl restart op-dbus-import"), "{text}");
}
