//! Receives a stream with everything allowed: `apply STREAM AREA NAME [PARENT]`.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::AsFd as _;

use op_dbus_sendstream::{Destination, Incoming, Policy};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (stream, area, name, parent) = match args.as_slice() {
        [stream, area, name] => (stream, area, name, None),
        [stream, area, name, parent] => (stream, area, name, Some(parent)),
        _ => return Err("usage: apply STREAM AREA NAME [PARENT]".into()),
    };
    let area = op_dbus_btrfs::open_dir(area.as_ref())?;
    let parent = parent
        .map(|parent| op_dbus_btrfs::open_dir(parent.as_ref()))
        .transpose()?;
    let source = BufReader::with_capacity(256 * 1024, File::open(stream)?);
    let incoming = Incoming::open(source, &Policy::everything())?;
    let summary = incoming.apply(&Destination {
        area: area.as_fd(),
        name,
        parent: parent.as_ref().map(|parent| parent.as_fd()),
    })?;
    println!("{summary:?}");
    Ok(())
}
