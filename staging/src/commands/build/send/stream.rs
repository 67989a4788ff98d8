//! One stream: from `btrfs send`, through what a device would check, into a file.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write};

use op_dbus_bootstate::Uuid;
use op_dbus_release::chunks::{self, Written};
use op_dbus_release::manifest;
use op_dbus_sendstream::{Policy, Problem, StreamError, Summary, vet_into};
use zstd::zstd_safe::CParameter;

use super::program::Program;
use crate::cli::build::Compression;
use crate::commands::build::area::Frozen;
use crate::commands::build::output::Pending;
use crate::error::{Exit, Failure, Result};
use crate::progress::Meter;

/// How far zstd may look back, as a power of two: what devices give room for.
const WINDOW_LOG: u32 = 23;
/// What one core compresses at a time, in bytes. By itself zstd takes four
/// windows: small releases would then be one core's work, and the end of a large
/// one would come long after the last byte went in.
const JOB: u32 = 8 << 20;
/// Room for commands on their way, in bytes.
const BUFFER: usize = 256 * 1024;

/// How files are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// Compressed, and how.
    pub(crate) compression: Compression,
    /// Effort of compression.
    pub(crate) level: i32,
    /// Length of the manifest's chunks, in bytes.
    pub(crate) chunk_size: u32,
}

/// A stream to make.
#[derive(Debug)]
pub(crate) struct Job<'j> {
    /// What is sent.
    pub(crate) version: &'j Frozen,
    /// What it builds on, with its content digest.
    pub(crate) parent: Option<(&'j Frozen, op_dbus_bootstate::Digest)>,
    /// The file.
    pub(crate) file: &'j Pending,
}

/// Makes a stream, and returns what the manifest says of it.
pub(crate) fn make(
    program: &Program,
    job: &Job<'_>,
    policy: &Policy,
    form: Form,
    meter: &Meter,
) -> Result<manifest::Stream> {
    let name = job.file.name();
    let fail = |why| Failure::io(format_args!("{name}: write"), why);
    let mut sink = Sink::new(job.file.writer().map_err(fail)?, form).map_err(fail)?;
    let parent = job.parent.as_ref().map(|(parent, _)| parent.path.as_path());
    let mut sending = program.send(&job.version.path, parent)?;
    let source = BufReader::with_capacity(BUFFER, sending.by_ref());
    let vetted = vet_into(source, policy, |part| {
        meter.add(part.len() as u64);
        sink.write_all(part)
    });
    let summary = match vetted {
        // What the program has to complain of is why its stream ends so early.
        Err(why) if matches!(why.problem, Problem::Truncated | Problem::Magic) => {
            sending.finish()?;
            return Err(refused(name, &why));
        }
        Err(why) => return Err(refused(name, &why)),
        Ok(summary) => summary,
    };
    sending.finish()?;
    let written = sink.finish().map_err(fail)?;
    describe(job, &summary, written, form)
}

/// What the manifest says: what the stream itself says, held against what the
/// kernel says of the subvolumes.
fn describe(
    job: &Job<'_>,
    summary: &Summary,
    written: Written,
    form: Form,
) -> Result<manifest::Stream> {
    let expected = job.parent.as_ref().map(|(parent, _)| parent.sent_uuid());
    let found = summary.parent.as_ref().map(|parent| Uuid(parent.uuid));
    if Uuid(summary.uuid) != job.version.sent_uuid() || found != expected {
        return Err(Failure::new(
            Exit::Verification,
            job.file.name(),
            "the stream is not about the subvolumes it was asked for",
            "make sure that nothing changes them meanwhile and run the command again",
        ));
    }
    let parent = job.parent.as_ref().zip(found);
    Ok(manifest::Stream {
        file: job.file.name().to_owned(),
        size: written.size,
        sha256: written.sha256,
        chunks: written.chunks,
        compression: match form.compression {
            Compression::Zstd => manifest::Compression::Zstd,
            Compression::None => manifest::Compression::None,
        },
        stream_bytes: summary.bytes,
        content_bytes: summary.content,
        uuid: Uuid(summary.uuid),
        parent: parent.map(|((parent, digest), uuid)| manifest::Parent {
            version: parent.version.clone(),
            uuid,
            digest: *digest,
        }),
    })
}

