//! What a power cut leaves on a disk, from the log of its writes.
//!
//! A flush that the disk has answered made everything before it durable. Of what
//! came after, a disk with a volatile cache may have written any part, in any
//! order: here a seeded choice of the requests survives, and of some of those
//! only a choice of their 512-byte sectors. A sector is whole, old or new.
//!
//! One write is never torn, because Btrfs itself would not survive it: its
//! superblock, 4 KiB at fixed places, whose checksum covers all of it
//! (fs/btrfs/disk-io.c, `write_dev_supers`). Every file system of one-block
//! commits assumes that much of a disk, and disks write 4 KiB blocks whole.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::chance::Chance;
use crate::error::{Context, Result};
use crate::logwrites::Entry;

const SECTOR: usize = 512;

/// Where Btrfs keeps its superblocks (`btrfs_sb_offset`), and their length.
const SUPERBLOCKS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
const SUPERBLOCK_BYTES: usize = 4096;

/// Bytes that reached the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// First byte on the disk.
    pub offset: u64,
    /// The data.
    pub data: &'a [u8],
}

/// What became of the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// Requests that a flush had made durable.
    pub durable: usize,
    /// Requests of the rest that survived whole.
    pub kept: usize,
    /// That survived in part.
    pub torn: usize,
    /// That are lost.
    pub lost: usize,
}

/// Which requests nothing can take back: all up to the last flush, and those
/// that the disk was told to write through.
pub fn durable(entries: &[Entry]) -> Vec<bool> {
    let last = entries.iter().rposition(|entry| entry.flush);
    let is_durable = |(at, entry): (usize, &Entry)| match last {
        // The flush of a request comes before its own data.
        Some(last) if at == last => entry.fua || entry.data.is_none(),
        Some(last) => at < last || entry.fua,
        None => entry.fua,
    };
    entries.iter().enumerate().map(is_durable).collect()
}

/// The least a disk may keep: what is durable.
pub fn least(entries: &[Entry]) -> (Vec<Piece<'_>>, Tally) {
    survivors(entries, |_| Fate::Lost)
}

/// What a disk kept that did with the rest as `chance` has it.
pub fn random<'a>(entries: &'a [Entry], chance: &mut Chance) -> (Vec<Piece<'a>>, Tally) {
    // Nothing and everything are the ends that a fair coin hardly ever reaches.
    let kept = *chance.pick(&[0, 10, 50, 50, 90, 100]).unwrap_or(&50);
    let torn = *chance.pick(&[0, 30, 60]).unwrap_or(&0);
    survivors(entries, |entry| {
        if !chance.per_cent(kept) {
            return Fate::Lost;
        }
        let sectors = entry.data.as_ref().map_or(0, |data| data.len() / SECTOR);
        if sectors < 2 || is_superblock(entry) || !chance.per_cent(torn) {
            return Fate::Whole;
        }
        Fate::Torn((0..sectors).map(|_| chance.per_cent(50)).collect())
    })
}

enum Fate {
    Whole,
    Torn(Vec<bool>),
    Lost,
}

fn is_superblock(entry: &Entry) -> bool {
    SUPERBLOCKS.contains(&entry.offset)
        && entry
            .data
            .as_ref()
            .is_some_and(|data| data.len() == SUPERBLOCK_BYTES)
}

fn survivors(entries: &[Entry], mut fate: impl FnMut(&Entry) -> Fate) -> (Vec<Piece<'_>>, Tally) {
    let mut pieces = Vec::new();
    let mut tally = Tally::default();
    for (entry, durable) in entries.iter().zip(durable(entries)) {
        let data = entry.data.as_deref();
        if durable {
            tally.durable += 1;
            pieces.extend(data.map(|data| whole(entry, data)));
            continue;
        }
        let Some(data) = data else { continue };
        match fate(entry) {
            Fate::Lost => tally.lost += 1,
            Fate::Whole => {
                tally.kept += 1;
                pieces.push(whole(entry, data));
            }
            Fate::Torn(written) => {
                tally.torn += 1;
                let mut offset = entry.offset;
                for (data, written) in data.chunks(SECTOR).zip(written) {
                    if written {
                        pieces.push(Piece { offset, data });
                    }
                    offset += SECTOR as u64;
                }
            }
        }
    }
    (pieces, tally)
}

fn whole<'a>(entry: &Entry, data: &'a [u8]) -> Piece<'a> {
    Piece {
        offset: entry.offset,
        data,
    }
}

