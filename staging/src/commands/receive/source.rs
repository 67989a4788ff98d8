//! Where a release comes from: a stream in a file, a FIFO or on standard input,
//! and the manifest that belongs to it.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::interrupt::Interrupt;
use crate::error::{Exit, Failure, Result};
use crate::progress::Meter;

/// How long a read that waits for data lets a signal wait.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// What the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// Standard input, and its manifest.
    Stdin(PathBuf),
    /// A stream's file, and its manifest.
    Stream(PathBuf, PathBuf),
    /// A manifest; its streams are beside it.
    Manifest(PathBuf),
}

impl Named {
    /// What `FILE` and `--manifest` mean together.
    pub(crate) fn new(file: &Path, manifest: Option<&Path>) -> Result<Self> {
        let usage =
            |what: &str, why: &str, remedy: &str| Err(Failure::new(Exit::Usage, what, why, remedy));
        if file == Path::new("-") {
            return match manifest {
                Some(manifest) => Ok(Self::Stdin(manifest.to_owned())),
                None => usage(
                    "receive -",
                    "standard input has no manifest beside it",
                    "name it: receive - --manifest FILE",
                ),
            };
        }
        if is_manifest(file) {
            return match manifest {
                None => Ok(Self::Manifest(file.to_owned())),
                Some(_) => usage(
                    "--manifest",
                    "the file to receive is a manifest itself",
                    "name the stream, or leave --manifest out",
                ),
            };
        }
        // Whether there is such a file says more than that it has no manifest.
        fs::metadata(file).map_err(|why| unopened(file, why))?;
        let manifest = match manifest {
            Some(manifest) => manifest.to_owned(),
            None => beside(file)?,
        };
        Ok(Self::Stream(file.to_owned(), manifest))
    }

    /// The manifest.
    pub(crate) fn manifest(&self) -> &Path {
        match self {
            Self::Stdin(manifest) | Self::Stream(_, manifest) | Self::Manifest(manifest) => {
                manifest
            }
        }
    }
}

/// Whether a file is a manifest, by its name.
pub(crate) fn is_manifest(file: &Path) -> bool {
    file.extension().is_some_and(|suffix| suffix == "json")
}

/// The names a stream's manifest may have: its own name cut at dots, from the right.
fn candidates(name: &str) -> impl Iterator<Item = String> {
    let cuts = name.rmatch_indices('.').filter(|(at, _)| *at > 0);
    cuts.map(|(at, _)| format!("{}.json", name.get(..at).unwrap_or_default()))
}

/// The manifest beside a stream.
pub(crate) fn beside(stream: &Path) -> Result<PathBuf> {
    let name = stream.file_name().unwrap_or_default().to_string_lossy();
    let mut first = None;
    for candidate in candidates(&name) {
        let path = stream.with_file_name(candidate);
        if path.is_file() {
            return Ok(path);
        }
        first.get_or_insert(path);
    }
    let why = match first {
        Some(path) => format!("there is no manifest beside it (as {})", path.display()),
        None => "there is no manifest beside it".to_owned(),
    };
    Err(Failure::new(
        Exit::Verification,
        stream.display(),
        why,
        "fetch the release's manifest and signature too, or name it: --manifest FILE",
    ))
}

fn unopened(path: &Path, why: io::Error) -> Failure {
    if why.kind() == io::ErrorKind::NotFound {
        let remedy = "name a stream or a manifest of a release";
        return Failure::new(Exit::Failure, path.display(), why, remedy);
    }
    Failure::io(format_args!("{}: open", path.display()), why)
}

/// Opens a regular file or a FIFO. Neither waits for anything: a device that
/// acts when it is opened is not, and a FIFO is waited for when it is read.
pub(crate) fn open(path: &Path) -> Result<File> {
    let fail = |why| unopened(path, why);
    refuse_others(path, &fs::metadata(path).map_err(fail)?)?;
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options()
        .read(true)
        .custom_flags(nonblock)
        .open(path)
        .map_err(fail)?;
    // It may have been replaced in between.
    refuse_others(path, &file.metadata().map_err(fail)?)?;
    Ok(file)
}

