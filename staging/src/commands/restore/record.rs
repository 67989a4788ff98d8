//! The boot record, last of all.

use op_dbus_bootstate::audit::{Event, Kind};
use op_dbus_bootstate::transition::Change;
use op_dbus_bootstate::{Deployment, Record};

use crate::backup::contents::Contents;
use crate::backup::kept;
use crate::backup::logs::CURRENT;
use crate::error::Result;
use crate::session::Session;

/// Writes the backup's record, with the identities of what was received here, and
/// lets the audit log go on: first the lines, then the record that points to them.
pub(super) fn write(
    session: &mut Session<'_>,
    record: &Record,
    received: &[Deployment],
    contents: &Contents,
    kept_as: Option<&str>,
) -> Result<()> {
    let events = events(record, contents, kept_as);
    session.apply("restore", |start| {
        Ok(Change {
            record: Some(restored(start, record, received)),
            events,
            outcome: (),
        })
    })?;
    if record.good.is_some() {
        session.keep_blessed();
    }
    Ok(())
}

/// The backup's record on this device: whose log it is, and which subvolumes they
/// are, is this device's; all else the backup's.
fn restored(start: &Record, record: &Record, received: &[Deployment]) -> Record {
    let mut next = Record {
        sequence: start.sequence,
        audit: start.audit,
        ..record.clone()
    };
    let slots = [
        next.good.as_mut(),
        next.fallback.as_mut(),
        next.trial.as_mut().map(|trial| &mut trial.deployment),
    ];
    for held in slots.into_iter().flatten() {
        let mut same = received
            .iter()
            .filter(|one| one.version == held.version && one.digest == held.digest);
        if let Some(one) = same.next() {
            held.identity = one.identity;
        }
    }
    next
}

/// What had proved itself, oldest first, then where all of it comes from: should
/// the record be lost, that is what is left to go by.
fn events(record: &Record, contents: &Contents, kept_as: Option<&str>) -> Vec<Event> {
    let proved = [
        (&record.fallback, "was fallback when the backup was made"),
        (&record.good, "was good when the backup was made"),
    ];
    let mut events: Vec<Event> = proved
        .into_iter()
        .filter_map(|(held, detail)| {
            let held = held.as_ref()?;
            Some(Event::about(Kind::Restored, held, detail))
        })
        .collect();
    let log = contents.logs.iter().find(|log| log.file == CURRENT);
    let detail = kept::detail(
        &contents.digest,
        log.zip(kept_as),
        &contents.info.created,
        &contents.info.host,
    );
    events.push(Event::general(Kind::Restored, detail));
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::audit::AuditHead;
    use op_dbus_bootstate::record::{Origin, Trial};
    use op_dbus_bootstate::{Digest, Identity, Uuid};

    fn deployment(version: &str, identity: u8) -> Deployment {
        Deployment {
            version: version.parse().unwrap(),
            digest: Digest([version.as_bytes()[1]; 32]),
            identity: Identity {
                uuid: Uuid([identity; 16]),
                received_uuid: Uuid([2; 16]),
                ctransid: 1,
                rtransid: 1,
            },
            epoch: 3,
        }
    }

    #[test]
    fn all_is_the_backup_s_but_what_is_this_device_s() {
        let record = Record {
            sequence: 77,
            good: Some(deployment("v2.0.0", 1)),
            fallback: Some(deployment("v1.0.0", 1)),
            trial: Some(Trial {
                deployment: deployment("v3.0.0", 1),
                tries_left: 2,
                refunds_left: 1,
                attempts: 1,
                origin: Origin::Stage,
            }),
            good_unblessed: 4,
            epoch_floor: 3,
            audit: AuditHead {
                length: 99,
                head: Digest([9; 32]),
                missed: 5,
            },
            ..Record::default()
        };
        let start = Record {
            sequence: 3,
            ..Record::default()
        };
        // The trial's release was not there.
        let received = [deployment("v1.0.0", 8), deployment("v2.0.0", 9)];
        let next = restored(&start, &record, &received);
        let identity = |held: &Deployment| held.identity.uuid.0[0];
        assert_eq!(identity(next.good.as_ref().unwrap()), 9);
        assert_eq!(identity(next.fallback.as_ref().unwrap()), 8);
        assert_eq!(identity(&next.trial.as_ref().unwrap().deployment), 1);
        assert_eq!((next.sequence, next.audit), (3, AuditHead::default()));
        let back = restored(
            &record,
            &next,
            &[deployment("v1.0.0", 1), deployment("v2.0.0", 1)],
        );
        assert_eq!(back, record);
    }
}
