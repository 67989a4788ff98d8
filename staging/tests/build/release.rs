//! What `send` writes is what it says, and what a device takes.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use op_dbus_bootstate::{Digest, Uuid};
use op_dbus_loopback::sh;
use op_dbus_release::chunks::Verified;
use op_dbus_release::manifest::{Compression, Manifest, Stream};
use op_dbus_release::tree::{self, Cache};
use op_dbus_sendstream::{Policy, Summary, vet};
use sha2::{Digest as _, Sha256};

use crate::common::noise;
use crate::fixture::{Site, names};

/// Recomputes what the manifest says of a stream, and returns what the stream says itself.
#[track_caller]
fn check(dir: &Path, manifest: &Manifest, stream: &Stream) -> Summary {
    let bytes = fs::read(dir.join(&stream.file)).unwrap();
    assert_eq!(stream.size, bytes.len() as u64);
    assert_eq!(stream.sha256, Digest(Sha256::digest(&bytes).into()));
    let chunks: Vec<_> = bytes
        .chunks(usize::try_from(manifest.chunk_size).unwrap())
        .map(|chunk| Digest(Sha256::digest(chunk).into()))
        .collect();
    assert_eq!(stream.chunks, chunks);
    let plain = match stream.compression {
        Compression::Zstd => zstd::decode_all(&bytes[..]).unwrap(),
        Compression::None => bytes.clone(),
    };
    assert_eq!(stream.stream_bytes, plain.len() as u64);
    // As a device reads it: with its bounds on memory.
    let mut read = Vec::new();
    let source = std::io::Cursor::new(bytes);
    Verified::new(source, stream, manifest.chunk_size)
        .read_to_end(&mut read)
        .unwrap();
    assert!(read == plain);
    let summary = vet(&plain[..], &Policy::everything()).unwrap();
    assert_eq!(stream.content_bytes, summary.content);
    assert_eq!(stream.uuid, Uuid(summary.uuid));
    let parent = summary.parent.as_ref().map(|parent| Uuid(parent.uuid));
    assert_eq!(stream.parent.as_ref().map(|parent| parent.uuid), parent);
    summary
}

#[test]
fn from_golden_to_a_signed_release() {
    let Some(site) = Site::new() else { return };
    let fingerprint = site.key("release");
    site.version("v1.0.0");
    let sent = site.json(&["send", "v1.0.0"]);
    assert_eq!(sent["result"], "written");
    assert_eq!(
        site.releases(),
        ["v1.0.0.btrfs.zst", "v1.0.0.json", "v1.0.0.sha256"]
    );

    let manifest = site.manifest("v1.0.0");
    assert_eq!(manifest.product, "op-dbus");
    assert_eq!(manifest.epoch, 3);
    assert_eq!(manifest.streams.len(), 1);
    let releases = site.path("b/releases");
    let summary = check(&releases, &manifest, &manifest.streams[0]);
    assert_eq!(summary.name, "v1.0.0");
    let found = tree::digest(&site.path("b/versions/v1.0.0"), Cache::Keep).unwrap();
    assert_eq!(manifest.tree, found.tree);

    let path = site.text("b/releases/v1.0.0.json");
    let signed = site.json(&["sign", &path]);
    assert_eq!(signed["fingerprint"], fingerprint.as_str());
    let signature = format!("{path}.asc");
    site.gpg(&["--verify", &signature, &path]);
    let keys = site.text("keys.gpg");
    site.gpg(&["--output", &keys, "--export", &fingerprint]);
    sh("gpgv", &["--keyring", &keys, &signature, &path]);
    let sums = format!(
        "cd {} && sha256sum --strict -c v1.0.0.sha256",
        releases.display()
    );
    let said = sh("sh", &["-c", &sums]);
    assert_eq!(said, "v1.0.0.btrfs.zst: OK\nv1.0.0.json: OK");
    // Plain gpg makes a signature that is as good.
    fs::remove_file(&signature).unwrap();
    site.gpg(&["--detach-sign", "--armor", &path]);
    let keyring = op_dbus_trust::Keyring::from_bytes(&fs::read(&keys).unwrap(), Path::new("keys"));
    let verified = keyring
        .unwrap()
        .verify(&fs::read(&path).unwrap(), &fs::read(&signature).unwrap());
    assert_eq!(verified.unwrap().fingerprint, fingerprint);
}

