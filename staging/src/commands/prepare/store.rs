//! The store itself: subvolume, directories, boot record.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use op_dbus_activator::lock::Lock;
use op_dbus_activator::records::Records;
use op_dbus_bootstate::Record;
use op_dbus_bootstate::audit::{Event, Kind};
use op_dbus_bootstate::codec::CodecError;
use op_dbus_bootstate::store::{Loaded, Reading, Verdict, Writer};

use super::toplevel::TopLevel;
use super::{Made, make_dir};
use crate::auditlog::{AuditLog, Writing};
use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::reserve;
use crate::session::{PATIENCE, Session, lock_failure};
use crate::settings::prune::Prune as Settings;

/// Makes what is missing of a store.
pub(crate) fn make(
    context: &Context,
    top: &TopLevel,
    subvolume: &str,
    made: &mut Made,
) -> Result<()> {
    let path = top.path(subvolume);
    make_subvolume(top, &path, subvolume, made)?;
    let inside = context.with_store(&path);
    let layout = &inside.layout;
    for dir in [
        layout.deploy_dir(),
        layout.overlays_dir(),
        layout.incoming_dir(),
        layout.manifests_dir(),
        layout.boot_dir(),
        layout.audit_dir(),
    ] {
        if !dir.is_dir() {
            make_dir(&dir, 0o700)?;
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            made.push(format!("directory {name} of the store"));
        }
    }
    make_record(&inside, made)?;
    op_dbus_btrfs::sync_filesystem(&path)?;
    context.take_warnings(&inside);
    Ok(())
}

/// Makes the reserve, or what is missing of it. Without room for it the store is a
/// store all the same.
pub(crate) fn reserve(
    context: &Context,
    top: &TopLevel,
    subvolume: &str,
    made: &mut Made,
) -> Result<()> {
    let inside = context.with_store(&top.path(subvolume));
    let state = reserve::settle_in(&inside, &Settings::load(context)?)?;
    if state.made > 0 {
        let mib = state.bytes.div_ceil(1 << 20);
        made.push(format!("reserve of {mib} MiB for a full disk"));
    }
    if let Some(warning) = state.warning() {
        context.warn(warning);
    }
    Ok(())
}

fn make_subvolume(top: &TopLevel, path: &Path, name: &str, made: &mut Made) -> Result<()> {
    match path.symlink_metadata() {
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            top.create_subvolume(name)?;
            made.push(format!("subvolume {name}"));
        }
        Err(why) => return Err(Failure::io(format_args!("subvolume {name}"), why)),
        Ok(_) if !op_dbus_btrfs::is_subvolume(path)? => {
            return Err(Failure::new(
                Exit::Store,
                format_args!("subvolume {name}"),
                "something else has this name at the top level of the file system",
                "choose another name: --subvolume NAME",
            ));
        }
        Ok(_) => {}
    }
    // Whatever a version holds, nobody but root gets at it through the store.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(|why| Failure::io(format_args!("subvolume {name}: set its mode"), why))
}

/// Writes the first, empty record. Copies that were in use and are lost are
/// another matter: a session rebuilds them from what the store still tells.
fn make_record(inside: &Context, made: &mut Made) -> Result<()> {
    let log = AuditLog::new(&inside.layout);
    let records = Records::new(&inside.layout);
    let mut writer = Writer::new(records.clone());
    let loaded = writer.load();
    if loaded.verdict() != Verdict::Lost {
        return Ok(());
    }
    let is_fresh = is_blank(&loaded) && !log.exists();
    let lock = Lock::acquire(&inside.layout, PATIENCE).map_err(lock_failure)?;
    records
        .create()
        .map_err(|why| Failure::io(format_args!("boot record: {}", why.operation), why.source))?;
    let event = Event::general(Kind::Prepared, "an empty boot record was made");
    if !is_fresh {
        drop(lock);
        return Session::open(inside)?.note(vec![event]);
    }
    let mut record = Record::default();
    record.audit = log
        .append(record.audit, &[event], &Writing::new(&inside.author()))
        .map_err(|why| Failure::io(format_args!("{}: write", log.path().display()), why))?;
    writer.commit(None, record).map_err(|why| {
        Failure::new(
            Exit::Failure,
            "boot record: write",
            why,
            "run the command again",
        )
    })?;
    made.push("boot record".to_owned());
    Ok(())
}

/// Whether no copy was ever written.
fn is_blank(loaded: &Loaded) -> bool {
    [&loaded.zero, &loaded.one, &loaded.blessed]
        .into_iter()
        .all(|reading| matches!(reading, Reading::Absent | Reading::Bad(CodecError::Blank)))
}
