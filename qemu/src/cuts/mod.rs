//! Power cuts at random moments of a device's life.
//!
//! A light guest goes round and round: boot, check, and then whatever a device
//! does (receive, stage, bless, roll back …), until its power is cut. The next
//! boot recovers from that cut, is checked, and is the next victim: one boot a
//! cut.
//!
//! *Where* a cut falls is a number of write requests, not a time: between two
//! requests the disk does not change, so that every moment there leaves the
//! same. A seed draws the number; when the log of requests has come so far, the
//! guest is stopped and killed, and what the log holds beyond it is dropped.
//! What the disk keeps of requests that no flush had made durable, the seed
//! decides as well ([`powercut`](crate::powercut)).
//!
//! *What must hold* afterwards: everything that was acknowledged before that
//! request, and of what was under way either all or nothing ([`facts`]).

mod disks;
pub mod facts;
mod life;
pub mod plan;
pub mod run;
pub mod seen;
pub mod state;
