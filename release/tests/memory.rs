//! How much memory reading a stream takes: a bound, however long the stream is.
//!
//! A program of its own, since it looks at the memory of its whole process.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write};
use std::time::Duration;

use op_dbus_bootstate::Uuid;
use op_dbus_release::chunks::{Verified, Writer};
use op_dbus_release::manifest::{CHUNK_SIZES, Compression, Stream};

/// What `Verified` promises, in bytes.
const BOUND: u64 = 17 << 20;
/// What the rest of the process may take meanwhile: stacks, allocator.
const SLACK: u64 = 4 << 20;
/// Length of the stream, in bytes.
const LENGTH: u64 = 100 << 20;

/// The most memory the process has had resident since [`forget`], in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}

/// `proc_pid_clear_refs(5)`: the peak begins anew.
fn forget() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Writes a stream that needs the largest window, and 1 MiB of it at a time.
fn write(file: File, compression: Compression) -> (File, Stream) {
    let chunk_size = *CHUNK_SIZES.end();
    let mut writer = Writer::new(file, chunk_size);
    {
        let mut encoder: Box<dyn Write> = match compression {
            Compression::None => Box::new(&mut writer),
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(&mut writer, 1).unwrap();
                encoder
                    .window_log(op_dbus_release::chunks::WINDOW_LOG_MAX)
                    .unwrap();
                Box::new(encoder.auto_finish())
            }
        };
        let mut part: Vec<u8> = (0_u32..1 << 18)
            .flat_map(|number| number.wrapping_mul(0x9e37_79b1).to_le_bytes())
            .collect();
        for index in 0..LENGTH >> 20 {
            let change = usize::try_from(index).unwrap() * 1000;
            part[change..change + 1000].fill(b'.');
            encoder.write_all(&part).unwrap();
        }
    }
    let (mut file, written) = writer.finish();
    file.rewind().unwrap();
    let stream = Stream {
        file: "stream".to_owned(),
        size: written.size,
        sha256: written.sha256,
        chunks: written.chunks,
        compression,
        stream_bytes: LENGTH,
        content_bytes: 0,
        uuid: Uuid([1; 16]),
        parent: None,
    };
    (file, stream)
}

#[test]
fn memory_is_bounded_however_slow_the_reader() {
    for compression in [Compression::None, Compression::Zstd] {
        let (file, stream) = write(tempfile::tempfile().unwrap(), compression);
        let mut buffer = vec![0; 1 << 20];
        forget();
        let before = peak();
        let mut reader = Verified::new(file, &stream, *CHUNK_SIZES.end());
        // The thread gets as far ahead as it can.
        std::thread::sleep(Duration::from_millis(300));
        let mut total = 0;
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => break,
                count => total += count as u64,
            }
        }
        assert_eq!(total, LENGTH);
        let grown = peak().saturating_sub(before);
        eprintln!("{compression:?}: {} KiB", grown >> 10);
        assert!(
            grown < BOUND + SLACK,
            "{compression:?}: {} KiB",
            grown >> 10
        );
    }
}
