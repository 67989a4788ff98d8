//! A worker: a process of its own, so that a state that hangs or crashes the
//! looking takes nothing along. It reads one order a line, and answers each with
//! one line.

use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::State;
use crate::error::{At as _, Result};
use crate::explorer::{Depth, Explorer, Outcome};
use crate::host::enter_namespace;
use crate::recording::Recording;

/// What a worker is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The state, as text.
    pub(crate) state: String,
    /// How closely to look.
    pub(crate) depth: Depth,
    /// Where to leave evidence of a state in which something is wrong.
    pub(crate) directory: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is ready for the first order.
    Ready,
    /// The state was looked at.
    Done(Outcome),
    /// It could not be: the host's fault, or a state that can't be handled.
    Failed(String),
}

/// Serves until there are no more orders.
pub(crate) fn serve(recording: Recording, place: &Path) -> Result<()> {
    enter_namespace().at("enter a mount namespace at", place)?;
    let mut explorer = Explorer::new(Arc::new(recording), place)?;
    let answer = |answer: &Answer| -> io::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        let mut stdout = io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.flush()
    };
    answer(&Answer::Ready).at("answer from", place)?;
    for line in io::stdin().lock().lines() {
        let line = line.at("take orders at", place)?;
        let done = serde_json::from_str(&line)
            .map_err(io::Error::from)
            .and_then(|order| obey(&mut explorer, &order));
        let done = match done {
            Ok(outcome) => Answer::Done(outcome),
            Err(why) => Answer::Failed(why.to_string()),
        };
        answer(&done).at("answer from", place)?;
    }
    Ok(())
}

fn obey(explorer: &mut Explorer, order: &Order) -> io::Result<Outcome> {
    let state: State = order.state.parse().map_err(io::Error::other)?;
    let mut outcome = explorer.explore(&state, order.depth)?;
    if outcome.violations.is_empty() {
        // Of interest only where something is wrong.
        outcome.ran.clear();
        return Ok(outcome);
    }
    explorer.image_of(&state, &order.directory.join("disk.img"))?;
    if let Some((_, log)) = &mut outcome.second {
        let place = order.directory.join("second");
        std::fs::copy(&log, &place)?;
        std::fs::remove_file(&log)?;
        *log = place;
    }
    Ok(outcome)
}
