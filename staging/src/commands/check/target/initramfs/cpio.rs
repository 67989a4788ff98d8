//! What an initramfs holds: archives one after the other, as the kernel unpacks
//! them (kernel documentation, "initramfs buffer format"; `init/initramfs.c`).
//!
//! An image is any number of cpio archives ("newc"), with zero bytes in between.
//! dracut puts an uncompressed one with the processor's microcode first, and a
//! compressed one behind it. All of it is read, to the end: an image that was cut
//! short by a power cut shows only there.

use std::io::{self, BufRead, Read};

use op_dbus_bootstate::Digest;
use sha2::{Digest as _, Sha256};

/// Length of a header, in bytes.
const HEADER: usize = 110;
/// Longest path, in bytes, with the zero byte at its end (`PATH_MAX`).
const NAME_MAX: u32 = 4096;
/// Name of the entry an archive ends with.
const TRAILER: &[u8] = b"TRAILER!!!";
/// Most bytes an image may hold, unpacked.
const UNPACKED_MAX: u64 = 2 << 30;
/// Longest file whose content is kept, in bytes.
pub(super) const KEPT_MAX: usize = 64 * 1024;
/// Most entries.
const ENTRIES_MAX: u32 = 1 << 20;

/// What is done with an entry's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// Nothing.
    Pass,
    /// Its SHA-256 is wanted.
    Digest,
    /// Its bytes are wanted.
    Bytes,
}

/// What became of an entry's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Not looked at.
    Passed,
    /// Its SHA-256.
    Digest(Digest),
    /// Its bytes; none if it is longer than [`KEPT_MAX`].
    Bytes(Option<Vec<u8>>),
}

/// Who looks at the entries.
pub(super) trait Visitor {
    /// What to do with the content of a regular file, or of a link (whose content
    /// is its target). Paths have no leading slash.
    fn wants(&self, path: &[u8]) -> Take;
    /// An entry, in the order they are in. A later one replaces an earlier one.
    fn entry(&mut self, path: &[u8], content: Content);
}

/// Where the archives ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At the end of the stream.
    Whole,
    /// At something that is no archive, for example a compressed one.
    At(u64),
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut short")
}

/// A stream that knows how far it is.
struct Stream<R> {
    inner: R,
    at: u64,
}

