//! Names of files, which may be any bytes, for people and as JSON.

use std::fmt::Write as _;

use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// A path as one line of plain text, from which the bytes can be told: a
/// backslash is `\\`, and what is not printable UTF-8 is `\n`, `\t` or `\xNN`.
pub(crate) fn shown(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                _ if is_plain(letter) => text.push(letter),
                _ => {
                    let mut bytes = [0; 4];
                    escape(letter.encode_utf8(&mut bytes).as_bytes(), &mut text);
                }
            }
        }
        escape(chunk.invalid(), &mut text);
    }
    text
}

/// Neither a control character nor one that turns, joins or hides its neighbours.
fn is_plain(letter: char) -> bool {
    letter == ' ' || letter.is_ascii_graphic() || {
        !letter.is_ascii() && letter.escape_debug().count() == 1
    }
}

fn escape(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// A path in a JSON object: as `path`, and where that is not UTF-8 its bytes as
/// `path_hex` besides; `path` then has U+FFFD in the place of what is not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JsonPath(pub(crate) Vec<u8>);

impl Serialize for JsonPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", &String::from_utf8_lossy(&self.0))?;
        if std::str::from_utf8(&self.0).is_err() {
            let mut hex = String::with_capacity(self.0.len() * 2);
            for byte in &self.0 {
                let _ = write!(hex, "{byte:02x}");
            }
            map.serialize_entry("path_hex", &hex)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_line_of_plain_text() {
        for (path, text) in [
            (&b"etc/app.conf"[..], "etc/app.conf"),
            (b"a b/\"c\"'d'", "a b/\"c\"'d'"),
            ("k\u{fc}che".as_bytes(), "k\u{fc}che"),
            (b"a\nb\tc\\d", "a\\nb\\tc\\\\d"),
            (b"\x1b[31mred", "\\x1b[31mred"),
            (b"caf\xe9", "caf\\xe9"),
            // Would show what follows from right to left.
            ("a\u{202e}b".as_bytes(), "a\\xe2\\x80\\xaeb"),
            ("a\u{200b}b".as_bytes(), "a\\xe2\\x80\\x8bb"),
        ] {
            assert_eq!(shown(path), text);
        }
    }

    #[test]
    fn json_has_the_bytes_where_text_has_not() {
        let json = |path: &[u8]| serde_json::to_string(&JsonPath(path.to_owned())).unwrap();
        assert_eq!(json(b"a\nb"), r#"{"path":"a\nb"}"#);
        assert_eq!(
            json(b"a\xff"),
            "{\"path\":\"a\u{fffd}\",\"path_hex\":\"61ff\"}"
        );
    }

    proptest! {
        #[test]
        fn no_two_paths_look_the_same(one: Vec<u8>, other: Vec<u8>) {
            prop_assert_eq!(shown(&one) == shown(&other), one == other);
            prop_assert!(!shown(&one).contains(char::is_control));
        }
    }
}
