//! usage: op-dbus-fuzz-seeds DIR
//! Writes what the fuzz targets begin with to `DIR/<target>/`: every kind of
//! command and every hostile stream of the tests, in their own words.

#[path = "../../../sendstream/tests/streams/build.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod build;

use std::path::Path;
use std::{fs, io};

fn write(dir: &Path, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let dir = dir.join(target);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(name), bytes)
}

fn main() -> io::Result<()> {
    let dir = std::env::args_os()
        .nth(1)
        .ok_or_else(|| io::Error::other("usage: op-dbus-fuzz-seeds DIR"))?;
    let dir = Path::new(&dir);
    for version in [1, 2] {
        let stream = build::rich(version);
        write(dir, "stream", &format!("rich-v{version}"), &stream.bytes)?;
    }
    let incremental = build::Stream::incremental().end();
    write(dir, "stream", "incremental", &incremental.bytes)
}
