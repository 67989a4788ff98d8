//! Builds test machines from real Debian, boots them under QEMU, and plays
//! upgrade scenarios on them.
//!
//! Two kinds of guest: **Debian** ([`debian`]), as a user would have it, and a
//! **light** one ([`light`]): the same kernel with only our programs, for the
//! many fault cases. [`guest::Guest`] is one boot of either.

pub mod bench;
pub mod cache;
pub mod catalogue;
pub mod chance;
pub mod cli;
pub mod cuts;
pub mod damage;
pub mod debian;
pub mod devices;
pub mod error;
pub mod expect;
pub mod explore;
pub mod faults;
pub mod guest;
pub mod hardware;
pub mod host;
pub mod initramfs;
pub mod light;
pub mod logwrites;
pub mod modules;
pub mod player;
pub mod powercut;
pub mod prepared;
pub mod programs;
pub mod qemu;
pub mod refusal;
pub mod release;
pub mod sandbox;
pub mod scenario;
pub mod suite;
pub mod template;
pub mod timeline;
pub mod tool;

pub use error::{Error, Result};
