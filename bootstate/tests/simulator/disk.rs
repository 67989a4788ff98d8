//! A medium of sectors that does what it is told to.
//!
//! A copy of the record is a file of eight sectors of 512 bytes. A write goes
//! through a volatile cache and is flushed before it returns, so power that goes
//! within it leaves any subset of its sectors; a sector itself is old or new.

use op_dbus_bootstate::codec::{BLOCK, Block};
use op_dbus_bootstate::store::{Copy, Storage};

/// Bytes of a sector: what a medium writes wholly or not at all.
pub const SECTOR: usize = 512;

/// What happens at one call. The first half strikes reads, the second writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Error {
    /// Power goes before the call.
    PowerBefore,
    /// Power goes when it is done, before the program hears of it.
    PowerAfter,
    /// EIO; a write did not happen.
    Io,
    /// One bit of what is read is wrong, this once.
    FlipRead(u16),
    /// The file seems to be this short, this once.
    ShortRead(u16),
    /// The file seems to be missing, this once.
    MissingRead,
    /// Power goes within the write: these sectors are new.
    Torn(u8),
    /// EIO, and these sectors are new all the same.
    IoTorn(u8),
    /// ENOSPC; nothing was written.
    NoSpace,
    /// EROFS, now and from now on.
    ReadOnly,
    /// One bit is written wrong, and nobody is told.
    FlipWrite(u16),
}

/// Bits to flip: in every field of the header, in the payload, in the padding of
/// each sector, in the checksum. That any other bit does the same is shown in
/// `format`, for all of them.
const BITS: [u16; 14] = [
    0, 64, 96, 130, 200, 1500, 4097, 8200, 12300, 16400, 20500, 24600, 32736, 32767,
];

impl Error {
    /// Everything that can happen to a read.
    pub fn of_reads() -> Vec<Self> {
        let mut all = vec![Self::PowerBefore, Self::Io, Self::MissingRead];
        all.extend([0, 1, 16, 511, 512, 4095].map(Self::ShortRead));
        all.extend(BITS.map(Self::FlipRead));
        all
    }

    /// Everything that can happen to a write.
    pub fn of_writes() -> Vec<Self> {
        let mut all = vec![
            Self::PowerBefore,
            Self::PowerAfter,
            Self::Io,
            Self::NoSpace,
            Self::ReadOnly,
        ];
        all.extend((0..=u8::MAX).flat_map(|mask| [Self::Torn(mask), Self::IoTorn(mask)]));
        all.extend(BITS.map(Self::FlipWrite));
        all
    }

    /// The column it is counted in.
    pub fn word(self) -> &'static str {
        match self {
            Self::PowerBefore => "power before",
            Self::PowerAfter => "power after",
            Self::Io => "EIO",
            Self::FlipRead(_) | Self::FlipWrite(_) => "bit flip",
            Self::ShortRead(_) => "short file",
            Self::MissingRead => "missing file",
            Self::Torn(_) => "torn write",
            Self::IoTorn(_) => "EIO, part written",
            Self::NoSpace => "ENOSPC",
            Self::ReadOnly => "EROFS",
        }
    }

    /// One of each sort of outcome: of torn writes, those that leave nothing, all,
    /// the first or the last sector, all but one of these, every other one.
    pub fn is_typical(self) -> bool {
        match self {
            Self::Torn(mask) | Self::IoTorn(mask) => {
                [0, 0xff, 0x01, 0x80, 0xfe, 0x7f, 0x55].contains(&mask)
            }
            Self::FlipRead(bit) | Self::FlipWrite(bit) => [64, 200, 32767].contains(&bit),
            Self::ShortRead(length) => [0, 512].contains(&length),
            _ => true,
        }
    }

    /// Whether the program never hears the end of the call.
    fn cuts_power(self) -> bool {
        matches!(self, Self::PowerBefore | Self::PowerAfter | Self::Torn(_))
    }
}

/// One call the medium got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Read(Copy),
    Write(Copy),
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub &'static str);

/// The medium, with one error to come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    files: [Option<Vec<u8>>; 3],
    /// At which call, and what.
    pub error: Option<(usize, Error)>,
    pub calls: Vec<Call>,
    power_gone: bool,
    read_only: bool,
    /// Writes asked for after one was reported as failed: there must be none
    /// from the same writer.
    failed_at: Option<usize>,
}

