//! Reading a stream without doing what it says.

use std::io::{self, Read};

use crate::error::{Problem, StreamError};
use crate::pass::{Pass, Summary};
use crate::policy::Policy;

/// Reads a stream to its end and refuses it for the first thing that is wrong.
pub fn vet(source: impl Read, policy: &Policy) -> Result<Summary, StreamError> {
    vet_into(source, policy, |_| Ok(()))
}

/// Likewise, handing each part (the header, then every command) to `sink` once
/// it has passed. END is handed over only when nothing follows it.
pub fn vet_into(
    source: impl Read,
    policy: &Policy,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Summary, StreamError> {
    let pass = Pass::open(source, policy)?;
    let walker = pass.walker();
    for part in [walker.header(), walker.last_raw()] {
        sink(part).map_err(|why| walker.error(Problem::Sink(why), 0))?;
    }
    let ended = pass.run(|frame| sink(frame.raw).map_err(Problem::Sink))?;
    let walker = &ended.walker;
    sink(walker.last_raw()).map_err(|why| walker.error(Problem::Sink(why), 0))?;
    Ok(ended.summary)
}
