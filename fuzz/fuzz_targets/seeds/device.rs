//! What a device keeps: its record, log, receipts, configuration.

use std::io;

use op_dbus_activator::activation::{Activation, Outcome};
use op_dbus_activator::overlay::plan::{Action, Entry, Plan};
use op_dbus_bootstate::audit::{self, AuditHead, Event, Kind, Stamp};
use op_dbus_bootstate::codec;
use op_dbus_bootstate::receipt::{self, Receipt};
use op_dbus_bootstate::record::{
    Attempt, Choice, LastBoot, Origin, Outcome as Tried, Reason, Trial,
};
use op_dbus_bootstate::{BootId, Deployment, Digest, Identity, Record, Slot, Uuid};

use crate::Corpus;

fn deployment(number: u8) -> io::Result<Deployment> {
    let version = format!("v1.{number}.0-rc.1+build");
    Ok(Deployment {
        version: version.parse().map_err(|_| io::ErrorKind::InvalidData)?,
        digest: Digest([number; 32]),
        identity: Identity {
            uuid: Uuid([number; 16]),
            received_uuid: Uuid([200 - number; 16]),
            ctransid: 300,
            rtransid: 301,
        },
        epoch: u32::from(number),
    })
}

fn record() -> io::Result<Record> {
    let boot_id = BootId([5; 16]);
    Ok(Record {
        sequence: 1000,
        good: Some(deployment(1)?),
        fallback: Some(deployment(2)?),
        trial: Some(Trial {
            deployment: deployment(3)?,
            tries_left: 2,
            refunds_left: 3,
            attempts: 1,
            origin: Origin::Stage,
        }),
        attempts: vec![Attempt {
            boot_id,
            slot: Some(Slot::Trial),
            digest: Some(Digest([3; 32])),
            outcome: Tried::Selected,
            reason: Reason::TrialDue,
        }],
        last_boot: Some(LastBoot {
            boot_id,
            choice: Choice::Deployment {
                slot: Slot::Trial,
                digest: Digest([3; 32]),
            },
            reason: Reason::TrialDue,
            after_rescue: false,
            refunded: false,
            verdict: None,
        }),
        ..Record::default()
    })
}

/// The payload of a record, as the target frames it: kind, length, bytes.
fn framed(kind: u8, record: &Record) -> io::Result<Vec<u8>> {
    let block = codec::encode(record).map_err(io::Error::other)?;
    let length = u16::from_le_bytes([block[12], block[13]]);
    let mut seed = vec![kind];
    seed.extend(length.to_le_bytes());
    seed.extend(&block[16..16 + usize::from(length)]);
    Ok(seed)
}

/// Everything above.
pub(crate) fn all(corpus: &Corpus) -> io::Result<()> {
    let (rich, empty) = (record()?, Record::default());
    let older = Record {
        sequence: 999,
        trial: None,
        ..rich.clone()
    };
    let copies = [
        ("intact", [(3, &rich), (3, &rich), (3, &older)]),
        ("stale", [(3, &older), (3, &rich), (0, &empty)]),
        ("lost", [(0, &empty), (1, &empty), (3, &rich)]),
        ("newer", [(18, &rich), (3, &older), (3, &empty)]),
    ];
    for (name, copies) in copies {
        let mut seed = Vec::new();
        for (kind, record) in copies {
            seed.extend(framed(kind, record)?);
        }
        corpus.add("record", name, &seed)?;
    }

    let mut head = AuditHead::default();
    let mut log = vec![1, 0, 9, 0];
    for kind in [Kind::Received, Kind::Staged, Kind::Blessed, Kind::Condemned] {
        let event = Event::about(kind, &deployment(1)?, "a \"detail\"\n");
        let stamp = Stamp {
            actor: "seeds",
            time: "2026-11-23T05:00:00Z",
            ..Stamp::default()
        };
        let (line, next) = audit::append(head, event, &stamp)?;
        log.extend(line.as_bytes());
        log.push(b'\n');
        head = next;
        corpus.add("audit", &format!("lines-{}", head.length), &log)?;
    }

    let receipt = Receipt {
        schema: receipt::SCHEMA,
        deployment: deployment(1)?,
        bytes: 40_000,
        received_at: "2026-11-23T05:00:00Z".to_owned(),
    };
    corpus.add("receipt", "receipt", &serde_json::to_vec(&receipt)?)?;
    let report = Activation {
        slot: Some(Slot::Good),
        version: Some(deployment(1)?.version),
        digest: Some(Digest([1; 32])),
        boot_id: Some(BootId([5; 16])),
        steps_us: vec![("config".to_owned(), 12)],
        ..Activation::new(Outcome::Activated, "a reason")
    };
    corpus.add("receipt", "report", &serde_json::to_vec(&report)?)?;

    let plan = plan().encode().map_err(io::Error::other)?;
    corpus.add("plan", "file", &plan)?;
    // What the target puts around it itself.
    let payload = plan.get(12..plan.len().saturating_sub(4)).unwrap_or_default();
    corpus.add("plan", "payload", payload)?;

    for (name, line) in [
        ("plain", "root=/dev/vda ro op-dbus.select=v1.2.0 quiet\n"),
        (
            "quoted",
            "dyndbg=\"file x +p\" op-dbus=off op-dbus.select=\"good\"",
        ),
        (
            "wrong",
            "op-dbus.select=latest op-dbus=maybe op-dbus.slect=none",
        ),
    ] {
        corpus.add("cmdline", name, line.as_bytes())?;
    }
    corpus.add("configuration", "rich", CONFIGURATION.as_bytes())?;
    let mistake = CONFIGURATION.replace("tries = 2", "tries = \"two\"");
    corpus.add("configuration", "mistake", mistake.as_bytes())
}

fn plan() -> Plan {
    let actions = [
        Action::SetAside,
        Action::Unhide,
        Action::OfferNew,
        Action::TakeOwner,
    ];
    let entry = |(number, action)| Entry {
        path: format!("etc/conf.d/{number}").into_bytes(),
        action,
        expected: [7; 32],
    };
    Plan {
        onto: Digest([1; 32]),
        over: Digest([2; 32]),
        entries: (0..).zip(actions).map(entry).collect(),
    }
}

const CONFIGURATION: &str = r#"
[store]
device = "UUID=0af55d50-5a0a-4d3e-8e3c-1d5d1e0c9c6b"
subvolume = "@op-dbus"
wait_seconds = 10
[activation]
way = "generator"
[limits]
tries = 2
refunds = 1
good_boots = 4
[mounts]
lower = "/opt/op-dbus"
overlay = "/usr/local/op-dbus"
[[link]]
path = "/usr/lib/op-dbus"
target = "lib"
[health]
units = ["a.service"]
bus_names = ["org.example.A"]
settle_seconds = 5
timeout_seconds = 60
deadline_seconds = 300
[overlay]
mode = "fresh"
shared_paths = ["var/lib/db"]
[receive]
product = "op-dbus"
"#;
