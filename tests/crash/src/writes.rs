//! Which blocks of a block device were written to: the kernel's tracepoint
//! `block_rq_issue` tells of every request that a driver is given.
//!
//! It is read through rings of perf events, one for each processor, into which the
//! kernel puts a record for each request of that device. A kernel without
//! tracepoints, a host without tracefs: then nobody tells, and that is an error of
//! [`Writes::to`]. What did not fit into a ring is an answer of [`Writes::take`].
#![allow(unsafe_code)]

use std::ffi::{c_int, c_ulong, c_void};
use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;
use rustix::mm::{MapFlags, ProtFlags};

use crate::content::{BLOCK, SECTOR};

/// Where tracefs is, or used to be.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const EVENT: &str = "events/block/block_rq_issue";
/// Bytes for records, in each ring: some two thousand.
const ROOM: usize = 256 << 10;
/// No record is as long as this.
const LONGEST: usize = 1 << 10;
/// A page of `struct perf_event_mmap_page` comes first.
const HEAD: usize = 4096;
// `<linux/perf_event.h>`
const TRACEPOINT: u32 = 2;
const RAW: u64 = 1 << 10;
const RECORD_SAMPLE: u32 = 9;
const FLAG_FD_CLOEXEC: c_ulong = 8;
const SET_FILTER: c_ulong = 0x4008_2406;
/// Of `struct perf_event_mmap_page`.
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// `struct perf_event_attr`, as its first version had it.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    period: u64,
    sample: u64,
    read: u64,
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    more: u64,
}

/// Where a record of the tracepoint holds what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fields {
    sector: usize,
    sectors: usize,
    operation: usize,
}

/// What is told of one block device.
#[derive(Debug)]
pub(crate) struct Writes {
    rings: Vec<Ring>,
    fields: Fields,
    record: Vec<u8>,
}

impl Writes {
    /// From now on.
    pub(crate) fn to(node: &Path) -> io::Result<Self> {
        let event = PLACES.map(|place| Path::new(place).join(EVENT));
        let event = event.iter().find(|event| event.is_dir());
        let event = event.ok_or(io::ErrorKind::NotFound)?;
        let text = fs::read_to_string(event.join("id"))?;
        let id = text.trim().parse().map_err(io::Error::other)?;
        let fields = Fields::of(&fs::read_to_string(event.join("format"))?);
        let fields = fields.ok_or(io::ErrorKind::InvalidData)?;
        let device = fs::metadata(node)?.rdev();
        let (major, minor) = (libc::major(device), libc::minor(device));
        // As the kernel keeps it, `MKDEV()`.
        let device = u64::from(major) << 20 | u64::from(minor);
        let filter = format!("dev == {device} && !(rwbs ~ \"R*\")\0");
        let rings = processors()?.into_iter().map(|cpu| {
            let ring = Ring::new(id, cpu)?;
            ring.filter(filter.as_bytes())?;
            Ok(ring)
        });
        Ok(Self {
            rings: rings.collect::<io::Result<_>>()?,
            fields,
            record: Vec::new(),
        })
    }

    /// The blocks that were written to since the last call, some perhaps twice.
    /// None where the kernel did not tell of all.
    pub(crate) fn take(&mut self) -> Option<Vec<Range<usize>>> {
        let (fields, mut written, mut whole) = (self.fields, Vec::new(), true);
        for ring in &mut self.rings {
            let all = ring.drain(&mut self.record, |kind, data| {
                let told = (kind == RECORD_SAMPLE).then(|| fields.told(data)).flatten();
                match told {
                    Some(blocks) if !blocks.is_empty() => written.push(blocks),
                    Some(_) => {}
                    // Records were lost, or are none that we know.
                    None => whole = false,
                }
            });
            whole &= all;
        }
        whole.then_some(written)
    }
}

impl Fields {
    /// From the description of the event.
    fn of(format: &str) -> Option<Self> {
        let offset = |field: &str, size: usize| {
            let name = |line: &&str| {
                let name = line
                    .split(';')
                    .next()
                    .and_then(|line| line.split(' ').next_back());
                name.is_some_and(|name| name.split('[').next() == Some(field))
            };
            let line = format.lines().find(name)?;
            let number = |key: &str| -> Option<usize> {
                let (_, behind) = line.split_once(key)?;
                behind.split(';').next()?.parse().ok()
            };
            (number("size:")? >= size).then(|| number("offset:"))?
        };
        Some(Self {
            sector: offset("sector", 8)?,
            sectors: offset("nr_sector", 4)?,
            operation: offset("rwbs", 1)?,
        })
    }

