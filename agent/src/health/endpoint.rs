//! Whether something accepts connections. What it says is not listened to.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use op_dbus_health::subject::Endpoint;

use super::judge::Finding;

/// A connection to the first address that accepts one, within `limit`. The error
/// is in words.
pub(super) fn connect(endpoint: &Endpoint, limit: Duration) -> Result<TcpStream, String> {
    let end = Instant::now() + limit;
    let mut why = "no address".to_owned();
    for address in &endpoint.addresses {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("no answer within {} s", limit.as_secs()));
        }
        match TcpStream::connect_timeout(address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                why = format!("no answer within {} s", limit.as_secs());
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                why = "connection refused; nothing listens there".to_owned();
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

/// Whether a TCP endpoint accepts a connection within `limit`.
pub fn tcp(endpoint: &Endpoint, limit: Duration) -> Finding {
    match connect(endpoint, limit) {
        Ok(_) => Finding::well(),
        Err(why) => Finding::NotYet(why),
    }
}
