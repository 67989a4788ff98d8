//! The attributes of one command.

use crate::error::Problem;
use crate::wire::{ATTRS_V1, ATTRS_V2, ATTRS_V3, Attr, Command};

const SLOTS: usize = ATTRS_V3 as usize + 1;

/// One command with its attributes, borrowed from the walker's buffer.
#[derive(Debug, Clone)]
pub struct Parsed<'a> {
    /// Which command.
    pub command: Command,
    values: [Option<&'a [u8]>; SLOTS],
}

impl<'a> Parsed<'a> {
    /// Takes a command's body apart. Every byte of it belongs to a known
    /// attribute, and no attribute stands twice: a reader that takes the first
    /// and one that takes the last must not see different commands.
    pub fn new(command: Command, version: u32, body: &'a [u8]) -> Result<Self, Problem> {
        let known = match version {
            0 | 1 => ATTRS_V1,
            2 => ATTRS_V2,
            _ => ATTRS_V3,
        };
        let mut values = [None; SLOTS];
        let mut rest = body;
        while !rest.is_empty() {
            let number = take_u16(&mut rest)?;
            if number == 0 || number > known {
                return Err(Problem::UnknownAttribute(number));
            }
            // Version 2: data has no length of its own and ends the command.
            let length = if version >= 2 && number == Attr::Data.number() {
                rest.len()
            } else {
                usize::from(take_u16(&mut rest)?)
            };
            let (value, after) = rest
                .split_at_checked(length)
                .ok_or(Problem::AttributeBounds)?;
            rest = after;
            let slot = values
                .get_mut(usize::from(number))
                .ok_or(Problem::UnknownAttribute(number))?;
            if slot.replace(value).is_some() {
                return Err(Problem::RepeatedAttribute(number));
            }
        }
        Ok(Self { command, values })
    }

    /// An attribute that may be missing.
    pub fn optional(&self, attr: Attr) -> Option<&'a [u8]> {
        self.values
            .get(usize::from(attr.number()))
            .copied()
            .flatten()
    }

    /// An attribute that must be there.
    pub fn bytes(&self, attr: Attr) -> Result<&'a [u8], Problem> {
        self.optional(attr).ok_or(Problem::Missing {
            command: self.command,
            attr,
        })
    }

    fn array<const N: usize>(&self, attr: Attr) -> Result<[u8; N], Problem> {
        let bytes = self.bytes(attr)?;
        bytes.try_into().map_err(|_| Problem::AttributeSize {
            attr,
            found: bytes.len(),
            expected: N,
        })
    }

    /// A 64-bit number.
    pub fn u64(&self, attr: Attr) -> Result<u64, Problem> {
        self.array(attr).map(u64::from_le_bytes)
    }

    /// A 32-bit number.
    pub fn u32(&self, attr: Attr) -> Result<u32, Problem> {
        self.array(attr).map(u32::from_le_bytes)
    }

    /// A 32-bit number that may be missing.
    pub fn optional_u32(&self, attr: Attr) -> Result<Option<u32>, Problem> {
        match self.optional(attr) {
            Some(_) => self
                .array(attr)
                .map(|bytes| Some(u32::from_le_bytes(bytes))),
            None => Ok(None),
        }
    }

    /// A UUID.
    pub fn uuid(&self, attr: Attr) -> Result<[u8; 16], Problem> {
        self.array(attr)
    }

    /// A time. Nanoseconds beyond a second would be instructions to the kernel
    /// (`UTIME_NOW`, `UTIME_OMIT`), so they are refused.
    pub fn time(&self, attr: Attr) -> Result<Time, Problem> {
        let bytes: [u8; 12] = self.array(attr)?;
        let (Some(seconds), Some(nanoseconds)) = (bytes.first_chunk(), bytes.last_chunk()) else {
            return Err(Problem::Time(attr));
        };
        let nanoseconds = u32::from_le_bytes(*nanoseconds);
        if nanoseconds >= 1_000_000_000 {
            return Err(Problem::Time(attr));
        }
        Ok(Time {
            seconds: i64::from_le_bytes(*seconds),
            nanoseconds,
        })
    }
}

/// A point in time, as the kernel keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970, UTC.
    pub seconds: i64,
    /// Nanoseconds, below a second.
    pub nanoseconds: u32,
}

fn take_u16(rest: &mut &[u8]) -> Result<u16, Problem> {
    let (bytes, after) = rest
        .split_first_chunk::<2>()
        .ok_or(Problem::AttributeBounds)?;
    *rest = after;
    Ok(u16::from_le_bytes(*bytes))
}
