//! `op-dbus-mutants`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    op_dbus_mutants::cli::main()
}
