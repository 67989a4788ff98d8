//! Why did we boot? How the boots before this one ended, for the audit log.
//!
//! | Module | Does |
//! |---|---|
//! | [`mark`] | what each boot says of itself in the store |
//! | [`pstore`] | the last words of kernels that panicked |
//! | [`watchdog`] | whether a watchdog reset the machine |
//! | [`weigh`] | which of that belongs to which boot; pure |
//! | [`console`] | keeps a panicked boot's last words beside the log |
//! | [`report`] | all of it, in an order that a power cut can't confuse |
//!
//! The decision on one boot is [`op_dbus_bootstate::ending`]'s.

pub(crate) mod console;
pub(crate) mod mark;
pub(crate) mod pstore;
pub(crate) mod report;
pub(crate) mod watchdog;
pub(crate) mod weigh;
