//! What the standard library does before `main`, for a program that has its own.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd as _, IntoRawFd as _};

use rustix::fs::{CWD, Mode, OFlags};

/// Makes sure that descriptors 0 to 2 are open, or a boot record might get the
/// number that errors are printed to; and that writing to whoever has stopped
/// reading is an error, not the end.
pub fn prepare() {
    while let Ok(null) = rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR, Mode::empty()) {
        if null.as_raw_fd() > 2 {
            break;
        }
        // Stays open for as long as the program runs.
        let _ = null.into_raw_fd();
    }
    // SAFETY: no handler is installed, and no other thread is running yet.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}