fn refuse_others(path: &Path, found: &fs::Metadata) -> Result<()> {
    let kind = found.file_type();
    let what = if kind.is_file() || kind.is_fifo() {
        return Ok(());
    } else if kind.is_dir() {
        "is a directory"
    } else if kind.is_block_device() || kind.is_char_device() {
        "is a device"
    } else {
        "is a socket"
    };
    Err(Failure::new(
        Exit::Failure,
        path.display(),
        what,
        "name a stream or a manifest of a release; from a pipe: receive - --manifest FILE",
    ))
}

/// Standard input, unless a person would have to type the release.
pub(crate) fn stdin() -> Result<File> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            "receive -",
            "standard input is a terminal",
            "redirect a stream to it",
        ));
    }
    let fd = stdin.as_fd().try_clone_to_owned();
    Ok(File::from(
        fd.map_err(|why| Failure::io("standard input", why))?,
    ))
}

/// Reads, counts what it reads, and ends when the run is asked to.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    interrupt: Interrupt,
    meter: Meter,
}

impl Reader {
    pub(crate) fn new(file: File, interrupt: Interrupt) -> Self {
        Self {
            file,
            interrupt,
            meter: Meter::default(),
        }
    }

    /// Counts what is read from now on.
    pub(crate) fn measured(self, meter: Meter) -> Self {
        Self { meter, ..self }
    }

    /// Waits until there is something to read, be it the end.
    fn wait(&self) -> io::Result<()> {
        loop {
            if self.interrupt.asked() {
                return Err(io::Error::other("interrupted"));
            }
            let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut fds, Some(&PATIENCE)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(why) => return Err(why.into()),
            }
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait()?;
            match self.file.read(buffer) {
                // Another reader of the same pipe was faster.
                Err(why)
                    if matches!(
                        why.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(why) => return Err(why),
                Ok(count) => {
                    self.meter.add(count as u64);
                    return Ok(count);
                }
            }
        }
    }
}

/// The first chunk: so many bytes, or all there are.
pub(crate) fn read_first(source: impl Read, length: u32) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    source.take(u64::from(length)).read_to_end(&mut first)?;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_s_manifest_is_found_by_its_name() {
        let names: Vec<_> = candidates("v1.1.0.from-v1.0.0.btrfs.zst").collect();
        assert_eq!(names.first().unwrap(), "v1.1.0.from-v1.0.0.btrfs.json");
        assert!(names.contains(&"v1.1.0.json".to_owned()), "{names:?}");
        assert_eq!(candidates("plain").count(), 0);
        assert_eq!(candidates(".hidden").count(), 0);

        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["v1.1.0.json", "v1.json"] {
            fs::write(at(name), "").unwrap();
        }
        for stream in ["v1.1.0.btrfs.zst", "v1.1.0.from-v1.0.0.btrfs.zst"] {
            assert_eq!(beside(&at(stream)).unwrap(), at("v1.1.0.json"));
        }
        let lacking = beside(&at("v2.0.0.btrfs")).unwrap_err().to_string();
        assert!(lacking.contains("v2.0.0.json"), "{lacking}");
    }

    #[test]
    fn what_is_no_file_is_refused_and_opening_never_waits() {
        let dir = tempfile::tempdir().unwrap();
        for (path, words) in [
            (Path::new("/dev/null"), "is a device"),
            (dir.path(), "is a directory"),
            (Path::new("/nonexistent"), "No such file"),
        ] {
            let why = open(path).unwrap_err().to_string();
            assert!(why.contains(words), "{why}");
        }
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        open(&fifo).unwrap();
    }

    #[test]
    fn what_is_named_tells_where_the_manifest_is() {
        let dir = tempfile::tempdir().unwrap();
        let (stream, manifest) = (dir.path().join("s.btrfs"), dir.path().join("s.json"));
        for path in [&stream, &manifest] {
            fs::write(path, "").unwrap();
        }
        let named = |file: &Path, manifest: Option<&Path>| Named::new(file, manifest);
        let other = Path::new("other.json");
        assert_eq!(named(&stream, None).unwrap().manifest(), manifest);
        assert_eq!(named(&stream, Some(other)).unwrap().manifest(), other);
        assert_eq!(
            named(&manifest, None).unwrap(),
            Named::Manifest(manifest.clone())
        );
        assert_eq!(named(&manifest, Some(other)).unwrap_err().kind, Exit::Usage);
        assert_eq!(
            named(Path::new("-"), Some(other)).unwrap(),
            Named::Stdin(other.to_owned())
        );
        assert_eq!(named(Path::new("-"), None).unwrap_err().kind, Exit::Usage);
    }
}
