//! One module a command.

mod audit;
pub(crate) mod backup;
mod bless;
mod boot_report;
mod build;
mod cancel;
mod check;
mod condemn;
mod generate;
mod metrics;
mod orderly_shutdown;
mod overlay;
mod pin;
pub(crate) mod prepare;
mod prune;
pub(crate) mod receive;
mod restore;
mod rollback;
mod running;
mod stage;
pub(crate) mod status;
mod verify;

use crate::cli::{Command, device};
use crate::context::Context;
use crate::error::{Exit, Result};

/// Runs one command.
pub(crate) fn run(context: &Context, command: &Command) -> Result<Exit> {
    match command {
        Command::Device(command) => on_device(context, command),
        Command::Build(command) => build::run(context, command),
        Command::Backup(what) => backup::run(context, what),
        Command::Restore(args) => restore::run(context, args),
        Command::Check(what) => check::run(context, what),
        Command::Prune(args) if args.source.is_meant => build::prune(context, args),
        Command::Prune(args) => prune::run(context, args),
        Command::Man(args) => generate::man(args),
        Command::Completions(args) => generate::completions(args),
    }
}

fn on_device(context: &Context, command: &device::Command) -> Result<Exit> {
    use device::Command;
    match command {
        Command::Prepare(args) => prepare::run(context, args),
        Command::Receive(args) => receive::run(context, args),
        Command::Verify(args) => verify::run(context, args),
        Command::Stage(args) => stage::run(context, args),
        Command::Cancel => cancel::run(context),
        Command::Bless => bless::run(context),
        Command::Condemn(args) => condemn::run(context, args),
        Command::Rollback(args) => rollback::run(context, args),
        Command::Pin(args) => pin::pin(context, &args.version),
        Command::Unpin(args) => pin::unpin(context, &args.version),
        Command::Overlay(what) => overlay::run(context, what),
        Command::Status(args) => status::run(context, args),
        Command::Metrics(args) => metrics::run(context, args),
        Command::Audit(args) => audit::run(context, args),
        Command::BootReport(args) => boot_report::run(context, args),
        Command::OrderlyShutdown => orderly_shutdown::run(context),
    }
}