#[test]
fn deltas_build_on_what_they_say() {
    let Some(site) = Site::new() else { return };
    for version in ["v1.9.0", "v1.10.0", "v1.11.0", "v2.0.0"] {
        site.version(version);
    }
    // Twice the same parent is one stream.
    let args = [
        "send", "v1.11.0", "--full", "--parent", "auto", "--parent", "v1.9.0", "--parent",
        "v1.10.0",
    ];
    site.run(&args).done();
    assert_eq!(
        site.releases(),
        [
            "v1.11.0.btrfs.zst",
            "v1.11.0.from-v1.10.0.btrfs.zst",
            "v1.11.0.from-v1.9.0.btrfs.zst",
            "v1.11.0.json",
            "v1.11.0.sha256",
        ]
    );
    let manifest = site.manifest("v1.11.0");
    let releases = site.path("b/releases");
    let target = site.path("b/received");
    fs::create_dir(&target).unwrap();
    for stream in &manifest.streams {
        check(&releases, &manifest, stream);
        let Some(parent) = &stream.parent else {
            continue;
        };
        let path = site.path("b/versions").join(parent.version.as_str());
        assert_eq!(
            parent.uuid,
            Uuid(op_dbus_btrfs::info_of(&path).unwrap().uuid)
        );
        assert_eq!(
            parent.digest,
            tree::digest(&path, Cache::Keep).unwrap().tree.digest
        );
        assert!(
            stream.content_bytes < 100,
            "only what is new: {}",
            stream.content_bytes
        );
    }
    // btrfs receive makes of them what the manifest says.
    let receive = |stream: &Stream| {
        let plain = zstd::decode_all(fs::File::open(releases.join(&stream.file)).unwrap()).unwrap();
        let file = site.path("plain");
        fs::write(&file, plain).unwrap();
        sh(
            "btrfs",
            &[
                "-q",
                "receive",
                "-f",
                file.to_str().unwrap(),
                target.to_str().unwrap(),
            ],
        );
        let made = target.join("v1.11.0");
        let found = tree::digest(&made, Cache::Keep).unwrap();
        assert_eq!(found.tree, manifest.tree);
        made
    };
    for stream in &manifest.streams {
        op_dbus_btrfs::delete_subvolume(&receive(stream)).unwrap();
    }
}

/// A parent that was itself received has the UUID it had where it came from.
#[test]
fn a_received_parent_keeps_its_first_uuid() {
    let Some(site) = Site::new() else { return };
    site.version("v1.0.0");
    site.version("v1.1.0");
    let there = site.text("b/versions/v1.0.0");
    let origin = op_dbus_btrfs::info_of(Path::new(&there)).unwrap().uuid;
    let (file, dir) = (site.text("plain"), site.text("b/versions"));
    sh("btrfs", &["-q", "send", "-f", &file, &there]);
    // Gone and back, as from a backup; its content is still what v1.1.0 shares.
    op_dbus_btrfs::delete_subvolume(Path::new(&there)).unwrap();
    sh("btrfs", &["-q", "receive", "-f", &file, &dir]);
    assert_ne!(
        op_dbus_btrfs::info_of(Path::new(&there)).unwrap().uuid,
        origin
    );
    site.run(&["send", "v1.1.0", "--parent", "v1.0.0"]).done();
    let manifest = site.manifest("v1.1.0");
    check(&site.path("b/releases"), &manifest, &manifest.streams[0]);
    assert_eq!(
        manifest.streams[0].parent.as_ref().unwrap().uuid,
        Uuid(origin)
    );
}

#[test]
fn every_form_of_file() {
    let Some(site) = Site::new() else { return };
    // Compressed on the disk, for --compressed-data.
    sh(
        "btrfs",
        &[
            "property",
            "set",
            site.golden("").to_str().unwrap(),
            "compression",
            "zstd",
        ],
    );
    fs::write(site.golden("text"), "all the same\n".repeat(50_000)).unwrap();
    site.version("v1.0.0");
    let forms: [&[&str]; 5] = [
        &["--compression", "none"],
        &["--compressed-data"],
        &["--compressed-data", "--compression", "none"],
        &["--level", "1"],
        &["--level", "19"],
    ];
    for (index, form) in forms.iter().enumerate() {
        let out = site.text(&format!("out{index}"));
        site.run(&[&["send", "v1.0.0", "--output", &out], *form].concat())
            .done();
        let out = Path::new(&out);
        let manifest = Manifest::parse(&fs::read(out.join("v1.0.0.json")).unwrap()).unwrap();
        check(out, &manifest, &manifest.streams[0]);
        let plain = form.contains(&"none");
        assert_eq!(manifest.streams[0].file == "v1.0.0.btrfs.zst", !plain);
        if form.contains(&"--compressed-data") {
            assert!(
                manifest.streams[0].stream_bytes < 600_000,
                "{}",
                manifest.streams[0].stream_bytes
            );
        }
    }
}

