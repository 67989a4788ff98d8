//! `op-dbus-agent`: judges whether the active version works.
//!
//! | Module | Does |
//! |---|---|
//! | [`judge`] | turns rounds of observations into a verdict; pure |
//! | [`watch`] | takes the rounds, bounded in time whatever the bus does |
//! | [`bus`] | observes units and bus names over the system bus |
//! | [`report`] | says the verdict, for people and for programs |

pub mod bus;
pub mod judge;
pub mod report;
pub mod watch;