impl<R: BufRead> Stream<R> {
    fn exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.inner
            .read_exact(buffer)
            .map_err(|why| match why.kind() {
                io::ErrorKind::UnexpectedEof => cut_short(),
                _ => why,
            })?;
        self.moved(buffer.len())
    }

    fn moved(&mut self, count: usize) -> io::Result<()> {
        self.at += u64::try_from(count).unwrap_or(u64::MAX);
        if self.at > UNPACKED_MAX {
            return Err(invalid("it holds more than 2 GiB"));
        }
        Ok(())
    }

    /// Hands so many bytes on, in pieces.
    fn feed(&mut self, mut count: u64, mut to: impl FnMut(&[u8])) -> io::Result<()> {
        while count > 0 {
            let ready = self.inner.fill_buf()?;
            let length = ready
                .len()
                .min(usize::try_from(count).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(cut_short());
            }
            to(ready.get(..length).unwrap_or_default());
            self.inner.consume(length);
            count -= u64::try_from(length).unwrap_or(count);
            self.moved(length)?;
        }
        Ok(())
    }

    fn align(&mut self) -> io::Result<()> {
        self.feed(self.at.wrapping_neg() % 4, |_| ())
    }

    /// Skips zero bytes; the first other one, if there is one.
    fn next(&mut self) -> io::Result<Option<u8>> {
        loop {
            let ready = self.inner.fill_buf()?;
            if ready.is_empty() {
                return Ok(None);
            }
            let zeros = ready.iter().take_while(|&&byte| byte == 0).count();
            let found = ready.get(zeros).copied();
            self.inner.consume(zeros);
            self.moved(zeros)?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
}

/// One header's numbers.
struct Header {
    inode: (u32, u32, u32),
    mode: u32,
    links: u32,
    size: u32,
    name: u32,
}

impl Header {
    /// Thirteen numbers of eight hexadecimal digits behind the magic.
    fn parse(bytes: &[u8; HEADER]) -> io::Result<Self> {
        let fail = || invalid("it holds something that is no archive entry");
        if !bytes.starts_with(b"070701") && !bytes.starts_with(b"070702") {
            return Err(fail());
        }
        let number = |index: usize| -> io::Result<u32> {
            let at = 6 + 8 * index;
            let digits = bytes.get(at..at + 8).ok_or_else(fail)?;
            let text = std::str::from_utf8(digits).map_err(|_| fail())?;
            if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(fail());
            }
            u32::from_str_radix(text, 16).map_err(|_| fail())
        };
        Ok(Self {
            inode: (number(7)?, number(8)?, number(0)?),
            mode: number(1)?,
            links: number(4)?,
            size: number(6)?,
            name: number(11)?,
        })
    }

    fn is_regular(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}

/// Reads archives until the end, or something else, comes.
pub(super) fn read(input: impl BufRead, visitor: &mut impl Visitor) -> io::Result<End> {
    let mut stream = Stream {
        inner: input,
        at: 0,
    };
    let mut is_open = false;
    // Names of a hard-linked file that came without the content, which is with the last.
    let mut waiting: Vec<((u32, u32, u32), Vec<u8>)> = Vec::new();
    for _ in 0..ENTRIES_MAX {
        let next = stream.next()?;
        match next {
            None if is_open => return Err(cut_short()),
            None => return Ok(End::Whole),
            Some(b'0') if stream.at % 4 == 0 => {}
            Some(_) if is_open => {
                return Err(invalid("it holds something that is no archive entry"));
            }
            Some(_) => return Ok(End::At(stream.at)),
        }
        let mut bytes = [0; HEADER];
        stream.exact(&mut bytes)?;
        let header = Header::parse(&bytes)?;
        is_open = true;
        if !(1..=NAME_MAX).contains(&header.name) {
            return Err(invalid("it holds a path of an impossible length"));
        }
        let mut name = vec![0; usize::try_from(header.name).unwrap_or(0)];
        stream.exact(&mut name)?;
        stream.align()?;
        name.pop();
        let path = name.strip_prefix(b"./").unwrap_or(&name);
        let path = path.strip_prefix(b"/").unwrap_or(path);
        if path == TRAILER {
            is_open = false;
            waiting.clear();
            continue;
        }
        let take = visitor.wants(path);
        let is_linked = header.is_regular() && header.links > 1;
        if is_linked && header.size == 0 && take != Take::Pass {
            waiting.push((header.inode, path.to_owned()));
        }
        let awaited: Vec<Vec<u8>> = waiting
            .iter()
            .filter(|(inode, _)| is_linked && header.size > 0 && *inode == header.inode)
            .map(|(_, path)| path.clone())
            .collect();
        // Both are taken where another name waits for it.
        let both = !awaited.is_empty();
        let (digest, kept) = content(&mut stream, header.size, take, both)?;
        stream.align()?;
        for path in awaited.iter().map(Vec::as_slice).chain([path]) {
            visitor.entry(
                path,
                match visitor.wants(path) {
                    Take::Pass => Content::Passed,
                    Take::Digest => Content::Digest(digest),
                    Take::Bytes => Content::Bytes(kept.clone()),
                },
            );
        }
    }
    Err(invalid("it holds too many entries"))
}

/// Reads an entry's content.
fn content(
    stream: &mut Stream<impl BufRead>,
    size: u32,
    take: Take,
    both: bool,
) -> io::Result<(Digest, Option<Vec<u8>>)> {
    let mut hasher = Sha256::new();
    let mut bytes = Vec::new();
    let length = usize::try_from(size).unwrap_or(usize::MAX);
    stream.feed(size.into(), |piece| {
        if take == Take::Digest || both {
            hasher.update(piece);
        }
        if (take == Take::Bytes || both) && length <= KEPT_MAX {
            bytes.extend_from_slice(piece);
        }
    })?;
    let kept = (length <= KEPT_MAX).then_some(bytes);
    Ok((Digest(hasher.finalize().into()), kept))
}

/// A reader that fails once a time has passed.
pub(super) struct Until<R> {
    inner: R,
    deadline: std::time::Instant,
}

impl<R: Read> Until<R> {
    pub(super) fn new(inner: R, deadline: std::time::Instant) -> Self {
        Self { inner, deadline }
    }
}

impl<R: Read> Read for Until<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if std::time::Instant::now() > self.deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "reading it takes too long",
            ));
        }
        self.inner.read(buffer)
    }
}

