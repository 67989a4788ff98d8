//! Backups as they are written, and as an attacker would write them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::io::{Read as _, Write as _};

use op_dbus_backup::{BackupError, Digest, Entry, INFO, PIECE, Reader, Writer};
use sha2::{Digest as _, Sha256};

type Content = Vec<(Entry, Vec<u8>)>;

fn small() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    writer.file(INFO, b"{}").unwrap();
    writer.file("device/boot/record.0", &[1; 4096]).unwrap();
    writer.file("device/pins/v1.0.0", b"").unwrap();
    let mut stream = writer.stream("overlays/v1.0.0").unwrap();
    stream.write_all(&[2; 700]).unwrap();
    stream.finish().unwrap();
    writer.finish().unwrap().0
}

fn read(bytes: &[u8]) -> Result<(Content, Digest), BackupError> {
    let mut reader = Reader::new(bytes)?;
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        let result = reader.content().read_to_end(&mut content);
        result.map_err(|why| reader.failed(&why))?;
        found.push((entry, content));
    }
    Ok((found, reader.finish()?))
}

#[test]
fn a_backup_is_read_as_it_was_written() {
    for length in [
        0,
        1,
        PIECE - 1,
        PIECE,
        PIECE + 1,
        3 * PIECE,
        3 * PIECE + 511,
    ] {
        let content: Vec<u8> = b"a stream ".iter().copied().cycle().take(length).collect();
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.file(INFO, b"{}").unwrap();
        for name in ["overlays/v1.0.0", "overlays/v1.0.0.old", "shared/0000"] {
            let mut stream = writer.stream(name).unwrap();
            // In parts that do not fit the pieces.
            for part in content.chunks(99_991) {
                stream.write_all(part).unwrap();
            }
            stream.finish().unwrap();
        }
        let (bytes, digest) = writer.finish().unwrap();
        let expected: [u8; 32] = Sha256::digest(&bytes[..bytes.len() - 32]).into();
        assert_eq!(digest, Digest(expected));
        let (found, seen) = read(&bytes).unwrap();
        assert_eq!(seen, digest);
        let names: Vec<_> = found.iter().map(|(entry, _)| entry.clone()).collect();
        assert_eq!(
            names,
            [
                Entry::File(INFO.to_owned(), 2),
                Entry::Stream("overlays/v1.0.0".to_owned()),
                Entry::Stream("overlays/v1.0.0.old".to_owned()),
                Entry::Stream("shared/0000".to_owned()),
            ]
        );
        assert!(
            found[1..].iter().all(|(_, found)| *found == content),
            "{length}"
        );
        // Nothing of it need be looked at.
        let mut reader = Reader::new(&bytes[..]).unwrap();
        while reader.next_entry().unwrap().is_some() {}
        assert_eq!(reader.finish().unwrap(), digest);
    }
}

#[test]
fn every_flip_and_every_cut_shows() {
    let bytes = small();
    read(&bytes).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let why = read(&changed).expect_err("a flip").to_string();
        assert!(!why.is_empty() && !why.contains('\n'), "{bit}: {why}");
    }
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{length}");
    }
    for more in [&b"\0"[..], &bytes] {
        assert!(read(&[&bytes[..], more].concat()).is_err());
    }
}

#[test]
fn a_writer_keeps_the_order_too() {
    let begun = || {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.file(INFO, b"{}").unwrap();
        writer.file("device/b", b"").unwrap();
        writer
    };
    for name in [
        "device/b",
        "device/a",
        "BACKUP.json",
        "SHA256SUMS",
        "../x",
        "overlays/x",
    ] {
        assert!(begun().file(name, b"").is_err(), "{name}");
    }
    for name in ["device/c", "overlays/a/b", "overlays/..", "overlays"] {
        assert!(begun().stream(name).is_err(), "{name}");
    }
    assert!(
        Writer::new(Vec::new())
            .unwrap()
            .file("device/a", b"")
            .is_err()
    );
    assert!(begun().copy("device/c", 2, &b"1"[..]).is_err());
}

