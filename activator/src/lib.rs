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

pub mod activation;
pub mod config;
pub mod files;
pub mod identity;
pub mod layout;
pub mod lock;
pub mod records;
