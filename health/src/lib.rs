//! What makes a version healthy, and what was found: the two things about health
//! that more than one program must understand in the same way.
//!
//! | Module | Holds | Used by |
//! |---|---|---|
//! | [`settings`] | `[health]` of the configuration, with its checks | op-dbus-agent, which checks; op-dbus-stage and op-dbus-generator, which tell of mistakes |
//! | [`subject`] | what a check looks at, as text becomes it | the above |
//! | [`verdict`] | `/run/op-dbus/health.json` | op-dbus-agent writes it, op-dbus-stage acts on it |
//!
//! How a check is done is the agent's matter.

pub mod settings;
pub mod subject;
pub mod verdict;
