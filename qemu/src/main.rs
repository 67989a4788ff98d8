//! `op-dbus-vm`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    op_dbus_vm::cli::main()
}