fn refused(name: &str, why: &StreamError) -> Failure {
    match why.as_io() {
        Some(error) => {
            let error = error
                .raw_os_error()
                .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            Failure::io(format_args!("{name}: write"), error)
        }
        None => Failure::new(
            Exit::Verification,
            name,
            why,
            "no device would take it; correct the tree and make a new version",
        ),
    }
}

/// A stream's file name; the suffix says how it is compressed.
pub(crate) fn file_name(version: &str, parent: Option<&str>, compression: Compression) -> String {
    let suffix = match compression {
        Compression::Zstd => "btrfs.zst",
        Compression::None => "btrfs",
    };
    match parent {
        Some(parent) => format!("{version}.from-{parent}.{suffix}"),
        None => format!("{version}.{suffix}"),
    }
}

type Chunks = chunks::Writer<File>;

/// Compresses, hashes and writes.
enum Sink {
    Plain(BufWriter<Chunks>),
    Zstd(zstd::Encoder<'static, Chunks>),
}

impl Sink {
    fn new(file: File, form: Form) -> io::Result<Self> {
        let chunks = chunks::Writer::new(file, form.chunk_size);
        match form.compression {
            Compression::None => Ok(Self::Plain(BufWriter::with_capacity(BUFFER, chunks))),
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(chunks, form.level)?;
                encoder.window_log(WINDOW_LOG)?;
                encoder.long_distance_matching(true)?;
                let workers = std::thread::available_parallelism().map_or(1, usize::from);
                encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
                encoder.set_parameter(CParameter::JobSize(JOB))?;
                Ok(Self::Zstd(encoder))
            }
        }
    }

    fn write_all(&mut self, part: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(writer) => writer.write_all(part),
            Self::Zstd(encoder) => encoder.write_all(part),
        }
    }

    fn finish(self) -> io::Result<Written> {
        let chunks = match self {
            Self::Plain(writer) => writer
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        let (_, written) = chunks.finish();
        Ok(written)
    }
}

/// How long the manifest's chunks are, for streams of at most so many bytes in
/// all: 1 MiB, and more only where the list of digests would outgrow a manifest.
pub(crate) fn chunk_size(bytes: u64) -> u32 {
    /// A digest in the manifest, with quotes, comma and indentation.
    const LINE: u64 = 80;
    let fits =
        |size: &u32| (bytes / u64::from(*size)).saturating_mul(LINE) < manifest::MAX_LEN as u64;
    [1 << 20, 2 << 20, 4 << 20]
        .into_iter()
        .find(fits)
        .unwrap_or(4 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_parent_and_compression() {
        assert_eq!(
            file_name("v1.0.0", None, Compression::Zstd),
            "v1.0.0.btrfs.zst"
        );
        assert_eq!(
            file_name("v1.1.0", Some("v1.0.0"), Compression::None),
            "v1.1.0.from-v1.0.0.btrfs"
        );
    }

    #[test]
    fn chunks_grow_only_for_releases_that_need_it() {
        assert_eq!(chunk_size(0), 1 << 20);
        assert_eq!(chunk_size(32 << 30), 1 << 20);
        assert_eq!(chunk_size(64 << 30), 2 << 20);
        assert_eq!(chunk_size(128 << 30), 4 << 20);
        assert_eq!(chunk_size(1 << 50), 4 << 20);
    }

    #[test]
    fn what_is_written_is_what_is_read_back() {
        for compression in [Compression::Zstd, Compression::None] {
            let form = Form {
                compression,
                level: 3,
                chunk_size: 64 << 10,
            };
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            let mut sink = Sink::new(File::create(&path).unwrap(), form).unwrap();
            for part in 0..100_u32 {
                sink.write_all(&part.to_le_bytes().repeat(5000)).unwrap();
            }
            let written = sink.finish().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(written.size, bytes.len() as u64);
            if compression == Compression::Zstd {
                assert_eq!(zstd::decode_all(&bytes[..]).unwrap().len(), 2_000_000);
            }
        }
    }
}
