//! A machine that goes on from a copy of another's memory needs random numbers
//! of its own: else every copy draws the same boot id, and the same UUIDs for
//! its subvolumes.

#![allow(unsafe_code)] // one ioctl without an argument

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

nix::ioctl_none!(
    /// `RNDRESEEDCRNG` of linux/random.h: the generator takes up what the
    /// processor's own source gives now.
    reseed_crng,
    b'R',
    7
);

/// Makes the kernel's generator start anew.
pub fn reseed() -> io::Result<()> {
    let device = File::options().write(true).open("/dev/urandom")?;
    // SAFETY: the request takes no argument, and the descriptor is open.
    unsafe { reseed_crng(device.as_raw_fd()) }?;
    Ok(())
}
