//! `op-dbus-crash`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    op_dbus_crash::cli::main()
}
