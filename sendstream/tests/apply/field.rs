//! A loop-mounted file system to send from and to receive in.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use op_dbus_loopback::{Volume, run};
use op_dbus_sendstream::{Destination, Incoming, Policy, StreamError};

use crate::compare::{Times, entries};

pub(crate) struct Field {
    volume: Volume,
    dir: tempfile::TempDir,
    streams: std::cell::Cell<u32>,
}

impl Field {
    /// An empty file system with room for two receivers; none without root, loudly.
    pub(crate) fn new(options: &str) -> Option<Self> {
        let dir = op_dbus_loopback::private_dir("apply")?;
        let top = dir.path().join("top");
        let volume = Volume::with_options(&top, 400, &["--metadata", "single"], options);
        for receiver in ["ours", "theirs"] {
            fs::create_dir(volume.path(receiver)).unwrap();
        }
        let streams = std::cell::Cell::new(0);
        Some(Self {
            volume,
            dir,
            streams,
        })
    }

    pub(crate) fn top(&self, path: &str) -> PathBuf {
        self.volume.path(path)
    }

    /// Runs a script in the file system's root.
    #[track_caller]
    pub(crate) fn script(&self, script: &str) {
        run(Command::new("bash")
            .args(["-euc", script])
            .current_dir(self.top("")));
    }

    /// Sends; returns the stream's file.
    #[track_caller]
    pub(crate) fn send(&self, args: &[&str]) -> PathBuf {
        self.streams.set(self.streams.get() + 1);
        let file = self
            .dir
            .path()
            .join(format!("stream{}", self.streams.get()));
        run(Command::new("btrfs")
            .args(["-q", "send", "-f"])
            .arg(&file)
            .args(args)
            .current_dir(self.top("")));
        file
    }

    fn apply(
        &self,
        stream: impl Read,
        name: &str,
        parent: Option<&str>,
        direct: bool,
    ) -> Result<(), StreamError> {
        let area = op_dbus_btrfs::open_dir(&self.top("ours")).unwrap();
        let parent = parent.map(|parent| op_dbus_btrfs::open_dir(&self.top(parent)).unwrap());
        let mut incoming = Incoming::open(stream, &Policy::everything())?;
        if !direct {
            incoming = incoming.decompressing();
        }
        incoming.apply(&Destination {
            area: area.as_fd(),
            name: name.as_ref(),
            parent: parent.as_ref().map(|parent| parent.as_fd()),
        })?;
        Ok(())
    }

    /// Receives in both ways; `parent` is a name among what was received.
    #[track_caller]
    pub(crate) fn receive(&self, stream: &Path, name: &str, parent: Option<&str>) {
        let parent = parent.map(|parent| format!("ours/{parent}"));
        let source = fs::File::open(stream).unwrap();
        if let Err(why) = self.apply(source, name, parent.as_deref(), true) {
            panic!("{}: {why}", stream.display());
        }
        run(Command::new("btrfs")
            .args(["-q", "receive", "-f"])
            .arg(stream)
            .arg(self.top("theirs")));
    }

    /// Receives without writing compressed data as it is.
    #[track_caller]
    pub(crate) fn receive_decompressing(&self, stream: &Path, name: &str) {
        let source = fs::File::open(stream).unwrap();
        self.apply(source, name, None, false).unwrap();
    }

    /// The error of a stream that must not be received, and of which nothing is left.
    #[track_caller]
    pub(crate) fn refusal(&self, stream: &[u8], parent: Option<&str>) -> StreamError {
        let why = self.apply(stream, "refused", parent, true).unwrap_err();
        let left = fs::read_dir(self.top("ours")).unwrap().count();
        assert_eq!(left, 0, "{why}");
        why
    }

    #[track_caller]
    pub(crate) fn refuses(&self, stream: &[u8], parent: Option<&str>) -> String {
        self.refusal(stream, parent).to_string()
    }

    /// Compares what we received with what was sent and with what `btrfs
    /// receive` made of it.
    #[track_caller]
    pub(crate) fn same(&self, name: &str, ours: &str) {
        let path = self.top("ours").join(ours);
        let (sent, theirs) = (self.top(name), self.top("theirs").join(name));
        assert_eq!(entries(&path, Times::All), entries(&sent, Times::All));
        // btrfs receive makes new entries in the root after its times were set,
        // which ends with other times than were sent.
        assert_eq!(
            entries(&path, Times::NotOfRoot),
            entries(&theirs, Times::NotOfRoot)
        );
        let [ours, theirs] = [&path, &theirs].map(|path| op_dbus_btrfs::info_of(path).unwrap());
        assert!(ours.is_read_only());
        assert_eq!(ours.received_uuid, theirs.received_uuid);
        assert_eq!(ours.stransid, theirs.stransid);
    }

    /// Deletes what was received.
    pub(crate) fn clear(&self) {
        self.script("btrfs -q subvolume delete ours/* theirs/*");
    }
}