    /// The blocks that a request may change; none where it only reads. The first
    /// four bytes are the length of the rest.
    fn told(self, record: &[u8]) -> Option<Range<usize>> {
        let data = record.get(4..)?;
        let sector = data.get(self.sector..)?.first_chunk()?;
        let sectors = data.get(self.sectors..)?.first_chunk()?;
        let sectors = u32::from_ne_bytes(*sectors);
        // A flush before it comes first, what kind of read it is comes last.
        let operation = data.get(self.operation..)?;
        if sectors == 0 || operation.first() == Some(&b'R') {
            return Some(0..0);
        }
        let first = usize::try_from(u64::from_ne_bytes(*sector)).ok()?;
        let end = first.checked_add(usize::try_from(sectors).ok()?)?;
        let within = BLOCK / SECTOR;
        Some(first / within..end.div_ceil(within))
    }
}

/// The numbers of all processors that run.
fn processors() -> io::Result<Vec<c_int>> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online")?;
    let number = |text: &str| text.trim().parse::<c_int>().map_err(io::Error::other);
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(number(first)?..=number(last)?);
    }
    Ok(all)
}

/// What happens on one processor.
#[derive(Debug)]
struct Ring {
    event: OwnedFd,
    mapped: *mut c_void,
}

// SAFETY: the mapping belongs to this value alone, wherever it is moved to.
unsafe impl Send for Ring {}