impl Disk {
    pub fn holding(zero: Option<&Block>, one: Option<&Block>, blessed: Option<&Block>) -> Self {
        let file = |block: Option<&Block>| block.map(|block| block.to_vec());
        Self {
            files: [file(zero), file(one), file(blessed)],
            ..Self::default()
        }
    }

    pub fn files(&self) -> Vec<Option<Vec<u8>>> {
        self.files.to_vec()
    }

    pub fn file(&self, copy: Copy) -> Option<&[u8]> {
        self.files[copy as usize].as_deref()
    }

    /// The same files, after power came back.
    pub fn recovered(&self) -> Self {
        Self {
            files: self.files.clone(),
            ..Self::default()
        }
    }

    pub fn with_error(&self, at: usize, error: Error) -> Self {
        Self {
            error: Some((at, error)),
            ..self.recovered()
        }
    }

    pub fn has_power(&self) -> bool {
        !self.power_gone
    }

    /// Writes that came after one that was reported as failed.
    pub fn writes_after_failure(&self) -> usize {
        let after = self.failed_at.map_or(self.calls.len(), |at| at + 1);
        self.calls[after..]
            .iter()
            .filter(|call| matches!(call, Call::Write(_)))
            .count()
    }

    fn strike(&mut self, call: Call) -> Result<Option<Error>, Refused> {
        if self.power_gone {
            return Err(Refused("no power"));
        }
        let at = self.calls.len();
        self.calls.push(call);
        Ok(self
            .error
            .filter(|&(when, _)| when == at)
            .map(|(_, error)| error))
    }
}

fn flip(bytes: &mut [u8], bit: u16) {
    let bit = usize::from(bit);
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

impl Storage for &mut Disk {
    type Error = Refused;

    fn read(&mut self, copy: Copy) -> Result<Option<Vec<u8>>, Refused> {
        let error = self.strike(Call::Read(copy))?;
        let mut found = self.files[copy as usize].clone();
        match error {
            Some(Error::PowerBefore) => {
                self.power_gone = true;
                return Err(Refused("no power"));
            }
            Some(Error::Io) => return Err(Refused("EIO")),
            Some(Error::MissingRead) => return Ok(None),
            Some(Error::ShortRead(length)) => {
                if let Some(bytes) = &mut found {
                    bytes.truncate(usize::from(length));
                }
            }
            Some(Error::FlipRead(bit)) => {
                if let Some(bytes) = &mut found {
                    flip(bytes, bit);
                }
            }
            _ => {}
        }
        Ok(found)
    }

    fn write(&mut self, copy: Copy, block: &Block) -> Result<(), Refused> {
        let error = self.strike(Call::Write(copy))?;
        let new = match error {
            _ if self.read_only => 0,
            Some(Error::PowerBefore | Error::Io | Error::NoSpace | Error::ReadOnly) => 0,
            Some(Error::Torn(mask) | Error::IoTorn(mask)) => mask,
            _ => u8::MAX,
        };
        let file = self.files[copy as usize].get_or_insert_with(|| vec![0; BLOCK]);
        file.resize(BLOCK, 0);
        for (sector, (to, from)) in file
            .chunks_mut(SECTOR)
            .zip(block.chunks(SECTOR))
            .enumerate()
        {
            if new & 1 << sector != 0 {
                to.copy_from_slice(from);
            }
        }
        let result = match error {
            Some(error) if error.cuts_power() => {
                self.power_gone = true;
                Err(Refused("no power"))
            }
            Some(Error::FlipWrite(bit)) => {
                flip(file, bit);
                Ok(())
            }
            Some(Error::Io | Error::IoTorn(_)) => Err(Refused("EIO")),
            Some(Error::NoSpace) => Err(Refused("ENOSPC")),
            Some(Error::ReadOnly) => {
                self.read_only = true;
                Err(Refused("EROFS"))
            }
            _ if self.read_only => Err(Refused("EROFS")),
            _ => Ok(()),
        };
        if result.is_err() {
            self.failed_at.get_or_insert(self.calls.len() - 1);
        }
        result
    }
}
