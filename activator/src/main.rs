//! `op-dbus-activate`: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    op_dbus_activator::cli::main(std::env::args_os().skip(1)).into()
}
