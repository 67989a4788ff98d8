//! The boot record at boot: read, mended where it can be, rebuilt where it must be.

use std::time::Duration;

use op_dbus_bootstate::Record;
use op_dbus_bootstate::store::{Verdict, Writer};

use crate::activation::{RecordReport, RecordState};
use crate::history;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::records::Records;

/// How long another holder of the lock is waited for. In early boot there is none.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the boot goes by.
pub(super) struct Opened {
    /// The record, unless none is left and none can be made.
    pub(super) record: Option<Record>,
    /// Why there is none.
    pub(super) why_none: String,
    /// For the report.
    pub(super) report: RecordReport,
    /// Who writes.
    pub(super) writer: Writer<Records>,
    /// Why nothing may be or can be written, if so.
    pub(super) not_durable: Option<String>,
    /// Held until the boot role ends.
    _lock: Option<Lock>,
}

/// Opens the record. With `dry_run`, or a reason in `not_durable`, nothing is written.
pub(super) fn open(layout: &Layout, mut not_durable: Option<String>, dry_run: bool) -> Opened {
    let mut lock = None;
    if !dry_run {
        match Lock::acquire(layout, PATIENCE) {
            Ok(held) => lock = Some(held),
            Err(why) => {
                not_durable.get_or_insert_with(|| why.to_string());
            }
        }
    }
    let writer = Writer::new(Records::new(layout));
    let mut opened = Opened {
        record: None,
        why_none: String::new(),
        report: RecordReport {
            state: RecordState::Missing,
            repaired: false,
        },
        writer,
        not_durable,
        _lock: lock,
    };
    opened.read(layout, dry_run);
    opened
}

impl Opened {
    fn read(&mut self, layout: &Layout, dry_run: bool) {
        let verdict = self.writer.load().verdict();
        self.report.state = match &verdict {
            Verdict::Intact(_) => RecordState::Intact,
            Verdict::Stale(..) => RecordState::StaleCopy,
            Verdict::OneCopy(..) => RecordState::OneCopy,
            Verdict::Rebuilt(_) => RecordState::RebuiltBlessed,
            Verdict::Lost => RecordState::Missing,
            Verdict::NewerFormat(..) => RecordState::NewerFormat,
        };
        self.record = verdict.record().cloned();
        match verdict {
            Verdict::Intact(_) => {}
            Verdict::Stale(..) | Verdict::OneCopy(..) | Verdict::Rebuilt(_) => {
                log::warn!("boot record: {}", verdict.word());
                if !dry_run {
                    self.repair();
                }
            }
            Verdict::NewerFormat(format, _) => {
                let why = format!(
                    "the boot record has format {format}, newer than this program reads; update the initramfs"
                );
                log::warn!("{why}");
                self.not_durable = Some(why);
                if self.record.is_none() {
                    self.record = history::rebuild(layout);
                }
            }
            Verdict::Lost => self.rebuild(layout, dry_run),
        }
        if self.record.is_none() {
            "no copy of the boot record is left, and no version that proved itself; make one with: op-dbus-stage prepare"
                .clone_into(&mut self.why_none);
        }
    }

    /// Writes a lost copy again. The copy that is left stands meanwhile, and does
    /// also if this fails.
    fn repair(&mut self) {
        if self.not_durable.is_some() {
            return;
        }
        match self.writer.repair() {
            Ok(repaired) => {
                self.report.repaired = repaired;
                // A rebuilt record got a new sequence.
                self.record = self.writer.load().verdict().record().cloned();
            }
            Err(why) => self.not_durable = Some(why.to_string()),
        }
    }

    fn rebuild(&mut self, layout: &Layout, dry_run: bool) {
        let Some(record) = history::rebuild(layout) else {
            log::error!("boot record: all copies lost, nothing to rebuild it from");
            return;
        };
        log::warn!("boot record: all copies lost, rebuilt from the audit log");
        self.report.state = RecordState::RebuiltHistory;
        self.record = Some(record.clone());
        if dry_run || self.not_durable.is_some() {
            return;
        }
        match self.writer.commit(None, record) {
            Ok(written) => {
                self.report.repaired = true;
                self.record = Some(written);
            }
            Err(why) => self.not_durable = Some(why.to_string()),
        }
    }
}
