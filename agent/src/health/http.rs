//! Whether an HTTP server answers a GET as it should: one request, of whose
//! answer only the status line is read.
//!
//! Written out here: a client library brings redirects, pools, proxies, TLS and
//! a resolver, none of which a health check of a local service should depend on,
//! and each of which has limits of its own. What speaks TLS is asked by a command.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use op_dbus_health::subject::Url;

use super::endpoint;
use super::judge::Finding;

/// Longest status line, in bytes. It has a version, a number and a phrase.
const MAX_LINE: usize = 1024;

/// Asks once, within `limit`.
pub fn look(url: &Url, limit: Duration) -> Finding {
    match ask(url, limit) {
        Ok(status) if is_well(status, url.status) => Finding::well(),
        Ok(status) => Finding::NotYet(match url.status {
            Some(wanted) => format!("status {status} instead of {wanted}"),
            None => format!("status {status}"),
        }),
        Err(why) => Finding::NotYet(why),
    }
}

fn is_well(status: u16, wanted: Option<u16>) -> bool {
    wanted.map_or((200..300).contains(&status), |wanted| status == wanted)
}

fn ask(url: &Url, limit: Duration) -> Result<u16, String> {
    let end = Instant::now() + limit;
    let mut stream = endpoint::reach(&url.endpoint, limit)?;
    let words = |why: std::io::Error| match why.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("no answer within {} s", limit.as_secs())
        }
        _ => format!("connection broke: {why}"),
    };
    stream
        .set_write_timeout(Some(left(end)))
        .and_then(|()| stream.write_all(request(url).as_bytes()))
        .map_err(words)?;
    let line = status_line(&mut stream, end).map_err(words)?;
    parse(&line)
}

/// Never zero, which would mean "for ever".
fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

fn request(url: &Url) -> String {
    let Url {
        endpoint, target, ..
    } = url;
    format!(
        "GET {target} HTTP/1.1\r\nHost: {endpoint}\r\nUser-Agent: op-dbus-agent\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
}

/// Reads up to the first line's end. The limit is for all of it: who sends a
/// byte now and then is slow, too.
fn status_line(stream: &mut TcpStream, end: Instant) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut chunk = [0; 256];
    while line.len() < MAX_LINE && !line.contains(&b'\n') {
        if Instant::now() >= end {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left(end)))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => line.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(line)
}

/// The status of an answer that begins with `bytes` (RFC 9112, section 4). The
/// error is in words.
pub fn parse(bytes: &[u8]) -> Result<u16, String> {
    let no_http = || match bytes {
        [] => "the connection was closed without an answer".to_owned(),
        _ => "what answers speaks no HTTP".to_owned(),
    };
    let end = bytes.iter().position(|&byte| byte == b'\n');
    let line = end.and_then(|end| bytes.get(..end)).ok_or_else(no_http)?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let rest = line.strip_prefix(b"HTTP/1.").ok_or_else(no_http)?;
    match rest {
        [
            minor,
            b' ',
            a @ b'1'..=b'5',
            b @ b'0'..=b'9',
            c @ b'0'..=b'9',
            after @ ..,
        ] if minor.is_ascii_digit() && matches!(after, [] | [b' ', ..]) => {
            let digit = |byte: &u8| u16::from(byte - b'0');
            Ok(digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        _ => Err(no_http()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_read() {
        for (text, status) in [
            ("HTTP/1.1 200 OK\r\nX: y", 200),
            ("HTTP/1.0 204 \r\n", 204),
            ("HTTP/1.1 503\n", 503),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(status), "{text}");
        }
        for text in [
            "",
            "HTTP/1.1 200 OK",
            "HTTP/2 200 OK\r\n",
            "HTTP/1.1 2000 OK\r\n",
            "HTTP/1.1 20 OK\r\n",
            "HTTP/1.1 600 OK\r\n",
            "HTTP/1.1  200 OK\r\n",
            "HTTP/1.x 200 OK\r\n",
            "SSH-2.0-OpenSSH\r\n",
            "\r\nHTTP/1.1 200 OK\r\n",
            "\n",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn any_success_is_well_unless_one_is_named() {
        assert!(is_well(200, None) && is_well(299, None));
        assert!(!is_well(199, None) && !is_well(301, None) && !is_well(500, None));
        assert!(is_well(404, Some(404)) && !is_well(200, Some(204)));
    }
}