/// A tar as tar(1) or an attacker makes it, sealed as a backup is.
fn sealed(tar: &[u8], tune: impl Fn(&mut zstd::Encoder<'_, Vec<u8>>)) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    tune(&mut encoder);
    encoder.write_all(tar).unwrap();
    let mut bytes = encoder.finish().unwrap();
    bytes.extend(b"\x5d\x2a\x4d\x18\x30\x00\x00\x00op-dbus-backup-1");
    let digest = Sha256::digest(&bytes);
    bytes.extend(digest);
    bytes
}

struct Member<'m> {
    name: &'m str,
    kind: u8,
    link: &'m str,
    size: &'m str,
    content: &'m [u8],
}

impl Member<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut block = vec![0; 512];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, self.name.as_bytes());
        put(100, b"0000600\x000000000\x000000000\0");
        put(124, self.size.as_bytes());
        put(136, b"00000000000\0        ");
        put(156, &[self.kind]);
        put(157, self.link.as_bytes());
        put(257, b"ustar\x0000root");
        put(297, b"root");
        put(329, b"0000000\x000000000\0");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.extend(self.content);
        block.resize(block.len().next_multiple_of(512), 0);
        block
    }
}

fn plain<'m>(name: &'m str, size: &'m str, content: &'m [u8]) -> Member<'m> {
    Member {
        name,
        kind: b'0',
        link: "",
        size,
        content,
    }
}

