//! `op-dbus-activate`: everything is in the library.
//!
//! Entered by the C library's start code, not the standard library's: that looks
//! for the stack's guard page in a way that brings scanf and all of its number
//! parsing into a static program, 120 KiB in every initramfs. What else it does
//! is done by [`start`](op_dbus_activator::start).
#![no_main]
#![allow(
    unsafe_code,
    reason = "a name that the linker looks for; nothing else in this file is unsafe"
)]

use std::ffi::{c_char, c_int};

/// The arguments are taken from where the standard library keeps them: with
/// glibc they are there before `main` (documentation of `std::env::args`).
// SAFETY: the name and the signature are those the C library calls; no other
// function of this program has the name. The pointers are not used.
#[unsafe(no_mangle)]
pub extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    op_dbus_activator::start::prepare();
    op_dbus_activator::cli::main(std::env::args_os().skip(1)).into()
}
