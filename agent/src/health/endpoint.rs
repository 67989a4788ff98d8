//! Whether something accepts connections. What it says is not listened to.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use op_dbus_health::subject::Endpoint;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::judge::Finding;

const REFUSED: &str = "connection refused; nothing listens there";

/// A connection to the first address that accepts one, within `limit`. The error
/// is in words.
pub(super) fn reach(endpoint: &Endpoint, limit: Duration) -> Result<TcpStream, String> {
    let end = Instant::now() + limit;
    let late = || format!("no answer within {} s", limit.as_secs());
    let mut why = late();
    for address in &endpoint.addresses {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        match TcpStream::connect_timeout(address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                why = match error.kind() {
                    ErrorKind::TimedOut => late(),
                    ErrorKind::ConnectionRefused => REFUSED.to_owned(),
                    _ => error.to_string(),
                }
            }
        }
    }
    Err(why)
}

/// Whether a TCP endpoint accepts a connection within `limit`.
pub fn tcp(endpoint: &Endpoint, limit: Duration) -> Finding {
    match reach(endpoint, limit) {
        Ok(_) => Finding::well(),
        Err(why) => Finding::NotYet(why),
    }
}

/// Whether a socket in the file system accepts a connection. Never waits: a
/// listener whose queue is full does not get on with its work.
pub fn unix(path: &Path) -> Finding {
    match try_unix(path) {
        Ok(()) => Finding::well(),
        Err(Errno::NOENT) => Finding::NotYet("is not there; does the service run?".to_owned()),
        Err(Errno::CONNREFUSED) => Finding::NotYet(REFUSED.to_owned()),
        Err(Errno::AGAIN) => {
            Finding::NotYet("its queue is full: nobody accepts connections".to_owned())
        }
        Err(why) => Finding::NotYet(io::Error::from(why).to_string()),
    }
}

fn try_unix(path: &Path) -> Result<(), Errno> {
    let address = SocketAddrUnix::new(path)?;
    let attempt = |kind| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
        connect(&socket, &address)
    };
    let kinds = [SocketType::STREAM, SocketType::SEQPACKET, SocketType::DGRAM];
    let mut found = Err(Errno::PROTOTYPE);
    for kind in kinds {
        found = attempt(kind);
        // Of another kind: see unix(7).
        if found != Err(Errno::PROTOTYPE) {
            return found;
        }
    }
    found
}
