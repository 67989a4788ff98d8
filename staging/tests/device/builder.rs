//! A machine that builds releases, and what it publishes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use op_dbus_bootstate::Uuid;
use op_dbus_loopback::{Volume, sh};
use op_dbus_release::chunks::ChunkHasher;
use op_dbus_release::manifest::{Compression, Manifest, Parent, SCHEMA, Stream};
use op_dbus_release::tree::{self, Cache, Kind};
use op_dbus_sendstream::Policy;

use crate::common::noise;
use crate::keys::keys;

/// Length of a chunk: small, so that small releases have several.
pub(crate) const CHUNK: u32 = 64 << 10;

/// A machine that builds releases and sends them.
pub(crate) struct Builder {
    volume: Volume,
    dir: tempfile::TempDir,
}

/// A published release: the manifest, and the directory all its files are in.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) manifest: Manifest,
    dir: PathBuf,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self::with_size(256)
    }

    pub(crate) fn with_size(mib: u64) -> Self {
        let dir = tempfile::Builder::new().prefix("opb").tempdir().unwrap();
        let volume = Volume::new(&dir.path().join("top"), mib);
        let builder = Self { volume, dir };
        op_dbus_btrfs::create_subvolume(&builder.tree("work")).unwrap();
        fs::create_dir_all(builder.tree("work/bin")).unwrap();
        // More than one command's worth of data, and several chunks.
        fs::write(builder.tree("work/bin/app"), noise(300_000)).unwrap();
        std::os::unix::fs::symlink("app", builder.tree("work/bin/alias")).unwrap();
        builder
    }

    /// A path on the machine; `work` is the tree that releases are made of.
    pub(crate) fn tree(&self, path: &str) -> PathBuf {
        self.volume.path(path)
    }

    /// The manifest of a release that was made before.
    pub(crate) fn manifest(&self, version: &str) -> String {
        let path = self.dir.path().join(format!("releases/{version}.json"));
        path.to_str().unwrap().to_owned()
    }

    /// Sets the mode of something in the tree that releases are made of.
    pub(crate) fn chmod(&self, path: &str, mode: u32) {
        let path = self.tree("work").join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Makes a signed release: whole, or on top of another. Its stream's file.
    pub(crate) fn release(&self, version: &str, parent: Option<&str>) -> String {
        fs::write(self.tree("work/version"), version).unwrap();
        self.send(version, parent)
    }

    /// Likewise of the tree as it is.
    pub(crate) fn send(&self, version: &str, parent: Option<&str>) -> String {
        self.publish(version, &[parent]).stream(0)
    }

    /// A signed release of the tree as it is, with a stream for each parent.
    pub(crate) fn publish(&self, version: &str, parents: &[Option<&str>]) -> Release {
        let tree = self.tree(version);
        op_dbus_btrfs::snapshot(&self.tree("work"), &tree, true).unwrap();
        op_dbus_btrfs::sync_filesystem(&tree).unwrap();
        let found = tree::digest(&tree, Cache::Keep).unwrap();
        let dir = self.dir.path().join("releases");
        fs::create_dir_all(&dir).unwrap();
        let streams = parents
            .iter()
            .map(|parent| self.stream(version, *parent, &dir))
            .collect();
        let mut manifest = Manifest {
            schema: SCHEMA,
            product: "op-dbus".to_owned(),
            version: version.parse().unwrap(),
            epoch: 0,
            created: "2026-11-23T01:22:00Z".to_owned(),
            tree: found.tree,
            allow: op_dbus_release::manifest::Allow::default(),
            chunk_size: CHUNK,
            streams,
        };
        for entry in found.privileged {
            let path = String::from_utf8(entry.path).unwrap();
            match entry.kind {
                Kind::Device => manifest.allow.devices.push(path),
                Kind::Setuid => manifest.allow.setuid.push(path),
                Kind::Capability => manifest.allow.capabilities.push(path),
            }
        }
        let release = Release { manifest, dir };
        release.sign();
        release
    }

    fn stream(&self, version: &str, parent: Option<&str>, dir: &Path) -> Stream {
        let tree = self.tree(version);
        let plain = self.dir.path().join("plain");
        let mut args = vec!["-q", "send", "-f", plain.to_str().unwrap()];
        let from = parent.map(|parent| self.tree(parent));
        if let Some(from) = &from {
            args.extend(["-p", from.to_str().unwrap()]);
        }
        args.push(tree.to_str().unwrap());
        sh("btrfs", &args);
        let file = match parent {
            Some(parent) => format!("{version}.from-{parent}.btrfs.zst"),
            None => format!("{version}.btrfs.zst"),
        };
        let plain = fs::read(plain).unwrap();
        let packed = zstd::encode_all(&plain[..], 1).unwrap();
        let summary = op_dbus_sendstream::vet(&plain[..], &Policy::everything()).unwrap();
        fs::write(dir.join(&file), &packed).unwrap();
        Stream {
            compression: Compression::Zstd,
            stream_bytes: summary.bytes,
            content_bytes: summary.content,
            uuid: Uuid(summary.uuid),
            parent: parent.zip(from).map(|(version, tree)| Parent {
                version: version.parse().unwrap(),
                uuid: Uuid(op_dbus_btrfs::info_of(&tree).unwrap().uuid),
                digest: tree::digest(&tree, Cache::Keep).unwrap().tree.digest,
            }),
            ..described(file, &packed)
        }
    }
}

/// What a manifest says of these bytes of a file.
fn described(file: String, bytes: &[u8]) -> Stream {
    let mut hasher = ChunkHasher::new(CHUNK);
    hasher.update(bytes);
    let written = hasher.finish();
    Stream {
        file,
        size: written.size,
        sha256: written.sha256,
        chunks: written.chunks,
        compression: Compression::None,
        stream_bytes: written.size,
        content_bytes: 0,
        uuid: Uuid([0; 16]),
        parent: None,
    }
}

impl Release {
    /// The manifest's file.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(format!("{}.json", self.manifest.version))
    }

    /// The manifest's file, for a command line.
    pub(crate) fn file(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    /// A file beside the manifest.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A stream's file.
    pub(crate) fn stream(&self, index: usize) -> String {
        let path = self.beside(&self.manifest.streams[index].file);
        path.to_str().unwrap().to_owned()
    }

    /// Writes the manifest and signs it with the release key.
    pub(crate) fn sign(&self) {
        self.sign_as("release");
    }

    /// Likewise with another key.
    pub(crate) fn sign_as(&self, user: &str) {
        fs::write(self.path(), self.manifest.to_bytes()).unwrap();
        keys().sign(user, &self.path());
    }

    /// Changes the manifest, and signs it again.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Manifest)) {
        change(&mut self.manifest);
        self.sign();
    }

    /// Puts other bytes into a stream's place, described as they are and signed:
    /// what a build system gone wrong would publish.
    pub(crate) fn forge(&mut self, index: usize, plain: &[u8]) {
        let packed = zstd::encode_all(plain, 1).unwrap();
        fs::write(self.stream(index), &packed).unwrap();
        let old = self.manifest.streams[index].clone();
        let new = described(old.file, &packed);
        self.manifest.streams[index] = Stream {
            compression: Compression::Zstd,
            stream_bytes: plain.len() as u64,
            content_bytes: old.content_bytes,
            uuid: old.uuid,
            parent: old.parent,
            ..new
        };
        self.sign();
    }

    /// The send stream in a stream's file.
    pub(crate) fn plain(&self, index: usize) -> Vec<u8> {
        zstd::decode_all(&fs::read(self.stream(index)).unwrap()[..]).unwrap()
    }
}
