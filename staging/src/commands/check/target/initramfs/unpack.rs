//! From an image's file to its archives, through whatever it is compressed with.
//!
//! Zstandard is understood here; for the other formats the program that made the
//! image is still installed, and unpacks it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cpio::{self, End, Until, Visitor};
use crate::limited;

/// Largest window of Zstandard that is accepted, as a power of two: what the
/// program makes without being asked for more (128 MiB).
const WINDOW_LOG: u32 = 27;
/// How long a decompressor may take to end once it has said everything.
const LAST: Duration = Duration::from_secs(2);

/// What a part of an image is compressed with (kernel, `lib/decompress.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Zstd,
    /// By a program, with its options.
    Program(&'static str, &'static [&'static str]),
}

const FORMATS: [(&[u8], Format); 7] = [
    (b"\x28\xb5\x2f\xfd", Format::Zstd),
    (b"\x1f\x8b", Format::Program("gzip", &["-dc"])),
    (
        b"\xfd7zXZ\0",
        Format::Program("xz", &["-dc", "--memlimit=256MiB"]),
    ),
    (
        b"\x5d\0\0",
        Format::Program("xz", &["-dc", "--format=lzma", "--memlimit=256MiB"]),
    ),
    (b"\x02\x21\x4c\x18", Format::Program("lz4", &["-dc"])),
    (b"\x89LZO\0\r\n\x1a\n", Format::Program("lzop", &["-dc"])),
    (b"BZh", Format::Program("bzip2", &["-dc"])),
];

/// Shows a visitor all entries of an image.
pub(super) fn read(
    mut image: File,
    visitor: &mut impl Visitor,
    deadline: Instant,
) -> io::Result<()> {
    let beginning = Until::new(&image, deadline);
    let at = match cpio::read(BufReader::new(beginning), visitor)? {
        End::Whole => return Ok(()),
        End::At(at) => at,
    };
    image.seek(SeekFrom::Start(at))?;
    let mut magic = Vec::new();
    (&image).take(16).read_to_end(&mut magic)?;
    image.seek(SeekFrom::Start(at))?;
    let known = FORMATS.iter().find(|(begin, _)| magic.starts_with(begin));
    let end = match known {
        Some((_, Format::Zstd)) => {
            let mut decoder = zstd::Decoder::new(Until::new(image, deadline))?;
            decoder.window_log_max(WINDOW_LOG)?;
            cpio::read(BufReader::new(decoder), visitor)?
        }
        Some((_, Format::Program(program, options))) => {
            by_program(program, options, image, visitor, deadline)?
        }
        None => {
            let why = "it holds neither an archive nor anything compressed that is known here";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
    };
    match end {
        End::Whole => Ok(()),
        End::At(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it holds something that is no archive",
        )),
    }
}

/// Lets a program unpack it, and makes sure that the program is content.
fn by_program(
    program: &str,
    options: &[&str],
    image: File,
    visitor: &mut impl Visitor,
    deadline: Instant,
) -> io::Result<End> {
    let child = Command::new(program)
        .args(options)
        .stdin(image)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|why| match why.kind() {
            io::ErrorKind::NotFound => io::Error::new(
                io::ErrorKind::Unsupported,
                format!("unpacking it takes {program}, which is not installed"),
            ),
            _ => why,
        })?;
    let mut running = Running(child);
    let Some(pipe) = running.0.stdout.take() else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let end = cpio::read(BufReader::new(Until::new(pipe, deadline)), visitor)?;
    match limited::wait(&mut running.0, LAST)? {
        Some(status) if status.success() => Ok(end),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{program} can't unpack it: it is damaged or cut short"),
        )),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Ends with us, however that comes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        limited::kill_group(&self.0);
        let _ = self.0.wait();
    }
}
