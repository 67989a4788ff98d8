//! What the store remembers: boot record, audit log; who writes to it; and which
//! activator this boot had.

use std::io;
use std::path::Path;

use op_dbus_activator::activation::Activation;
use op_dbus_activator::config::{Config, Way};
use op_dbus_activator::layout::Layout;
use op_dbus_activator::records::Records;
use op_dbus_bootstate::codec::{self, CodecError};
use op_dbus_bootstate::store::{self, Loaded, Reading, Verdict};
use op_dbus_bootstate::{Record, Version};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};

use crate::auditlog::{AuditLog, State};
use crate::commands::check::host::Host;
use crate::error::Exit;
use crate::findings::Findings;
use crate::holder;

const RECORD: &str = "boot record";
const AUDIT: &str = "audit log";
/// Any command that writes brings the copies back.
const REPAIR: &str =
    "the next boot writes it again; if it comes back, see: btrfs device stats, journalctl -k";

/// Looks at record and log.
pub(crate) fn check(host: &Host, findings: &mut Findings) {
    let layout = &host.context.layout;
    if let Err(why) = regular(layout) {
        return findings.error(
            Exit::Record,
            RECORD,
            why,
            "see docs/RECOVERY.md, The boot record",
        );
    }
    let loaded = store::load(&mut Records::new(layout));
    copies(&loaded, findings);
    let verdict = loaded.verdict();
    let record = verdict.record();
    if let Some(record) = record {
        roles(record, findings);
    }
    audit(&AuditLog::new(layout), record, findings);
    for (path, what) in [
        (layout.lock(), "the store"),
        (layout.incoming_dir().join("lock"), "incoming/"),
    ] {
        lock(&path, what, findings);
    }
}

/// That what is going to be read are files: opening a FIFO would wait for ever.
fn regular(layout: &Layout) -> Result<(), String> {
    let copies = store::Copy::ALL.map(|copy| layout.record(copy));
    for path in copies.iter().chain([&layout.audit_log()]) {
        match path.symlink_metadata() {
            Ok(found) if found.is_file() => {}
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Ok(_) => return Err(format!("{} is not a regular file", path.display())),
            Err(why) => return Err(format!("{}: {why}", path.display())),
        }
    }
    Ok(())
}

fn copies(loaded: &Loaded, findings: &mut Findings) {
    match loaded.verdict() {
        Verdict::Intact(record) => findings.ok(
            RECORD,
            format!("both copies intact, sequence {}", record.sequence),
        ),
        Verdict::Stale(record, _) => findings.info(
            RECORD,
            format!(
                "one copy is older, after a power cut between the two writes; sequence {} counts",
                record.sequence
            ),
        ),
        Verdict::OneCopy(_, copy) => findings.warning(
            RECORD,
            format!("{} is lost; the other copy counts", copy.file_name()),
            REPAIR,
        ),
        Verdict::Rebuilt(_) => findings.warning(
            RECORD,
            "both copies are lost; that of the last bless counts, and what was staged since is forgotten",
            REPAIR,
        ),
        Verdict::Lost => findings.error(
            Exit::Record,
            RECORD,
            "every copy is lost",
            "rebuild it from the audit log by any command that writes: op-dbus-stage cancel; then look at: op-dbus-stage status",
        ),
        Verdict::NewerFormat(format, _) => findings.error(
            Exit::Record,
            RECORD,
            format!("it has format {format}, and this program reads up to {}", codec::FORMAT),
            "use the programs of the newer release, and an initramfs made with them",
        ),
    }
    match &loaded.blessed {
        Reading::Valid(_) | Reading::Absent | Reading::Bad(CodecError::Blank) => {}
        Reading::Bad(why) => findings.warning(
            RECORD,
            format!("the copy of the last bless is lost: {why}"),
            "the next bless writes it again; if it comes back, see: btrfs device stats, journalctl -k",
        ),
        Reading::Unreadable(why) => findings.error(
            Exit::Record,
            RECORD,
            format!("the copy of the last bless can't be read: {why}"),
            "check the medium: journalctl -k, btrfs device stats",
        ),
    }
}

fn roles(record: &Record, findings: &mut Findings) {
    match (&record.good, &record.fallback) {
        (None, _) => findings.info(
            RECORD,
            "no version is good yet: a trial that fails leaves the host without one",
        ),
        (Some(good), None) => findings.info(
            RECORD,
            format!("{} is good, and there is no fallback yet", good.version),
        ),
        (Some(good), Some(fallback)) => findings.ok(
            RECORD,
            format!(
                "{} is good, {} is its fallback",
                good.version, fallback.version
            ),
        ),
    }
}

