//! Backups of any bytes. What an input's first byte says: the file as it is, a
//! tar in a whole file, members in a tar with its sums right, or what a backup
//! says of itself. What is accepted is written back the same.
#![no_main]

use std::io::{Read as _, Write as _};

use libfuzzer_sys::fuzz_target;
use op_dbus_backup::fuzzing::{header, seal};
use op_dbus_backup::{BackupError, Entry, INFO, Info, Reader, SUMS, Writer};
use sha2::{Digest as _, Sha256};

/// Content of a member that is looked at.
const BOUND: usize = 1 << 16;

type Entries = Vec<(Entry, Vec<u8>)>;

fn read(bytes: &[u8]) -> Result<Entries, BackupError> {
    let mut reader = Reader::new(bytes)?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        let read = reader
            .content()
            .take(BOUND as u64 + 1)
            .read_to_end(&mut content);
        read.map_err(|why| reader.failed(&why))?;
        entries.push((entry, content));
    }
    reader.finish()?;
    Ok(entries)
}

fn sealed(tar: &[u8]) -> Vec<u8> {
    seal(zstd::encode_all(tar, 1).expect("compresses"))
}

/// Members out of an input: the length of a name, the name, two bytes of length,
/// the content.
fn tar(mut data: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    let mut sums = String::new();
    let mut add = |name: &str, content: &[u8], sums: &mut String| {
        tar.extend(header(name, content.len() as u64));
        tar.extend(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
        let sum = op_dbus_backup::Digest(Sha256::digest(content).into());
        sums.push_str(&format!("{sum}  {name}\n"));
    };
    add(INFO, b"{}", &mut sums);
    while let Some((&length, rest)) = data.split_first() {
        let Some((name, rest)) = rest.split_at_checked(usize::from(length) % 100) else {
            break;
        };
        let Some(([low, high], rest)) = rest.split_first_chunk::<2>().map(|(a, b)| (*a, b)) else {
            break;
        };
        let size = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (content, rest) = rest.split_at(size);
        add(&String::from_utf8_lossy(name), content, &mut sums);
        data = rest;
    }
    let text = sums.clone();
    add(SUMS, text.as_bytes(), &mut sums);
    tar.extend([0; 1024]);
    tar
}

/// Writes what was read, and returns the tar.
fn rewrite(entries: &Entries) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).expect("begins");
    for (entry, content) in entries {
        match entry {
            Entry::File(name, _) => writer.file(name, content).expect("was accepted"),
            Entry::Stream(name) => {
                let mut stream = writer.stream(name).expect("was accepted");
                stream.write_all(content).expect("in memory");
                stream.finish().expect("in memory");
            }
        }
    }
    let (bytes, _) = writer.finish().expect("in memory");
    zstd::stream::read::Decoder::new(&bytes[..])
        .and_then(|decoder| {
            let mut tar = Vec::new();
            decoder.single_frame().read_to_end(&mut tar).map(|_| tar)
        })
        .expect("was just written")
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    match kind % 4 {
        0 => {
            let _ = read(data);
        }
        1 | 2 => {
            let tar = if kind % 4 == 1 {
                data.to_vec()
            } else {
                tar(data)
            };
            if let Ok(entries) = read(&sealed(&tar)) {
                if entries.iter().all(|(_, content)| content.len() <= BOUND) {
                    assert!(rewrite(&entries) == tar);
                }
            }
        }
        _ => {
            if let Ok(info) = Info::parse(data) {
                let again = info.encode().expect("was accepted");
                assert_eq!(Info::parse(&again).expect("was written"), info);
            }
        }
    }
});