#[test]
fn names_that_are_no_text() {
    let Some(site) = Site::new() else { return };
    let odd = site
        .golden("share")
        .join(OsStr::from_bytes(b"\xff\xfe odd\n"));
    fs::write(&odd, "x").unwrap();
    fs::write(site.golden("share").join("n".repeat(255)), "y").unwrap();
    site.version("v1.0.0");
    site.run(&["send", "v1.0.0"]).done();
    let manifest = site.manifest("v1.0.0");
    check(&site.path("b/releases"), &manifest, &manifest.streams[0]);
    // Where a manifest would have to name it, it can't.
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o4755)).unwrap();
    site.version("v1.1.0");
    site.run(&["send", "v1.1.0", "--allow-privileged"])
        .failed(8, "not UTF-8");
}

#[test]
fn what_needs_permission_is_listed_or_refused() {
    let Some(site) = Site::new() else { return };
    fs::set_permissions(site.golden("bin/app"), fs::Permissions::from_mode(0o4755)).unwrap();
    let null = site.golden("share/null");
    sh("mknod", &[null.to_str().unwrap(), "c", "1", "3"]);
    fs::write(site.golden("bin/ping"), "x").unwrap();
    // cap_net_raw (13), effective and permitted: struct vfs_cap_data of version 2.
    let data: Vec<u8> = [0x0200_0001_u32, 1 << 13, 0, 0, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(site.golden("bin/ping"), "security.capability", &data, flags).unwrap();
    site.version("v1.0.0");
    for words in ["bin/app", "share/null", "bin/ping"] {
        site.run(&["send", "v1.0.0"]).failed(8, words);
    }
    assert_eq!(site.releases(), [""; 0]);
    site.run(&["send", "v1.0.0", "--allow-privileged"]).done();
    let manifest = site.manifest("v1.0.0");
    assert_eq!(manifest.allow.setuid, ["bin/app"]);
    assert_eq!(manifest.allow.devices, ["share/null"]);
    assert_eq!(manifest.allow.capabilities, ["bin/ping"]);
    check(&site.path("b/releases"), &manifest, &manifest.streams[0]);
}

/// Trees and options by chance; whatever is written passes as a manifest.
#[test]
fn whatever_is_sent_is_a_manifest_that_is_read() {
    let Some(site) = Site::new() else { return };
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        // xorshift64: the same trees in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut last: Option<String> = None;
    for round in 0..8 {
        for _ in 0..next(12) {
            let name: Vec<u8> = (0..=next(20))
                .map(|_| u8::try_from(33 + next(200)).unwrap())
                .collect();
            let path = site
                .golden("share")
                .join(OsStr::from_bytes(&name.replace_slash()));
            let length = usize::try_from(next(40_000)).unwrap();
            let _ = match next(4) {
                0 => fs::create_dir(&path),
                1 => symlink("nowhere", &path),
                2 => fs::write(&path, vec![b'x'; length]),
                _ => fs::write(&path, noise(length)),
            };
        }
        let version = format!("v0.{round}.{}-rc.{}", next(99), next(99));
        site.version(&version);
        let level = (1 + next(9)).to_string();
        let mut args = vec!["send", &version, "--level", &level];
        if next(2) == 0 {
            args.extend(["--compression", "none"]);
        }
        if let (Some(parent), true) = (&last, next(3) > 0) {
            args.extend(["--parent", parent]);
        }
        if next(2) == 0 {
            args.push("--full");
        }
        site.run(&args).done();
        let bytes = fs::read(site.path("b/releases").join(format!("{version}.json"))).unwrap();
        let manifest = Manifest::parse(&bytes).unwrap();
        assert_eq!(manifest.to_bytes(), bytes);
        for stream in &manifest.streams {
            check(&site.path("b/releases"), &manifest, stream);
        }
        last = Some(version);
    }
    assert!(
        names(&site.path("b/releases"))
            .iter()
            .all(|name| !name.starts_with('.'))
    );
}

trait ReplaceSlash {
    fn replace_slash(self) -> Self;
}

impl ReplaceSlash for Vec<u8> {
    fn replace_slash(mut self) -> Self {
        for byte in &mut self {
            if *byte == b'/' {
                *byte = b'_';
            }
        }
        self
    }
}
