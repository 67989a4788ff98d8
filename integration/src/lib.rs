//! What a version brings into the host: units and their drop-ins, D-Bus policy
//! and activation files, tmpfiles and sysusers lines.
//!
//! A version is signed, and its services run as root: none of this guards
//! against malice. It guards the host against a *broken* version, which must not
//! take the bus or the host's own services down, and which must be gone without
//! a trace once another one is selected.
//!
//! | Module | Holds |
//! |---|---|
//! | [`tree`] | bounded reading of a version's tree, following no links |
//! | [`units`], [`dropins`] | the units of a version; the generator publishes them |
//! | [`tmpfiles`], [`sysusers`] | the lines that systemd's programs get to see; pure |
//! | [`policy`], [`service`] | the D-Bus files that dbus-daemon gets to see; pure |
//! | `lines` | what the two have in common |
//! | [`words`] | what a name of a user, a unit or a bus may look like; pure |
//! | [`import`] | all but units, made anew below `/run` at every boot |
//! | [`report`] | `/run/op-dbus/import.json`: what was refused, and why |

pub mod dropins;
pub mod import;
mod lines;
pub mod policy;
pub mod report;
pub mod service;
pub mod sysusers;
pub mod tmpfiles;
pub mod tree;
pub mod units;
pub mod words;
