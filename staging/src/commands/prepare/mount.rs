//! The store at its place.

use op_dbus_activator::config::Config;
use op_dbus_activator::device::Devices;
use op_dbus_activator::session;
use op_dbus_activator::steps::Steps;

use super::Made;
use super::toplevel::TopLevel;
use crate::context::Context;
use crate::error::{Exit, Failure, Result};

/// Mounts the store where every program looks for it, as the boot does.
pub(crate) fn store(
    context: &Context,
    top: &TopLevel,
    config: &Config,
    made: &mut Made,
) -> Result<()> {
    let place = &context.layout.store;
    let state = session::mount(
        &context.layout,
        &config.store,
        &Devices::default(),
        &mut Steps::default(),
    )
    .map_err(|why| {
        Failure::new(
            Exit::Store,
            format_args!("{}: mount the store", place.display()),
            why,
            "see the kernel log for the reason (journalctl -k)",
        )
    })?;
    if let Some(why) = state.read_only {
        context.warn(format!("the store is mounted read-only: {why}"));
    }
    if !state.reused {
        made.push(format!("mount of the store at {}", place.display()));
        return Ok(());
    }
    let wanted = op_dbus_btrfs::info_of(&top.path(&config.store.subvolume))?;
    if op_dbus_btrfs::info_of(place)?.uuid == wanted.uuid {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Store,
        place.display(),
        "another subvolume is mounted there",
        format_args!("unmount it: umount {}", place.display()),
    ))
}
