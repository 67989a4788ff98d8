//! Three copies of a boot record, of any bytes: whatever they amount to, a
//! commit and a repair leave two equal ones, and a boot gets an answer.
//!
//! Each copy is a byte that says what it is, two bytes of length, and so many
//! bytes. As any change breaks the checksum, most are framed and sealed here.
#![no_main]

use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use op_dbus_bootstate::codec::{self, BLOCK, Block};
use op_dbus_bootstate::record::Limits;
use op_dbus_bootstate::select::{BootInput, select};
use op_dbus_bootstate::store::{CommitError, Copy, Storage, Verdict, Writer};
use op_dbus_bootstate::{BootId, Record, transition};

#[derive(Debug, Default)]
struct Medium([Option<Vec<u8>>; 3]);

impl Medium {
    fn place(&mut self, copy: Copy) -> &mut Option<Vec<u8>> {
        &mut self.0[match copy {
            Copy::Zero => 0,
            Copy::One => 1,
            Copy::Blessed => 2,
        }]
    }
}

impl Storage for Medium {
    type Error = Infallible;

    fn read(&mut self, copy: Copy) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.place(copy).clone())
    }

    fn write(&mut self, copy: Copy, block: &Block) -> Result<(), Infallible> {
        *self.place(copy) = Some(block.to_vec());
        Ok(())
    }
}

/// A block around a payload, as a program of that format would write it.
fn sealed(format: u32, payload: &[u8]) -> Vec<u8> {
    let mut block = b"OPDBUSBR".to_vec();
    block.extend(format.to_le_bytes());
    block.extend(u32::try_from(payload.len()).unwrap_or(0).to_le_bytes());
    block.extend(payload);
    block.resize(BLOCK - 4, 0);
    let crc = crc32fast::hash(&block);
    block.extend(crc.to_le_bytes());
    block
}

fn copies(mut data: &[u8]) -> Medium {
    let mut medium = Medium::default();
    for copy in Copy::ALL {
        let Some((&[kind, low, high], rest)) = data.split_first_chunk() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes([low, high]));
        let (bytes, rest) = rest.split_at(length.min(rest.len()));
        data = rest;
        *medium.place(copy) = match kind % 8 {
            0 => None,
            1 => Some(bytes.to_vec()),
            2 => Some(sealed(u32::from(kind / 8), bytes)),
            _ => Some(sealed(codec::FORMAT, bytes)),
        };
    }
    medium
}

fn decided(record: &Record) {
    for durable in [false, true] {
        let input = BootInput {
            boot_id: BootId([7; 16]),
            select: None,
            named: None,
            limits: Limits::default(),
            durable,
            failures: &[],
        };
        let selection = select(record, &input);
        if let Some((_, deployment)) = &selection.candidate {
            assert!(!record.quarantine.contains(&deployment.digest));
        }
        if let Some(next) = &selection.record {
            assert!(durable, "nothing to write where nothing can be written");
            // What a boot counts always fits a block.
            codec::encode(next).expect("encodes");
        }
    }
    let _ = transition::cancel(record);
    let _ = transition::hand_over_attempts(record);
}

fuzz_target!(|data: &[u8]| {
    let mut writer = Writer::new(copies(data));
    let loaded = writer.load();
    let verdict = loaded.verdict();
    let record = verdict.record().cloned();
    if let Some(record) = &record {
        let block = codec::encode(record).expect("it was decoded");
        assert_eq!(codec::decode(&block).as_ref(), Ok(record));
        decided(record);
    }
    let before = loaded;
    match writer.repair() {
        Ok(_) => {}
        Err(CommitError::NewerFormat(_)) => {
            assert_eq!(writer.load(), before, "hands off");
            assert!(matches!(verdict, Verdict::NewerFormat(..)));
            return;
        }
        Err(why) => panic!("{why}"),
    }
    let mended = writer.load().verdict();
    match &mended {
        Verdict::Lost => assert_eq!(record, None),
        Verdict::Intact(mended) => {
            let mut mended = mended.clone();
            let record = record.as_ref().expect("there was one");
            // A rebuilt one counts as newer than all that is there.
            assert!(mended.sequence >= record.sequence);
            mended.sequence = record.sequence;
            assert_eq!(*mended, *record);
        }
        other => panic!("not mended: {other:?}"),
    }
    assert!(!writer.repair().expect("mends nothing"), "once is enough");

    let base = mended.record().cloned();
    let mut next = base.clone().unwrap_or_default();
    next.epoch_floor ^= 1;
    match writer.commit(base.as_ref(), next.clone()) {
        Ok(written) => {
            next.sequence = written.sequence;
            assert_eq!(written, next);
            assert_eq!(writer.load().verdict(), Verdict::Intact(Box::new(next)));
        }
        // One byte longer than the last that fitted.
        Err(CommitError::Codec(codec::CodecError::TooLarge)) => {}
        Err(why) => panic!("{why}"),
    }
});
