//! LZO1X, and how Btrfs puts it in segments.
//!
//! Source of the formats: kernel `Documentation/staging/lzo.rst` (without its
//! run-length extension, which Btrfs does not use) and `fs/btrfs/lzo.c`.

/// What can be wrong.
type Fault = &'static str;

const CUT: Fault = "the data is cut off";
const ROOM: Fault = "more content than there is room for";
const BACK: Fault = "it refers to before the beginning";

/// Decompresses one extent: its length, then segments of a length and one
/// sector's worth of content; a segment's length never crosses a sector.
pub(super) fn extent(data: &[u8], sector: usize, out: &mut [u8]) -> Result<usize, Fault> {
    let total = length(data, 0)?;
    let data = data.get(..total).ok_or(CUT)?;
    if total < 8 {
        return Err(CUT);
    }
    let (mut at, mut filled) = (4, 0);
    while at < total && filled < out.len() {
        let rest = sector - at % sector;
        if rest < 4 {
            at += rest;
            if at >= total {
                break;
            }
        }
        let segment = length(data, at)?;
        at += 4;
        let end = at.checked_add(segment).ok_or(CUT)?;
        let segment = data.get(at..end).ok_or(CUT)?;
        at = end;
        let room = out.len().min(filled + sector);
        let room = out.get_mut(filled..room).ok_or(ROOM)?;
        filled += stream(segment, room)?;
    }
    Ok(filled)
}

fn length(data: &[u8], at: usize) -> Result<usize, Fault> {
    let bytes = data.get(at..).and_then(|rest| rest.first_chunk::<4>());
    let number = u32::from_le_bytes(*bytes.ok_or(CUT)?);
    usize::try_from(number).map_err(|_| CUT)
}

/// Decompresses one LZO1X stream into `out`; returns how long the content is.
fn stream(data: &[u8], out: &mut [u8]) -> Result<usize, Fault> {
    let mut copier = Copier { data, out, len: 0 };
    // Literals the instruction before ended with: 0 to 3, or 4 for a long run.
    let mut state = 0;
    let first = *data.first().ok_or(CUT)?;
    if first > 17 {
        copier.byte()?;
        let run = usize::from(first) - 17;
        copier.literals(run)?;
        state = run.min(4);
    }
    loop {
        let instruction = usize::from(copier.byte()?);
        let (length, distance, tail) = match instruction {
            0..=15 if state == 0 => {
                let run = copier.long(instruction, 15)?;
                copier.literals(run + 3)?;
                state = 4;
                continue;
            }
            0..=15 => {
                let near = (usize::from(copier.byte()?) << 2) + (instruction >> 2);
                let (length, base) = if state == 4 { (3, 2049) } else { (2, 1) };
                (length, near + base, instruction & 3)
            }
            16..=31 => {
                let length = copier.long(instruction & 7, 7)? + 2;
                let word = copier.word()?;
                let distance = 16384 + ((instruction & 8) << 11) + (word >> 2);
                if distance == 16384 {
                    return Ok(copier.len);
                }
                (length, distance, word & 3)
            }
            32..=63 => {
                let length = copier.long(instruction & 31, 31)? + 2;
                let word = copier.word()?;
                (length, (word >> 2) + 1, word & 3)
            }
            _ => {
                let length = match instruction {
                    64..=127 => 3 + ((instruction >> 5) & 1),
                    _ => 5 + ((instruction >> 5) & 3),
                };
                let far = usize::from(copier.byte()?) << 3;
                (length, far + ((instruction >> 2) & 7) + 1, instruction & 3)
            }
        };
        copier.again(length, distance)?;
        copier.literals(tail)?;
        state = tail;
    }
}

struct Copier<'a> {
    data: &'a [u8],
    out: &'a mut [u8],
    len: usize,
}

impl Copier<'_> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let (&byte, rest) = self.data.split_first().ok_or(CUT)?;
        self.data = rest;
        Ok(byte)
    }

    fn word(&mut self) -> Result<usize, Fault> {
        Ok(usize::from(self.byte()?) | usize::from(self.byte()?) << 8)
    }

    /// A length that goes on in the bytes that follow if its field is zero.
    fn long(&mut self, field: usize, base: usize) -> Result<usize, Fault> {
        if field != 0 {
            return Ok(field);
        }
        let mut length = base;
        loop {
            match self.byte()? {
                0 => length += 255,
                last => return Ok(length + usize::from(last)),
            }
        }
    }

    /// Copies bytes from the data.
    fn literals(&mut self, count: usize) -> Result<(), Fault> {
        let (from, rest) = self.data.split_at_checked(count).ok_or(CUT)?;
        let to = self
            .out
            .get_mut(self.len..)
            .and_then(|out| out.get_mut(..count));
        to.ok_or(ROOM)?.copy_from_slice(from);
        self.data = rest;
        self.len += count;
        Ok(())
    }

    /// Copies bytes from what there is already, maybe overlapping.
    fn again(&mut self, count: usize, distance: usize) -> Result<(), Fault> {
        let start = self.len.checked_sub(distance).ok_or(BACK)?;
        if self.out.len() - self.len < count {
            return Err(ROOM);
        }
        if distance >= count {
            self.out.copy_within(start..start + count, self.len);
        } else {
            for index in start..start + count {
                let byte = *self.out.get(index).ok_or(BACK)?;
                *self.out.get_mut(index + distance).ok_or(ROOM)? = byte;
            }
        }
        self.len += count;
        Ok(())
    }
}
