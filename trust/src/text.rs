//! Texts for messages, made of what others wrote.

use std::time::SystemTime;

/// Longest text taken from a certificate into a message, in characters.
const LONGEST: usize = 200;

/// A time as RFC 3339; its seconds where that can't be.
pub(crate) fn when(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(stamp) => stamp.to_string(),
        Err(_) => format!("{time:?}"),
    }
}

/// A text of others on one line, without control characters, and not longer
/// than a message bears.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect()
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    printable(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_time_is_in_utc() {
        let time = UNIX_EPOCH + Duration::from_secs(1_577_836_800);
        assert_eq!(when(time), "2020-01-01T00:00:00Z");
    }

    #[test]
    fn what_others_wrote_is_one_line() {
        assert_eq!(printable(b"a\nb\x1b[31m\xff"), "a b [31m\u{fffd}");
        assert_eq!(printable(&[b'x'; 1000]).len(), LONGEST);
    }
}
