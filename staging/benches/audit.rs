//! How long `audit verify` takes over 100,000 lines, beside `sha256sum` of the same
//! bytes: by turns, in one run. The ratio is what compares between machines; of
//! processor time where the machine does other work too.
//!
//! The program measured is `$OP_DBUS_STAGE`, or the one built for the bench. The
//! log lies in a directory of its own in `/tmp`, and is read from the page cache
//! by both.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use op_dbus_bootstate::audit::{self, AuditHead, Event, Kind, Stamp};
use op_dbus_bootstate::{BootId, Digest};

/// Lines of the log.
const LINES: u64 = 100_000;
/// Rounds; the median of each contender is printed.
const ROUNDS: usize = 7;

/// Writes what `audit export` writes. Every third line tells of a boot, as on a
/// device; the others have all that a line can have.
fn export(dir: &Path) -> u64 {
    let mut head = AuditHead::default();
    let mut text = String::new();
    for number in 0..LINES {
        let boot = BootId(u128::from(number / 3).to_be_bytes());
        let stamp = Stamp {
            actor: "op-dbus-stage 0.1.0 uid 0 login 1000",
            time: "2026-11-23T13:37:00Z",
            boot: Some(boot),
            up_ms: Some(12_345 + number),
        };
        let kind = [Kind::Attempt, Kind::Blessed, Kind::Received][number as usize % 3];
        let event = Event {
            version: Some(format!("v1.{}.0", number / 3).parse().unwrap()),
            digest: Some(Digest([number as u8; 32])),
            ..Event::general(
                kind,
                "good: activated; the trial had no tries left, \"so\" good",
            )
        };
        let (line, next) = audit::append(head, event, &stamp).unwrap();
        text.push_str(&line);
        text.push('\n');
        head = next;
    }
    fs::write(dir.join("log.jsonl"), &text).unwrap();
    let statement = serde_json::json!({
        "schema": 1,
        "kind": "op-dbus-audit-head",
        "store": "00000000-0000-0000-0000-000000000001",
        "first": 1,
        "length": head.length,
        "sha256": head.head,
        "missed": 0,
        "boot": null,
        "time": "2026-11-23T13:37:00Z",
        "program": "bench",
    });
    fs::write(dir.join("head.json"), statement.to_string()).unwrap();
    text.len() as u64
}

/// Processor time of the programs that were waited for, in seconds.
fn processor() -> f64 {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(used.user_time()) + seconds(used.system_time())
}

/// Seconds by the clock, and of the processors.
fn timed(program: &str, args: &[&str]) -> (f64, f64) {
    let (began, used) = (Instant::now(), processor());
    let status = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{program} {args:?}: {status}");
    (began.elapsed().as_secs_f64(), processor() - used)
}

fn medians(times: &[(f64, f64)]) -> (f64, f64) {
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut column: Vec<_> = times.iter().map(of).collect();
        column.sort_by(f64::total_cmp);
        column[column.len() / 2]
    };
    (median(|times| times.0), median(|times| times.1))
}

fn main() {
    let stage = std::env::var("OP_DBUS_STAGE");
    let stage = stage
        .as_deref()
        .unwrap_or(env!("CARGO_BIN_EXE_op-dbus-stage"));
    let dir = tempfile::tempdir().unwrap();
    let bytes = export(dir.path());
    let log = dir.path().join("log.jsonl");
    let (dir, log) = (dir.path().to_str().unwrap(), log.to_str().unwrap());
    let (mut verify, mut sum) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        verify.push(timed(stage, &["audit", "verify", dir]));
        sum.push(timed("sha256sum", &[log]));
    }
    let (verify, sum) = (medians(&verify), medians(&sum));
    println!("{LINES} lines, {:.1} MiB", bytes as f64 / 1_048_576.0);
    println!("                            by the clock  of the processors");
    println!(
        "op-dbus-stage audit verify       {:.3} s      {:.3} s",
        verify.0, verify.1
    );
    println!(
        "sha256sum                        {:.3} s      {:.3} s",
        sum.0, sum.1
    );
    println!(
        "ratio                            {:.2}         {:.2}",
        verify.0 / sum.0,
        verify.1 / sum.1
    );
}
