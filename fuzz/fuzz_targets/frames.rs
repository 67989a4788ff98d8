//! Takes a stream apart into commands and puts it together with right lengths
//! and checksums, so that mutations reach what lies behind them.

use libfuzzer_sys::fuzzer_mutate;
use op_dbus_sendstream::wire::{COMMAND_HEADER, STREAM_HEADER, command_crc};

/// A stream as its header and commands, however damaged.
struct Frames {
    header: Vec<u8>,
    commands: Vec<Frame>,
}

#[derive(Clone)]
struct Frame {
    number: u16,
    body: Vec<u8>,
}

/// xorshift64*: enough to choose what to mutate, and the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).unwrap_or(0) % limit.max(1)
    }
}

impl Frames {
    /// A length beyond the end means the rest.
    fn of(bytes: &[u8]) -> Self {
        let (header, mut rest) = bytes.split_at(bytes.len().min(STREAM_HEADER));
        let mut commands = Vec::new();
        while let Some((head, after)) = rest.split_first_chunk::<COMMAND_HEADER>() {
            let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let (body, after) = after.split_at(after.len().min(length));
            commands.push(Frame {
                number: u16::from_le_bytes([head[4], head[5]]),
                body: body.to_vec(),
            });
            rest = after;
        }
        Self {
            header: header.to_vec(),
            commands,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.clone();
        for Frame { number, body } in &self.commands {
            let mut head = [0; COMMAND_HEADER];
            head[..4].copy_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_le_bytes());
            head[4..6].copy_from_slice(&number.to_le_bytes());
            let crc = command_crc(head, body);
            head[6..].copy_from_slice(&crc.to_le_bytes());
            bytes.extend(head);
            bytes.extend(body);
        }
        bytes
    }
}

/// The same stream with lengths that fit and checksums that are right.
#[must_use]
pub fn mended(bytes: &[u8]) -> Vec<u8> {
    Frames::of(bytes).bytes()
}

/// Mutates one command, or their order, and mends the result.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut chance = Chance(u64::from(seed) << 1 | 1);
    let mut frames = Frames::of(&data[..size]);
    let count = frames.commands.len();
    if count == 0 || chance.below(16) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let (at, other) = (chance.below(count), chance.below(count));
    match chance.below(8) {
        0 => {
            frames.commands.remove(at);
        }
        1 => {
            let copy = frames.commands[at].clone();
            frames.commands.insert(other, copy);
        }
        2 => frames.commands.swap(at, other),
        3 => frames.commands[at].number = u16::try_from(chance.below(30)).unwrap_or(0),
        4 => transplant(&mut frames, at, other, &mut chance),
        _ => mutate_body(&mut frames.commands[at].body),
    }
    let bytes = frames.bytes();
    // Too long for libFuzzer: left as it was.
    let Some(room) = data[..max_size].get_mut(..bytes.len()) else {
        return size;
    };
    room.copy_from_slice(&bytes);
    bytes.len()
}

fn mutate_body(body: &mut Vec<u8>) {
    let (length, room) = (body.len(), body.len() + 64);
    body.resize(room, 0);
    let length = fuzzer_mutate(body, length, room);
    body.truncate(length);
}

/// Replaces the value of one attribute by one of another command, or mutates it.
fn transplant(frames: &mut Frames, at: usize, other: usize, chance: &mut Chance) {
    let values = attributes(&frames.commands[other].body);
    let value = match values.get(chance.below(values.len())) {
        Some((_, value)) if chance.below(2) == 0 => value.clone(),
        _ => Vec::new(),
    };
    let mut attrs = attributes(&frames.commands[at].body);
    if attrs.is_empty() {
        return;
    }
    let chosen = chance.below(attrs.len());
    if value.is_empty() {
        mutate_body(&mut attrs[chosen].1);
    } else {
        attrs[chosen].1 = value;
    }
    let body = &mut frames.commands[at].body;
    body.clear();
    for (number, value) in attrs {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        body.extend(number.to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend(&value[..usize::from(length)]);
    }
}

/// Attributes with a length of their own, as far as they go.
fn attributes(body: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = body;
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let number = u16::from_le_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let (value, after) = after.split_at(after.len().min(length));
        found.push((number, value.to_vec()));
        rest = after;
    }
    found
}
