//! `op-dbus-agent`: takes up what the active version brings, and judges whether
//! it works.
//!
//! | Module | Does |
//! |---|---|
//! | [`health`] | judges the health of what runs |
//! | [`import`] | takes up what the version brings beside units |
//! | [`child`] | runs an executable within limits, and ends all it started |
//! | [`reboot`] | reboots, once nobody inhibits it or the limit is up |

pub mod child;
pub mod health;
pub mod import;
pub mod reboot;
