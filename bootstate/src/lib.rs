//! What an op-dbus device decides at boot, and how it remembers it.
//!
//! Nothing in this crate performs I/O: the [`Record`] is plain data, every
//! decision and transition is a pure function from one record to the next, and
//! the redundant [`store`] reaches its medium through the [`store::Storage`]
//! trait. The early-boot activator, the CLI, the agent and every test therefore
//! run the same code.
//!
//! | Module | Holds |
//! |---|---|
//! | [`version`], [`ident`] | names and identities: versions, digests, UUIDs |
//! | [`record`] | the boot record |
//! | [`codec`] | the record as one CRC-protected 4 KiB block |
//! | [`store`] | two copies of that block, and the one kept since the last bless |
//! | [`select`] | which deployment a boot activates |
//! | [`transition`] | stage, cancel, bless, condemn, rollback, refund |
//! | [`quarantine`] | digests that must not be activated again |
//! | [`cmdline`] | the operator's word on the kernel command line |
//! | [`audit`] | the hash-chained log of what happened |
//! | [`ending`] | how a boot came to its end |
//! | [`rebuild`] | a record from what is left when every copy is lost |
//! | [`receipt`] | what is kept beside each published deployment |
//! | [`retention`] | which versions may be deleted |

pub mod audit;
pub mod cmdline;
pub mod codec;
pub mod ending;
pub mod ident;
pub mod quarantine;
pub mod rebuild;
pub mod receipt;
pub mod record;
pub mod retention;
pub mod select;
pub mod store;
pub mod transition;
pub mod version;

pub use ident::{BootId, Digest, Identity, Uuid};
pub use record::{Deployment, Record, Slot, Trial};
pub use version::Version;