fn archive(members: &[Member<'_>]) -> Vec<u8> {
    let mut tar = plain(INFO, "00000000002", b"{}").bytes();
    let mut sums = format!("{}  {INFO}\n", Digest(Sha256::digest(b"{}").into()));
    for member in members {
        tar.extend(member.bytes());
        let sum = Digest(Sha256::digest(member.content).into());
        sums = format!("{sums}{sum}  {}\n", member.name);
    }
    let size = format!("{:011o}", sums.len());
    tar.extend(plain("SHA256SUMS", &size, sums.as_bytes()).bytes());
    tar.extend([0; 1024]);
    tar
}

#[track_caller]
fn refused(members: &[Member<'_>], words: &str) {
    let why = read(&sealed(&archive(members), |_| ())).unwrap_err();
    assert!(why.to_string().contains(words), "{why}");
}

#[test]
fn what_the_helper_makes_is_a_backup() {
    let members = [plain("device/x", "00000000003", b"abc")];
    let (found, _) = read(&sealed(&archive(&members), |_| ())).unwrap();
    assert_eq!(found[1].1, b"abc");
}

#[test]
fn a_tar_as_an_attacker_makes_it_is_refused() {
    let zero = "00000000000";
    for name in [
        "../x",
        "/etc/passwd",
        "device/../../x",
        "device//x",
        "./device/x",
        "device/",
    ] {
        refused(&[plain(name, zero, b"")], "not plain");
    }
    for kind in *b"123456789xgLKSVDM\0" {
        let link = Member {
            kind,
            link: "/etc/passwd",
            ..plain("device/x", zero, b"")
        };
        refused(&[link], "tar header");
    }
    let twice = || plain("device/x", zero, b"");
    refused(&[twice(), twice()], "comes after");
    refused(&[plain("device/y", zero, b""), twice()], "comes after");
    refused(&[plain("BACKUP.json", zero, b"")], "BACKUP.json");
    refused(&[plain("SHA256SUMS", zero, b"")], "sums");
    // Sizes: not in octal digits, in base 256, with a sign or blanks.
    for size in ["0000000000x", "\u{0}", "+0000000000", "          0", "-1"] {
        refused(&[plain("device/x", size, b"")], "tar header");
    }
    // More than there is.
    refused(&[plain("device/x", "77777777777", b"")], "cut off");
    // Something behind a member's end.
    let mut tar = archive(&[plain("device/x", "00000000001", b"a")]);
    tar[1024 + 512 + 1] = 1;
    let why = read(&sealed(&tar, |_| ())).unwrap_err().to_string();
    assert!(why.contains("behind its end"), "{why}");
}

#[test]
fn sums_that_are_of_other_members_are_refused() {
    let mut tar = archive(&[plain("device/x", "00000000003", b"abc")]);
    let at = tar.len() - 1024 - 512;
    assert!(tar[at..].starts_with(Digest(Sha256::digest(b"{}").into()).to_string().as_bytes()));
    tar[at] ^= 1;
    let why = read(&sealed(&tar, |_| ())).unwrap_err().to_string();
    assert!(why.contains("sums are not"), "{why}");
}

#[test]
fn pieces_that_do_not_follow_are_refused() {
    let whole = vec![7; PIECE];
    let size = format!("{PIECE:011o}");
    let piece = |number: &'static str| plain(number, "00000000001", b"a");
    let full = |name: &'static str| Member {
        content: &whole,
        size: &size,
        name,
        kind: b'0',
        link: "",
    };
    refused(&[piece("overlays/a/000001")], "missing");
    refused(
        &[piece("overlays/a/000000"), piece("overlays/a/000001")],
        "follow",
    );
    refused(
        &[full("overlays/a/000000"), piece("overlays/a/000002")],
        "follow",
    );
    refused(
        &[
            full("overlays/a/000000"),
            plain("overlays/a/000001", "00000000000", b""),
        ],
        "follow",
    );
    refused(
        &[full("overlays/a/000000"), piece("overlays/b/000001")],
        "missing",
    );
    let long = vec![7; PIECE + 1];
    let size = format!("{:011o}", PIECE + 1);
    refused(&[plain("overlays/a/000000", &size, &long)], "too long");
    // As it should be.
    let good = [
        full("overlays/a/000000"),
        piece("overlays/a/000001"),
        piece("overlays/b/000000"),
    ];
    let (found, _) = read(&sealed(&archive(&good), |_| ())).unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(found[1].1.len(), PIECE + 1);
}

#[test]
fn what_would_take_all_memory_is_refused() {
    // A window beyond 8 MiB.
    let zeros = vec![0; 20 << 20];
    let tar = archive(&[plain("device/x", &format!("{:011o}", zeros.len()), &zeros)]);
    let bomb = sealed(&tar, |encoder| {
        encoder.window_log(24).unwrap();
        encoder.long_distance_matching(true).unwrap();
    });
    assert!(bomb.len() < 10_000, "{}", bomb.len());
    assert!(read(&bomb).is_err());
    // Within it, a reader takes as much as it asks for.
    let bytes = sealed(&tar, |_| ());
    let mut reader = Reader::new(&bytes[..]).unwrap();
    reader.next_entry().unwrap();
    reader.next_entry().unwrap();
    let why = reader.bounded(1000).unwrap_err().to_string();
    assert!(why.contains("longer than 1000"), "{why}");
}

#[test]
fn other_files_are_told_from_damaged_ones() {
    for bytes in [
        &b""[..],
        b"hello",
        &[0; 4096],
        &sealed(b"", |_| ()),
        &sealed(&[0; 5000], |_| ()),
    ] {
        assert!(read(bytes).is_err());
    }
    let foreign = read(&[1; 4096]).unwrap_err();
    assert!(matches!(foreign, BackupError::Foreign(_)), "{foreign:?}");
    let mut tar = plain("other", "00000000002", b"{}").bytes();
    tar.extend([0; 1024]);
    let foreign = read(&sealed(&tar, |_| ())).unwrap_err();
    assert!(matches!(foreign, BackupError::Foreign(_)), "{foreign:?}");
    // Two frames, or none sealed.
    let bytes = small();
    let twice = [&bytes[..bytes.len() - 56], &bytes[..]].concat();
    assert!(read(&twice).is_err());
    // Without its sums.
    let tar = [plain(INFO, "00000000002", b"{}").bytes(), vec![0; 1024]].concat();
    let why = read(&sealed(&tar, |_| ())).unwrap_err().to_string();
    assert!(why.contains("without its sums"), "{why}");
}

#[test]
fn a_medium_that_fails_is_told_from_damage() {
    struct Failing(usize);
    impl std::io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let bytes = small();
            if self.0 == 0 {
                return Err(std::io::Error::from_raw_os_error(5));
            }
            let count = buffer.len().min(self.0);
            let at = bytes.len() / 2 - self.0;
            buffer[..count].copy_from_slice(&bytes[at..at + count]);
            self.0 -= count;
            Ok(count)
        }
    }
    let mut reader = Reader::new(Failing(small().len() / 2)).unwrap();
    let why = loop {
        match reader.next_entry() {
            Ok(entry) => assert!(entry.is_some()),
            Err(why) => break why,
        }
    };
    assert!(
        matches!(&why, BackupError::Io(why) if why.raw_os_error() == Some(5)),
        "{why:?}"
    );
}
