//! How long each step took.

use std::time::{Duration, Instant};

/// A stopwatch with laps.
#[derive(Debug)]
pub struct Steps {
    began: Instant,
    lap: Instant,
    laps: Vec<(String, u64)>,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Default for Steps {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            lap: now,
            laps: Vec::new(),
        }
    }
}

impl Steps {
    /// Ends a step: all time since the last call was its.
    pub fn done(&mut self, step: &str) {
        let now = Instant::now();
        let time = micros(now.duration_since(self.lap));
        self.lap = now;
        match self.laps.iter_mut().find(|(name, _)| name == step) {
            // A step taken for each candidate is one step that took longer.
            Some((_, sum)) => *sum = sum.saturating_add(time),
            None => self.laps.push((step.to_owned(), time)),
        }
    }

    /// The steps in order, in microseconds.
    pub fn laps(&self) -> Vec<(String, u64)> {
        self.laps.clone()
    }

    /// Time since the start, in microseconds.
    pub fn total(&self) -> u64 {
        micros(self.began.elapsed())
    }
}
