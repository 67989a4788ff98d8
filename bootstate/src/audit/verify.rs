//! Following a chain, line by line and file by file.

use super::{AuditHead, Kind, LINE_MAX, Line, Place, Segment, hash_line};

/// Where and how a log fails its verification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// A line that is not an entry.
    #[error("line {0} is not an audit entry")]
    Malformed(u64),
    /// A line out of its place, or after a line that is gone.
    #[error("line {at} says it is number {found}: a line was dropped, repeated or moved")]
    Number {
        /// Where it stands.
        at: u64,
        /// What it says.
        found: u64,
    },
    /// A line that does not follow from the one before.
    #[error("line {0} does not follow from the line before it: one of the two was changed")]
    Chain(u64),
    /// Lines that are not there, while none says that they were removed.
    #[error("lines {first} to {last} are gone, and no line says that they were removed")]
    Missing {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// A file that holds other lines than its name says.
    #[error("{0} does not hold the lines of its name: a file was copied, renamed or cut")]
    Segment(Segment),
    /// The line up to which lines were removed is another one.
    #[error("line {0} does not follow from the one that was removed before it")]
    Removed(u64),
    /// Fewer lines than the record knows of.
    #[error(
        "the log ends at line {found}, the boot record knows of {expected}: its end was cut off"
    )]
    Behind {
        /// Lines in the log.
        found: u64,
        /// Lines the record knows.
        expected: u64,
    },
    /// The line the record points to is another one.
    #[error("line {0} is not the one the boot record points to: the log was rewritten")]
    Head(u64),
    /// The log begins after the line the record points to.
    #[error("the log begins at line {first}, the boot record points to line {expected} before it")]
    After {
        /// Its first line.
        first: u64,
        /// Lines the record knows.
        expected: u64,
    },
}

/// Follows a chain line by line.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    at: AuditHead,
    /// What the first line goes on from; none before it.
    base: Option<AuditHead>,
    /// The last line that a line says is kept no longer.
    removed: Option<Place>,
    anchor: Option<AuditHead>,
    anchor_seen: bool,
    /// Whether the log may begin anywhere.
    is_part: bool,
}

impl Verifier {
    /// Checks the chain alone, or also against what the record says.
    pub fn new(anchor: Option<AuditHead>) -> Self {
        let anchor_seen = anchor.is_none_or(|anchor| anchor.length == 0);
        Self {
            anchor,
            anchor_seen,
            ..Self::default()
        }
    }

    /// Likewise for a log of which the beginning is left unread: nothing need say
    /// that it was removed.
    pub fn of_part(anchor: Option<AuditHead>) -> Self {
        Self {
            is_part: true,
            ..Self::new(anchor)
        }
    }

    /// The number of the last line, and its hash.
    pub fn at(&self) -> AuditHead {
        self.at
    }

    /// A closed segment begins.
    pub fn begin(&self, segment: &Segment) -> Result<(), AuditError> {
        let next = self.at.length.saturating_add(1);
        match segment.first {
            // Where the log begins is up to its first line.
            _ if self.base.is_none() => Ok(()),
            first if first == next => Ok(()),
            first if first > next => Err(AuditError::Missing {
                first: next,
                last: first.saturating_sub(1),
            }),
            _ => Err(AuditError::Segment(*segment)),
        }
    }

    /// A closed segment has been read to its end.
    pub fn end_of(&self, segment: &Segment) -> Result<(), AuditError> {
        if self.at.length == segment.last {
            return Ok(());
        }
        Err(AuditError::Segment(*segment))
    }

    /// Takes the next line, without its newline.
    pub fn line(&mut self, bytes: &[u8]) -> Result<Line, AuditError> {
        let n = self.at.length.saturating_add(1);
        if bytes.len() > LINE_MAX {
            return Err(AuditError::Malformed(n));
        }
        let line: Line = serde_json::from_slice(bytes).map_err(|_| AuditError::Malformed(n))?;
        if self.base.is_none() {
            self.begin_after(&line)?;
        }
        let n = self.at.length.saturating_add(1);
        if line.n > n && line.event == Kind::Rotated {
            return Err(AuditError::Missing {
                first: n,
                last: line.n.saturating_sub(1),
            });
        }
        if line.n != n {
            return Err(AuditError::Number {
                at: n,
                found: line.n,
            });
        }
        if line.prev != self.at.head {
            return Err(AuditError::Chain(n));
        }
        self.at = AuditHead {
            length: n,
            head: hash_line(bytes),
            missed: 0,
        };
        self.removed = line
            .rotation
            .and_then(|rotation| rotation.removed)
            .or(self.removed);
        if let Some(anchor) = self.anchor.filter(|anchor| anchor.length == n) {
            if anchor.head != self.at.head {
                return Err(AuditError::Head(n));
            }
            self.anchor_seen = true;
        }
        Ok(line)
    }

    /// The first line says what it goes on from. What that was is for a later
    /// line to say, and for the record.
    fn begin_after(&mut self, first: &Line) -> Result<(), AuditError> {
        let base = AuditHead {
            length: first.n.checked_sub(1).ok_or(AuditError::Malformed(1))?,
            head: first.prev,
            missed: 0,
        };
        if base.length == 0 && base != AuditHead::default() {
            return Err(AuditError::Chain(1));
        }
        match self.anchor {
            // A log may begin after what the record knows only if a lost record was
            // replaced by an older one; who reads for that gives no anchor.
            Some(anchor) if anchor.length < base.length => {
                return Err(AuditError::After {
                    first: first.n,
                    expected: anchor.length,
                });
            }
            Some(anchor) if anchor.length == base.length => {
                if anchor.head != base.head {
                    return Err(AuditError::Head(anchor.length));
                }
                self.anchor_seen = true;
            }
            _ => {}
        }
        self.at = base;
        self.base = Some(base);
        Ok(())
    }

    /// The end of the log: its head, or that the record knows of more, or that
    /// its beginning is gone without a word.
    pub fn end(self) -> Result<AuditHead, AuditError> {
        let base = self.base.unwrap_or_default();
        if base.length > 0 && !self.is_part {
            match self.removed {
                Some(removed) if removed.n == base.length && removed.sha256 != base.head => {
                    return Err(AuditError::Removed(base.length.saturating_add(1)));
                }
                // A segment may be there still that a crash kept from being deleted.
                Some(removed) if removed.n >= base.length => {}
                removed => {
                    return Err(AuditError::Missing {
                        first: removed.map_or(1, |removed| removed.n.saturating_add(1)),
                        last: base.length,
                    });
                }
            }
        }
        match self.anchor {
            Some(anchor) if !self.anchor_seen => Err(AuditError::Behind {
                found: self.at.length,
                expected: anchor.length,
            }),
            anchor => Ok(AuditHead {
                missed: anchor.map_or(0, |anchor| anchor.missed),
                ..self.at
            }),
        }
    }
}
