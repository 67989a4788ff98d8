//! `op-dbus-stage`: parses the command line and turns the result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(op_dbus_staging::run(std::env::args_os()).code())
}
