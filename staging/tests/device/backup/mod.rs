//! Backups, and devices made anew from them.

mod create;
mod cut;
mod restore;
mod story;
mod trees;