#[cfg(test)]
pub(super) mod testing {
    /// An entry of an archive.
    pub(crate) fn entry(name: &str, mode: u32, ino: u32, links: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = format!(
            "070701{ino:08X}{mode:08X}{:08X}{:08X}{links:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}",
            0, 0, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0
        )
        .into_bytes();
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A regular file.
    pub(crate) fn file(name: &str, content: &[u8]) -> Vec<u8> {
        entry(name, 0o100_644, 1, 1, content)
    }

    /// The end of an archive, with dracut's padding.
    pub(crate) fn trailer() -> Vec<u8> {
        let mut bytes = entry("TRAILER!!!", 0, 0, 1, b"");
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{entry, file, trailer};
    use super::*;

    #[derive(Default)]
    struct All(Vec<(String, Content)>);

    impl Visitor for All {
        fn wants(&self, path: &[u8]) -> Take {
            match path {
                b"hash" => Take::Digest,
                b"keep" | b"first" | b"second" => Take::Bytes,
                _ => Take::Pass,
            }
        }

        fn entry(&mut self, path: &[u8], content: Content) {
            let path = String::from_utf8_lossy(path).into_owned();
            self.0.push((path, content));
        }
    }

    fn look(bytes: &[u8]) -> (io::Result<End>, Vec<(String, Content)>) {
        let mut all = All::default();
        let end = read(bytes, &mut all);
        (end, all.0)
    }

    #[test]
    fn archives_follow_one_another() {
        let mut image = [file("./early", b"x"), trailer()].concat();
        image.extend([0; 512]);
        image.extend([file("hash", b"abc"), file("keep", b"12345"), trailer()].concat());
        let (end, found) = look(&image);
        assert_eq!(end.unwrap(), End::Whole);
        assert_eq!(found[0], ("early".to_owned(), Content::Passed));
        let Content::Digest(digest) = &found[1].1 else {
            panic!("{found:?}")
        };
        assert!(digest.to_string().contains("ba7816bf"), "{digest}");
        assert_eq!(found[2].1, Content::Bytes(Some(b"12345".to_vec())));

        let at = image.len();
        image.extend(b"\x28\xb5\x2f\xfd and more");
        assert_eq!(look(&image).0.unwrap(), End::At(at as u64));
    }

    #[test]
    fn a_hard_link_s_content_is_with_its_last_name() {
        let image = [
            entry("first", 0o100_644, 7, 3, b""),
            entry("other", 0o100_644, 8, 2, b"not this"),
            entry("second", 0o100_644, 7, 3, b""),
            entry("third", 0o100_644, 7, 3, b"shared"),
            trailer(),
        ]
        .concat();
        let (end, found) = look(&image);
        assert_eq!(end.unwrap(), End::Whole);
        for name in ["first", "second"] {
            let last = found.iter().rev().find(|(path, _)| path == name).unwrap();
            assert_eq!(last.1, Content::Bytes(Some(b"shared".to_vec())), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_read_makes_it_panic(
            at in 0..600_usize,
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
        ) {
            let mut image = [file("keep", b"12345"), file("hash", b"1"), trailer()].concat();
            for (to, from) in image.iter_mut().skip(at).zip(&bytes) {
                *to = *from;
            }
            let _ = look(&image);
            let _ = look(&bytes);
        }
    }

    #[test]
    fn what_is_cut_short_or_no_archive_is_an_error() {
        let image = [file("keep", b"12345"), file("more", b"1"), trailer()].concat();
        let end = image.len() - 400;
        for length in 1..end {
            let (found, _) = look(&image[..length]);
            if length < 400 {
                assert!(found.is_err(), "{length}: {found:?}");
            }
        }
        let mut broken = image.clone();
        broken[20] = b'x';
        assert!(look(&broken).0.is_err());
        let mut long = image.clone();
        long[94..102].copy_from_slice(b"FFFFFFFF");
        assert!(
            look(&long)
                .0
                .unwrap_err()
                .to_string()
                .contains("impossible")
        );
        let mut huge = image;
        huge[54..62].copy_from_slice(b"FFFFFFF0");
        assert!(look(&huge).0.unwrap_err().to_string().contains("cut short"));
        assert_eq!(look(b"").0.unwrap(), End::Whole);
        assert_eq!(look(b"hello").0.unwrap(), End::At(0));
    }
}
