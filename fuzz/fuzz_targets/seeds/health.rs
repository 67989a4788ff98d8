//! What a health check reads: its configuration, answers, and what it wrote.

use std::io;

use op_dbus_bootstate::BootId;
use op_dbus_health::settings::Policy;
use op_dbus_health::verdict::{Failure, Kind, Report, SCHEMA, Verdict};

use crate::Corpus;

const SETTINGS: &str = r#"[store]
device = "UUID=00000000-0000-0000-0000-000000000001"
subvolume = "/@op-dbus"

[health]
units = ["demo.service"]
unknown = "condemn"
[[health.check]]
unit = "other.service"
wanted = true
[[health.check]]
bus_name = "org.opdbus.Demo"
call = { path = "/", interface = "org.freedesktop.DBus.Peer", method = "Ping" }
retries = 5
[[health.check]]
http = "http://[::1]:8080/health?x=1"
status = 204
name = "web"
[[health.check]]
tcp = "127.0.0.1:22"
interval_seconds = 2
[[health.check]]
unix = "/run/x.sock"
[[health.check]]
writable = "/var/lib/x"
[[health.check]]
free = "/var"
min_mib = 64
[[health.check]]
dns = "example.org"
infrastructure = false
timeout_seconds = 3
[[health.check]]
command = ["/usr/bin/true", "-x"]
"#;

/// Everything above, and what servers say.
pub(crate) fn all(corpus: &Corpus) -> io::Result<()> {
    corpus.add("health", "settings", SETTINGS.as_bytes())?;
    let report = Report {
        schema: SCHEMA,
        boot_id: Some(BootId([5; 16])),
        version: Some("v1.2.0".parse().map_err(|_| io::ErrorKind::InvalidData)?),
        verdict: Verdict::Unhealthy,
        policy: Policy::Retry,
        decided_ms: 42_000,
        waited_ms: 1500,
        checks: 3,
        failures: vec![
            Failure::new("unit demo.service", "failed (exit-code)", Kind::Required),
            Failure::new("dns example.org", "no answer", Kind::Infrastructure),
            Failure::new("free /var", "2 MiB", Kind::Wanted),
        ],
    };
    corpus.add("health", "verdict", &serde_json::to_vec(&report)?)?;

    for (name, answer) in [
        ("http", &b"\0HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"[..]),
        ("http-short", b"\0HTTP/1.0 200\n"),
        // A name by a pointer, an address; a name in full, another name.
        ("dns-address", b"\x01\x01\x80\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01"),
        ("dns-alias", b"\x01\x01\x80\x02\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01a\xc0\x0c\x01a\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01"),
        ("dns-refused", b"\x01\x00\x05\x00"),
        ("resolv", b"\x02# by hand\nnameserver 127.0.0.53\nnameserver fe80::1%2\noptions edns0\n"),
    ] {
        corpus.add("answers", name, answer)?;
    }
    Ok(())
}
