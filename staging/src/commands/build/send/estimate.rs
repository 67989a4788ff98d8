//! How much a delta will bring, for the time that is left.

use std::io::{BufReader, Read as _};

use op_dbus_sendstream::walk::Walker;
use op_dbus_sendstream::wire::{Attr, Command};

use super::program::Program;
use crate::commands::build::area::Frozen;

/// Asks for the stream without its data, which takes but a moment: in the place
/// of content it says how long that is (`btrfs send --no-data`). None: it can't
/// be told, and the stream itself will say why.
pub(crate) fn content(program: &Program, version: &Frozen, parent: &Frozen) -> Option<u64> {
    let mut sending = program
        .send_without_data(&version.path, &parent.path)
        .ok()?;
    let mut walker = Walker::new(BufReader::new(sending.by_ref())).ok()?;
    let mut bytes: u64 = 0;
    loop {
        let frame = walker.next_frame().ok()?;
        match frame.parsed.command {
            Command::UpdateExtent => {
                bytes = bytes.saturating_add(frame.parsed.u64(Attr::Size).ok()?);
            }
            Command::End => return Some(bytes),
            _ => {}
        }
    }
}
