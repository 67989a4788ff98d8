//! The guest's half of `op-dbus-vm`.
//!
//! One static program with two jobs. In a Debian guest it is a unit that reads
//! commands from a virtio-serial port (`serve`). In the *light* guest it is
//! PID 1 (`init`): it loads the kernel modules, runs the shipped early-boot
//! program and then serves the same channel.
//!
//! The host shares [`proto`] (what crosses the channel) and [`moment`] (the
//! named moments at which a program can be stopped).

pub mod channel;
pub mod entropy;
pub mod exec;
pub mod init;
pub mod keep;
pub mod listing;
pub mod moment;
pub mod power;
pub mod proto;
pub mod serve;
pub mod tracer;
