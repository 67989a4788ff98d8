//! Early-boot activation of op-dbus deployments, and what the other programs
//! share with it: where things are, how the configuration reads, how the boot
//! record is kept on the medium, and what this boot has activated.
//!
//! | Module | Holds |
//! |---|---|
//! | [`config`] | `/etc/op-dbus/deploy.toml` |
//! | [`layout`] | every path, as functions of the store, `/run` and the host's root |
//! | [`records`] | the three copies of the boot record as files |
//! | [`lock`] | the store's lock |
//! | [`activation`] | `/run/op-dbus/activation.json` |
//! | [`identity`] | whether a deployment is what was published |
//! | [`history`] | a boot record from the audit log, when all copies are lost |
//! | [`boot`] | the boot role: from the configuration to a mounted version |
//! | [`choose`] | asking and trying until a candidate is activated |
//! | [`device`], [`session`] | the store's device, and its mount |
//! | [`mount`], [`overlay`] | detached trees, and the overlay over a version |
//! | [`store_rw`] | the store-rw role: undoes `ro` in fstab for the store |
//! | [`links`] | the links role: links from the host into the version |
//! | [`kmsg`] | the kernel log as log backend |
//! | [`start`] | what comes before `main` |

pub mod activation;
pub mod boot;
pub mod choose;
pub mod cli;
pub mod config;
pub mod device;
#[cfg(test)]
mod example;
pub mod files;
pub mod history;
pub mod identity;
pub mod kmsg;
pub mod layout;
pub mod links;
pub mod lock;
pub mod mount;
pub mod overlay;
pub mod records;
pub mod reserve;
pub mod session;
pub mod start;
pub mod steps;
pub mod store_rw;