fn audit(log: &AuditLog, record: Option<&Record>, findings: &mut Findings) {
    let anchor = record.map(|record| record.audit);
    let keep = "keep the file as evidence; the next command that writes sets it aside and begins a new one";
    match log.read(anchor, |_| ()) {
        Ok(State::Sound { head, .. }) => {
            findings.ok(AUDIT, format!("{} lines, sound", head.length));
        }
        Ok(State::Broken(why)) => {
            findings.error(Exit::Verification, AUDIT, why.to_string(), keep);
        }
        Err(why) => findings.error(
            Exit::Failure,
            AUDIT,
            format!("{}: {why}", log.path().display()),
            "check the medium: journalctl -k, btrfs device stats",
        ),
    }
    for aside in log.set_aside().unwrap_or_default().iter().take(4) {
        findings.warning(
            AUDIT,
            format!("an earlier one did not verify: {}", aside.display()),
            "look at it, keep a copy elsewhere, then remove it",
        );
    }
    let missed = anchor.map_or(0, |head| head.missed);
    if missed > 0 {
        findings.warning(
            AUDIT,
            format!(
                "{} could not be logged",
                super::counted(usize::try_from(missed).unwrap_or(usize::MAX), "transition")
            ),
            "was the store full or read-only? Make space: op-dbus-stage prune",
        );
    }
}

/// Whether somebody else writes now. A look takes no lock for longer than a moment,
/// shared with other looks, and every writer waits longer than that.
fn lock(path: &Path, what: &str, findings: &mut Findings) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // Made by the first who takes it.
    let Ok(file) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else {
        return;
    };
    let taken = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
    if taken == Err(rustix::io::Errno::WOULDBLOCK) {
        let who = holder::of(path).unwrap_or_else(|| "another program".to_owned());
        findings.warning(
            "lock",
            format!("{who} is writing to {what}: this may show a state in between"),
            "wait for it to end, then check again",
        );
    }
}

/// Whether this boot's activator understands what this program writes.
pub(crate) fn activator(host: &Host, config: &Config, findings: &mut Findings) {
    let rebuild = match config.activation.way {
        Way::Initrd => {
            "bring the initramfs up to date (dracut --force --regenerate-all), then reboot"
        }
        Way::Generator => "install op-dbus completely, then reboot",
    };
    let path = host.context.layout.activation();
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return findings.error(
            Exit::Failure,
            "activator",
            format!("{} is not a regular file", path.display()),
            "remove it and reboot",
        );
    }
    let activation = match host.context.activation() {
        Ok(Some(activation)) => activation,
        Ok(None) => {
            return findings.warning(
                "activator",
                "it has not run in this boot",
                format!("after the first preparation: reboot; else: journalctl -b -g op-dbus. If the initramfs lacks it: {rebuild}"),
            );
        }
        Err(why) => {
            return findings.error(
                Exit::Failure,
                "activator",
                format!("{}: {}", why.what, why.why),
                why.remedy,
            );
        }
    };
    judge(&activation, env!("CARGO_PKG_VERSION"), rebuild, findings);
}

fn judge(activation: &Activation, own: &str, rebuild: &str, findings: &mut Findings) {
    let program = &activation.program;
    if !activation.record_formats.contains(&codec::FORMAT) {
        return findings.error(
            Exit::Record,
            "activator",
            format!(
                "this boot's ({program}) does not read boot records of format {}, which this program writes",
                codec::FORMAT
            ),
            rebuild,
        );
    }
    let version = |text: &str| text.parse::<Version>().ok();
    let ran = program.rsplit(' ').next().and_then(version);
    if ran.zip(version(own)).is_some_and(|(ran, own)| ran < own) {
        findings.warning(
            "activator",
            format!("this boot's ({program}) is older than this program ({own})"),
            rebuild,
        );
    } else {
        findings.ok("activator", format!("this boot's: {program}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::{bad, found};
    use crate::findings::Severity::{Error, Ok, Warning};
    use op_dbus_activator::activation::Outcome;

    #[test]
    fn an_activator_that_is_too_old_is_told() {
        let mut activation = Activation::new(Outcome::Activated, "");
        let look = |activation: &Activation, own: &str| {
            found(|findings| judge(activation, own, "do", findings))[0].0
        };
        activation.program = "op-dbus-activate 0.9.0".to_owned();
        assert_eq!(look(&activation, "0.9.0"), Ok);
        assert_eq!(look(&activation, "0.10.0"), Warning);
        assert_eq!(look(&activation, "0.8.1"), Ok);
        activation.record_formats = Vec::new();
        assert_eq!(look(&activation, "0.9.0"), Error);
    }

    #[test]
    fn a_held_lock_is_told_and_a_free_one_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let look = || bad(|findings| lock(&path, "the store", findings));
        assert_eq!(look(), []);
        assert!(!path.exists());
        let file = std::fs::File::create(&path).unwrap();
        assert_eq!(look(), []);
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        let told = look();
        assert!(
            told.len() == 1 && told[0].1.contains("is writing to the store"),
            "{told:?}"
        );
    }
}
