//! How far a run is: a bar on a terminal, a line a step otherwise.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};

use crate::context::{Context, NAME};

/// Shows steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Silent,
    Lines,
    Bar,
}

/// Shows one step.
#[derive(Debug)]
pub(crate) struct Meter {
    how: How,
    name: String,
    bar: ProgressBar,
}

impl Progress {
    /// On stderr, so that results stay apart; nothing at all for programs.
    pub(crate) fn new(context: &Context) -> Self {
        let how = if context.json {
            How::Silent
        } else if io::stderr().is_terminal() {
            How::Bar
        } else {
            How::Lines
        };
        Self { how }
    }

    /// Begins a step that handles so many bytes, as far as that is known.
    pub(crate) fn begin(self, name: &str, total: Option<u64>) -> Meter {
        let bar = match self.how {
            How::Bar => bar(name, total),
            How::Silent | How::Lines => ProgressBar::hidden(),
        };
        Meter {
            how: self.how,
            name: name.to_owned(),
            bar,
        }
    }
}

fn bar(name: &str, total: Option<u64>) -> ProgressBar {
    // The length is an estimate: what is left is never shown as less than nothing.
    let template = if total.is_some() {
        "{prefix}  [{bar:24}] {binary_bytes:>10} of about {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left"
    } else {
        "{prefix}  {spinner} {binary_bytes:>10}  {binary_bytes_per_sec}  {elapsed}"
    };
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    // A template that is wrong is found by the test below.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

impl Meter {
    /// So many bytes more were handled.
    pub(crate) fn add(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }

    /// The step is done; says what came out.
    pub(crate) fn done(self, outcome: &str) {
        self.bar.finish_and_clear();
        if self.how != How::Silent {
            let elapsed = self.bar.elapsed().as_secs_f64();
            // Nobody is left to tell if stderr is gone.
            let _ = writeln!(
                io::stderr(),
                "{NAME}: {}: {outcome}, {elapsed:.1} s",
                self.name
            );
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}
