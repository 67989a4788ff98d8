//! `op-dbus-agent`: takes up what the active version brings, and judges whether
//! it works.
//!
//! | Module | Does |
//! |---|---|
//! | [`health`] | judges the health of what runs |
//! | [`import`] | takes up what the version brings beside units |
//! | [`child`] | runs an executable within limits, and ends all it started |
//! | [`reboot`] | reboots, once nobody inhibits it or the limit is up |
//! | [`folder`] | the executables of a folder, those that may be run |
//! | [`service`] | `org.opdbus.Deploy1`, the D-Bus interface |
//! | [`notify`] | tells hooks what the audit log has to say |
//! | [`place`] | where all of them look |

pub mod child;
pub mod folder;
pub mod health;
pub mod import;
pub mod notify;
pub mod place;
pub mod reboot;
pub mod service;
