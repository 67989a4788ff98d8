//! Mutation controls: every step that makes something durable, or checks it, is
//! taken out in turn, and some test must fail. A step whose removal fails no
//! test is either not needed or not tested; both are findings.
//!
//! The steps are picked by hand, in the tables of `tests/mutants/table`: which
//! text goes, what takes its place, and which test is to notice. They are
//! applied to a copy of the tree with a build directory of its own.
//! `docs/mutants.md` is written from the same tables.

pub mod cli;
mod doc;
mod error;
mod killer;
mod report;
mod run;
mod table;
mod tree;

pub use doc::page;
pub use error::{Error, Result};
pub use table::{Mutant, Table};
