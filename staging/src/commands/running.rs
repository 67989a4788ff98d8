//! What this boot runs, for the commands that judge it.

use op_dbus_activator::activation::Outcome;
use op_dbus_bootstate::transition::Running;

use crate::context::Context;
use crate::error::{Exit, Failure, Result};

/// What this boot runs.
pub(crate) enum ThisBoot {
    /// A version.
    Runs(Running),
    /// None, and why, in a few words.
    Nothing(&'static str),
}

/// Reads `activation.json` and makes sure that it is of this boot.
pub(crate) fn find(context: &Context) -> Result<ThisBoot> {
    let Some(activation) = context.activation()? else {
        return Ok(ThisBoot::Nothing("the activator has not run in this boot"));
    };
    let Some(running) = activation.running() else {
        return Ok(ThisBoot::Nothing(match activation.outcome {
            Outcome::Off => "op-dbus=off is on the kernel command line",
            Outcome::Rescue => "this boot is in rescue",
            Outcome::Failed | Outcome::Activated => "activation failed in this boot",
        }));
    };
    if running.boot_id != context.boot_id()? {
        return Err(Failure::new(
            Exit::Refused,
            context.layout.activation().display(),
            format_args!("is of another boot ({})", running.boot_id),
            "reboot, so that this boot's activation is known",
        ));
    }
    Ok(ThisBoot::Runs(running))
}
