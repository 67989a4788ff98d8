//! The guest's end of the channel: a character device that carries lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::proto::{Event, Request};

/// An open channel.
#[derive(Debug)]
pub struct Channel {
    reader: BufReader<File>,
    writer: File,
}

impl Channel {
    /// Opens the device at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let name = |error: io::Error| {
            io::Error::new(error.kind(), format!("open {}: {error}", path.display()))
        };
        let writer = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(name)?;
        let reader = BufReader::new(writer.try_clone().map_err(name)?);
        Ok(Self { reader, writer })
    }

    /// Sends one event.
    pub fn send(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.writer.write_all(&line)
    }

    /// The next request; `None` when the host has gone. A line that is no
    /// request comes back as the sentence to answer with.
    pub fn receive(&mut self) -> io::Result<Option<Result<Request, String>>> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if !line.trim().is_empty() {
                break;
            }
        }
        Ok(Some(serde_json::from_str(&line).map_err(|error| {
            format!("not a request: {error}: {}", line.trim())
        })))
    }
}

/// Finds the device of the virtio-serial port called `name` without udev, from
/// `/sys/class/virtio-ports/<device>/name`.
pub fn find_port(sys: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(sys.join("class/virtio-ports"))? {
        let entry = entry?;
        let label = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if label.trim() == name {
            return Ok(Some(Path::new("/dev").join(entry.file_name())));
        }
    }
    Ok(None)
}
