//! `op-dbus-agent`: takes up what the active version brings, and judges whether
//! it works.
//!
//! | Module | Does |
//! |---|---|
//! | [`judge`] | turns rounds of observations into a verdict; pure |
//! | [`watch`] | takes the rounds, bounded in time whatever the bus does |
//! | [`bus`] | observes units and bus names over the system bus |
//! | [`import`] | takes up what the version brings beside units |
//! | [`child`] | runs an executable within limits, and ends all it started |
//! | [`reboot`] | reboots, once nobody inhibits it or the limit is up |
//! | [`report`] | says the verdict, for people and for programs |

pub mod bus;
pub mod child;
pub mod import;
pub mod judge;
pub mod reboot;
pub mod report;
pub mod watch;
