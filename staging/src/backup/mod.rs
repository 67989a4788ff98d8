//! What a backup of a device is made of. Its file is [`op_dbus_backup`]'s.
//!
//! [`gather`] takes snapshots of the overlays and reads everything small, under
//! the store's lock, in a moment; the device goes on meanwhile. [`contents`]
//! reads a backup and checks all of it. What is not in one: the versions' trees,
//! which come back from signed releases.

pub(crate) mod area;
pub(crate) mod contents;
pub(crate) mod gather;
pub(crate) mod kept;
pub(crate) mod logs;
pub(crate) mod member;
pub(crate) mod output;

use std::path::Path;

use op_dbus_backup::BackupError;

use crate::error::{Exit, Failure};

/// An error of a backup's file in our words.
pub(crate) fn failure(file: &Path, why: &BackupError) -> Failure {
    let what = file.display();
    match why {
        BackupError::Io(why) => match why.get_ref().and_then(|own| own.downcast_ref::<Failure>()) {
            Some(own) => own.clone(),
            None => Failure::io(
                what,
                match why.raw_os_error() {
                    Some(code) => std::io::Error::from_raw_os_error(code),
                    None => std::io::Error::new(why.kind(), why.to_string()),
                },
            ),
        },
        BackupError::Foreign(why) => Failure::new(
            Exit::Verification,
            what,
            why,
            "name a file that op-dbus-stage backup create made",
        ),
        BackupError::Damaged(why) => Failure::new(
            Exit::Verification,
            what,
            format_args!("the backup is damaged: {why}"),
            "use another copy of it, or an older backup",
        ),
        BackupError::Unwritable(why) => Failure::new(
            Exit::Failure,
            what,
            format_args!("can't be in a backup: {why}"),
            "run the command again; if it fails again, report this",
        ),
    }
}
