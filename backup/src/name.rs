//! Names of members.

use crate::error::{BackupError, Result};

/// The first member.
pub const INFO: &str = "BACKUP.json";
/// The last member.
pub const SUMS: &str = "SHA256SUMS";
/// Longest name: what a tar header takes, with its NUL.
pub(crate) const NAME_MAX: usize = 99;
/// Digits of a piece's number.
const DIGITS: usize = 6;
/// Directories whose members are pieces of streams.
const STREAMS: [&str; 2] = ["overlays/", "shared/"];

/// Whether a name is relative, plain at every step, and short.
pub fn is_plain(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    name.len() <= NAME_MAX
        && name
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_letter))
}

/// Whether a name comes after another: step by step, so that `v1.0.0.old` and all
/// that is in it comes after `v1.0.0`.
pub(crate) fn follows(name: &str, before: &str) -> bool {
    name.split('/').gt(before.split('/'))
}

/// What a member is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file of its own.
    File,
    /// A piece of a stream: the stream's name, and the piece's number.
    Piece(String, u32),
    /// The sums.
    Sums,
}

/// What a name says.
pub(crate) fn kind(name: &str) -> Result<Kind> {
    let refuse = |why| {
        let name: String = name.chars().take(NAME_MAX).collect();
        Err(BackupError::damaged(format!("member {name:?}: {why}")))
    };
    if !is_plain(name) {
        return refuse("its name is not plain");
    }
    if name == SUMS {
        return Ok(Kind::Sums);
    }
    if !STREAMS.iter().any(|dir| name.starts_with(dir)) {
        return Ok(Kind::File);
    }
    let piece = name.rsplit_once('/').filter(|(stream, number)| {
        stream.split('/').count() == 2
            && number.len() == DIGITS
            && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    match piece.and_then(|(stream, number)| Some((stream, number.parse().ok()?))) {
        Some((stream, number)) => Ok(Kind::Piece(stream.to_owned(), number)),
        None => refuse("is no piece of a stream"),
    }
}

/// The name of a stream's piece.
pub(crate) fn piece(stream: &str, number: u32) -> String {
    format!("{stream}/{number:0DIGITS$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_not_plain() {
        for name in [
            "", "/", "/etc", "a//b", "a/", ".", "..", "a/..", "../a", "a/./b", ".hidden", "a\\b",
            "a b", "a\nb", "a\0b", "é", "-/\u{7f}",
        ] {
            assert!(!is_plain(name), "{name:?}");
        }
        assert!(!is_plain(&"a".repeat(100)));
        for name in ["a", "device/boot/record.0", "overlays/v1.0.0+x.old/000000"] {
            assert!(is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn directories_are_in_the_order_of_their_names() {
        assert!(follows("overlays/v1.old/0", "overlays/v1/0"));
        assert!(follows("overlays/v1/1", "overlays/v1/0"));
        assert!(follows("a", ""));
        assert!(!follows("a", "a") && !follows("a", "b"));
    }

    #[test]
    fn pieces_know_their_stream() {
        let piece_of = |name: &str| kind(name).unwrap();
        assert_eq!(
            piece_of("overlays/v1.0.0/000012"),
            Kind::Piece("overlays/v1.0.0".to_owned(), 12)
        );
        assert_eq!(piece("overlays/v1.0.0", 12), "overlays/v1.0.0/000012");
        assert_eq!(piece_of(SUMS), Kind::Sums);
        assert_eq!(piece_of("device/000000"), Kind::File);
        for name in [
            "overlays/000000",
            "overlays/a/b/000000",
            "overlays/a/00000",
            "overlays/a/0000000",
            "overlays/a/+00001",
            "shared/a",
        ] {
            assert!(kind(name).is_err(), "{name}");
        }
    }
}