/// Writes `pieces`, in their order, to the image `disk`.
pub fn write(pieces: &[Piece<'_>], disk: &Path) -> Result<()> {
    let file = OpenOptions::new().write(true).open(disk).at("open", disk)?;
    for piece in pieces {
        file.write_all_at(piece.data, piece.offset)
            .at("write", disk)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(offset: u64, data: &[u8], flush: bool, fua: bool) -> Entry {
        Entry {
            offset,
            length: data.len() as u64,
            data: (!data.is_empty()).then(|| data.to_vec()),
            flush,
            fua,
        }
    }

    fn offsets(pieces: &[Piece<'_>]) -> Vec<u64> {
        pieces.iter().map(|piece| piece.offset).collect()
    }

    #[test]
    fn the_least_is_what_was_flushed_or_written_through() {
        let log = [
            entry(0, &[1; 512], false, false),
            entry(0, &[], true, false),
            entry(512, &[2; 512], false, false),
            entry(1024, &[3; 512], false, true),
        ];
        let (pieces, tally) = least(&log);
        assert_eq!(offsets(&pieces), [0, 1024]);
        assert_eq!((tally.durable, tally.lost), (3, 1));
        // A flush with data flushes what was before it, not itself.
        let log = [
            entry(0, &[1; 512], false, false),
            entry(512, &[2; 512], true, false),
        ];
        assert_eq!(offsets(&least(&log).0), [0]);
        assert!(least(&log[..1]).0.is_empty());
    }

    #[test]
    fn every_choice_keeps_what_is_durable_and_the_order() {
        let mut log = vec![
            entry(0, &[1; 4096], false, false),
            entry(0, &[], true, false),
        ];
        log.extend((1..9).map(|at| entry(at * 8192, &[7; 4096], false, false)));
        let mut seen = Tally::default();
        for seed in 0..300 {
            let (pieces, tally) = random(&log, &mut Chance::new(seed, 0));
            assert_eq!(pieces[0].data.len(), 4096);
            assert!(offsets(&pieces).is_sorted());
            assert_eq!(tally.kept + tally.torn + tally.lost, 8);
            assert_eq!(
                (offsets(&pieces), tally),
                {
                    let (again, tally) = random(&log, &mut Chance::new(seed, 0));
                    (offsets(&again), tally)
                },
                "the same seed leaves the same disk"
            );
            seen.kept = seen.kept.max(tally.kept);
            seen.lost = seen.lost.max(tally.lost);
            seen.torn = seen.torn.max(tally.torn);
        }
        assert_eq!((seen.kept, seen.lost), (8, 8));
        assert!(seen.torn > 1);
    }

    #[test]
    fn what_is_torn_keeps_whole_sectors_of_the_new_data() {
        let data: Vec<u8> = (0..8_u8).flat_map(|sector| [sector; 512]).collect();
        let log = [entry(1 << 20, &data, false, false)];
        let torn = (0..200).find_map(|seed| {
            let (pieces, tally) = random(&log, &mut Chance::new(seed, 0));
            (tally.torn == 1 && !pieces.is_empty()).then(|| {
                pieces
                    .iter()
                    .map(|piece| (piece.offset, piece.data.to_vec()))
                    .collect::<Vec<_>>()
            })
        });
        for (offset, bytes) in torn.unwrap() {
            let sector = (offset - (1 << 20)) / 512;
            assert_eq!(bytes, [u8::try_from(sector).unwrap(); 512]);
        }
    }

    #[test]
    fn a_superblock_is_lost_or_whole() {
        let log: Vec<Entry> = (0..20)
            .map(|_| entry(64 << 10, &[9; 4096], false, false))
            .collect();
        for seed in 0..200 {
            assert_eq!(random(&log, &mut Chance::new(seed, 0)).1.torn, 0);
        }
    }

    #[test]
    fn a_later_write_to_the_same_place_wins() {
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk");
        std::fs::write(&disk, [0; 1024]).unwrap();
        let log = [
            entry(0, &[1; 512], false, false),
            entry(0, &[2; 512], false, false),
            entry(0, &[], true, false),
        ];
        write(&least(&log).0, &disk).unwrap();
        let bytes = std::fs::read(&disk).unwrap();
        assert_eq!((bytes[0], bytes[511], bytes[512]), (2, 2, 0));
    }
}
