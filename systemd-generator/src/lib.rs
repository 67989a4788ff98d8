//! `op-dbus-generator`: hooks op-dbus into the boot.
//!
//! systemd runs generators before it loads units, and again at every
//! daemon-reload, in a sandbox where only the output directories can be
//! written. So this one reads and emits, nothing else:
//!
//! | Module | Does |
//! |---|---|
//! | [`inputs`] | reads the configuration, activation.json and the kernel command line |
//! | [`op_dbus_integration::units`] | reads the units of the active version |
//! | [`plan`] | decides what to emit; pure |
//! | [`emit`] | writes the plan into the output directory, the same at every run |
//!
//! It is the sole publisher of a version's units, whoever activated it, and of
//! the links that enable op-dbus' own units: nothing is enabled by hand, and
//! with no configuration, or `op-dbus=off`, nothing is emitted.

pub mod emit;
pub mod inputs;
pub mod plan;

use std::path::Path;

use op_dbus_integration::units::{self, Units};

/// Reads the host below `root` and writes units into `output`, systemd's
/// "normal" generator directory: above vendor units, below the administrator's.
///
/// Returns what the operator should know, one line each. Nothing that is wrong
/// with the inputs is an error: the boot goes on with what can be emitted.
pub fn run(root: &Path, output: &Path) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(situation) = inputs::read(root, &mut notes) else {
        return notes;
    };
    let units = match &situation.active {
        Some(_) => units::read(root, &situation.lower, &mut notes),
        None => Units::default(),
    };
    if let Err(error) = emit::write(&plan::plan(&situation, &units), output) {
        notes.push(error.to_string());
    }
    notes
}
