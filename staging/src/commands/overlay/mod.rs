//! `overlay diff`, `lint` and `reset`: what users changed over a version.

mod diff;
pub(super) mod lint;
pub(super) mod outlook;
mod reset;
pub(super) mod table;

use op_dbus_activator::records::Records;
use op_dbus_bootstate::store;
use op_dbus_bootstate::{Record, Version};

use crate::cli::overlay::Overlay;
use crate::context::Context;
use crate::error::{Exit, Failure, Result};

/// Runs one of them.
pub(super) fn run(context: &Context, command: &Overlay) -> Result<Exit> {
    Context::require_root()?;
    context.require_store()?;
    match command {
        Overlay::Diff(args) => diff::run(context, args),
        Overlay::Lint(args) => lint::run(context, args),
        Overlay::Reset(args) => reset::run(context, args),
    }
}

/// The boot record, read without a lock: nothing is changed by it.
fn record(context: &Context) -> Record {
    let loaded = store::load(&mut Records::new(&context.layout));
    loaded.verdict().record().cloned().unwrap_or_default()
}

/// The version that runs in this boot.
fn running(context: &Context) -> Option<Version> {
    let activation = context.activation().ok().flatten()?;
    let running = activation.running()?;
    let boot_id = context.boot_id().ok()?;
    (running.boot_id == boot_id).then_some(running.version)
}

/// The version whose overlay is meant when none is named.
fn usual(context: &Context) -> Result<Version> {
    let good = || record(context).good.map(|good| good.version);
    running(context).or_else(good).ok_or_else(|| {
        Failure::new(
            Exit::UnknownVersion,
            "overlay",
            "no version runs, and none is good",
            "name a version; see: op-dbus-stage status",
        )
    })
}