impl Ring {
    fn new(id: u64, cpu: c_int) -> io::Result<Self> {
        let attributes = Attributes {
            kind: TRACEPOINT,
            size: u32::try_from(size_of::<Attributes>()).map_err(io::Error::other)?,
            config: id,
            period: 1,
            sample: RAW,
            ..Attributes::default()
        };
        // SAFETY: the attributes are as long as they say, outlive the call, and the
        // kernel only reads them. All processes, one processor, no group.
        let event = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                -1,
                cpu,
                -1,
                FLAG_FD_CLOEXEC,
            )
        };
        let event = c_int::try_from(event).map_err(io::Error::other)?;
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else's.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, where nothing is.
        let mapped = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                HEAD + ROOM,
                rights,
                MapFlags::SHARED,
                &event,
                0,
            )
        }?;
        Ok(Self { event, mapped })
    }

    /// Only what this filter, with a zero behind it, lets pass.
    fn filter(&self, filter: &[u8]) -> io::Result<()> {
        // SAFETY: the argument is a text that ends with a zero and outlives the call,
        // which only reads it.
        let result = unsafe { libc::ioctl(self.event.as_raw_fd(), SET_FILTER, filter.as_ptr()) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// One of the two places up to which somebody has come.
    fn place(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: within the mapping's first page, which is aligned and stays as long
        // as `self`; the kernel, too, changes it as a whole.
        unsafe { &*self.mapped.cast::<u8>().wrapping_add(offset).cast() }
    }

    /// Kind and content of each record, which is put into `record` meanwhile. Whether
    /// there was room for all: the kernel says that there was none only in the next
    /// record that it has room for.
    fn drain(&mut self, record: &mut Vec<u8>, mut told: impl FnMut(u32, &[u8])) -> bool {
        let head = self.place(DATA_HEAD).load(Ordering::Acquire);
        let mut tail = self.place(DATA_TAIL).load(Ordering::Relaxed);
        let had_room = head - tail < (ROOM - LONGEST) as u64;
        while tail < head {
            self.copy(tail, 8, record);
            let word = |at: usize| record.get(at..).and_then(<[u8]>::first_chunk).copied();
            let (Some(kind), Some([_, _, low, high])) = (word(0), word(4)) else {
                break;
            };
            let length = u16::from_ne_bytes([low, high]).max(8);
            self.copy(tail + 8, usize::from(length) - 8, record);
            told(u32::from_ne_bytes(kind), record);
            tail += u64::from(length);
        }
        self.place(DATA_TAIL).store(head, Ordering::Release);
        had_room
    }

    fn copy(&self, from: u64, length: usize, to: &mut Vec<u8>) {
        to.clear();
        let room = ROOM as u64;
        for at in from..from + length as u64 {
            let at = usize::try_from(at % room).unwrap_or_default();
            let byte = self.mapped.cast::<u8>().wrapping_add(HEAD + at);
            // SAFETY: within the mapping; the kernel does not write to what lies
            // between tail and head.
            to.push(unsafe { ptr::read_volatile(byte) });
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.mapped, HEAD + ROOM) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::device::Device;
    use crate::memory::Memory;

    const FORMAT: &str = "\
name: block_rq_issue
format:
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:dev_t dev;\toffset:8;\tsize:4;\tsigned:0;
\tfield:sector_t sector;\toffset:16;\tsize:8;\tsigned:0;
\tfield:unsigned int nr_sector;\toffset:24;\tsize:4;\tsigned:0;
\tfield:char rwbs[10];\toffset:34;\tsize:10;\tsigned:0;
";

    #[test]
    fn a_record_says_which_blocks_a_request_may_change() {
        let fields = Fields::of(FORMAT).unwrap();
        let told = |operation: &[u8], sector: u64, sectors: u32| {
            let mut record = vec![0; 4 + 44];
            record[20..28].copy_from_slice(&sector.to_ne_bytes());
            record[28..32].copy_from_slice(&sectors.to_ne_bytes());
            record[38..38 + operation.len()].copy_from_slice(operation);
            fields.told(&record)
        };
        assert_eq!(told(b"WS", 16, 8), Some(2..3));
        assert_eq!(told(b"FWS", 15, 2), Some(1..3));
        assert_eq!(told(b"D", 80, 80), Some(10..20));
        assert_eq!(told(b"N", 80, 80), Some(10..20));
        assert_eq!(told(b"RM", 16, 8), Some(0..0));
        assert_eq!(told(b"FF", u64::MAX, 0), Some(0..0));
        assert_eq!(fields.told(&[0; 20]), None);
        assert_eq!(Fields::of(&FORMAT.replace("nr_sector", "other")), None);
        assert_eq!(Fields::of(&FORMAT.replace("size:8", "size:4")), None);
    }

    #[test]
    fn every_write_is_told_and_too_many_are_known_to_be() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let memory = Memory::new(4096, "test").unwrap();
        let device = Device::on(memory.file(), false).unwrap();
        let mut writes = match Writes::to(device.node()) {
            Ok(writes) => writes,
            Err(why) => {
                eprintln!("SKIPPED: needs tracefs: {why}");
                return;
            }
        };
        let options = fs::OpenOptions::new().write(true).open(device.node());
        let file = options.unwrap();
        assert_eq!(writes.take(), Some(Vec::new()));
        for block in [7, 9, 4095] {
            file.write_all_at(&[7; BLOCK], block * BLOCK as u64)
                .unwrap();
            file.sync_all().unwrap();
        }
        fs::read(device.node()).unwrap();
        let blocks = |written: Option<Vec<Range<usize>>>| {
            let mut blocks: Vec<_> = written.unwrap().into_iter().flatten().collect();
            blocks.sort_unstable();
            blocks.dedup();
            blocks
        };
        assert_eq!(blocks(writes.take()), [7, 9, 4095]);
        assert_eq!(writes.take(), Some(Vec::new()));
        // More than the rings can hold.
        for round in 0..8000 {
            file.write_all_at(&[8; BLOCK], round % 2 * BLOCK as u64)
                .unwrap();
            file.sync_data().unwrap();
        }
        assert_eq!(writes.take(), None);
        // The kernel says so, too, with the next record for the same ring.
        let told = (0..8).filter_map(|_| {
            file.write_all_at(&[9; BLOCK], 6 * BLOCK as u64).unwrap();
            file.sync_all().unwrap();
            let written = writes.take();
            written.is_some().then(|| blocks(written))
        });
        let told: Vec<_> = told.collect();
        assert!(told.len() > 3 && told.iter().all(|blocks| blocks == &[6]));
    }
}
