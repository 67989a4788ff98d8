//! Tar headers (POSIX.1-1988 ustar): of regular files of root, and no others.
//!
//! A header is wholly determined by name and size, so reading one is writing it
//! again and comparing.

use crate::error::{BackupError, Result};

/// Everything in a tar is a multiple of this long.
pub(crate) const BLOCK: usize = 512;
/// Largest member: eleven octal digits.
pub(crate) const SIZE_MAX: u64 = (1 << 33) - 1;

/// Bytes that fill a member's last block.
pub(crate) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

/// Fills fields of a header one after the other.
struct Fields<'h> {
    rest: &'h mut [u8],
}

impl Fields<'_> {
    /// The next `width` bytes: this text, then zeros.
    fn put(&mut self, width: usize, text: &[u8]) {
        let rest = std::mem::take(&mut self.rest);
        if let Some((field, rest)) = rest.split_at_mut_checked(width) {
            for (to, from) in field.iter_mut().zip(text) {
                *to = *from;
            }
            self.rest = rest;
        }
    }
}

/// The header of a member. The caller has seen to name and size.
pub(crate) fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let blank = assemble(name, size, b"        ");
    let sum: u32 = blank.iter().map(|&byte| u32::from(byte)).sum();
    assemble(name, size, format!("{sum:06o}\0 ").as_bytes())
}

fn assemble(name: &str, size: u64, sum: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut fields = Fields { rest: &mut block };
    fields.put(100, name.as_bytes());
    fields.put(8, b"0000600");
    // Owner and group, then size and time.
    fields.put(8, b"0000000");
    fields.put(8, b"0000000");
    fields.put(12, format!("{size:011o}").as_bytes());
    fields.put(12, b"00000000000");
    fields.put(8, sum);
    // A regular file, and no link's target.
    fields.put(1, b"0");
    fields.put(100, b"");
    fields.put(8, b"ustar\x0000");
    fields.put(32, b"root");
    fields.put(32, b"root");
    fields.put(8, b"0000000");
    fields.put(8, b"0000000");
    block
}

/// Name and size of the member a header begins; none for the block that ends a tar.
pub(crate) fn parse(block: &[u8; BLOCK]) -> Result<Option<(String, u64)>> {
    if block.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let text = |from: usize, to: usize| {
        let field = block.get(from..to).unwrap_or_default();
        let end = field.iter().position(|&byte| byte == 0);
        let field = field.get(..end.unwrap_or(field.len())).unwrap_or_default();
        std::str::from_utf8(field).unwrap_or_default()
    };
    let name = text(0, 100);
    let size = u64::from_str_radix(text(124, 136), 8).unwrap_or_default();
    if size > SIZE_MAX || header(name, size) != *block {
        return Err(BackupError::damaged(
            "a tar header is not one that a backup has",
        ));
    }
    Ok(Some((name.to_owned(), size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_in_no_other_form() {
        for (name, size) in [("a", 0), ("device/x", 511), ("b", SIZE_MAX)] {
            let block = header(name, size);
            assert_eq!(parse(&block).unwrap(), Some((name.to_owned(), size)));
            for bit in 0..BLOCK * 8 {
                let mut changed = block;
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(parse(&changed).is_err(), "{name} bit {bit}");
            }
        }
        assert_eq!(parse(&[0; BLOCK]).unwrap(), None);
    }

    #[test]
    fn blocks_are_filled() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }
}
