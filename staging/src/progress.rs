//! How far a long command has come, on stderr: a bar on a terminal, a line a
//! phase elsewhere, nothing beside JSON, unless that is asked for.
//!
//! Beside JSON, `receive --progress` tells a program, one object a line:
//!
//! ```text
//! {"progress":{"phase":"receiving","done":1048576,"total":4194304}}
//! ```
//!
//! in bytes; `total` is null where nothing can be counted. A phase has a line when
//! it begins, and one for each whole percent that is new: at most 102, so a run's
//! lines fit into a pipe that nobody reads (64 KiB), and never hold it up.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::context::{self, Context};

/// What a bar shows. The rate is that of the last seconds.
const BYTES: &str = "{msg}  {bytes}/{total_bytes}  {wide_bar}  {bytes_per_sec}, {eta} left";
/// What is shown where no length is known.
const SPINNER: &str = "{msg}  {spinner} {elapsed}";

/// Where progress goes.
#[derive(Debug, Clone, Copy)]
enum Form {
    Bar,
    Lines,
    Objects,
    Nothing,
}

/// The phases that programs are told of, by these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// The stream is read, checked and applied.
    Receiving,
    /// What was applied goes to the disk.
    Writing,
    /// It is read back.
    ReadingBack,
    /// It becomes a version.
    Publishing,
}

impl Word {
    fn text(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Writing => "writing",
            Self::ReadingBack => "reading-back",
            Self::Publishing => "publishing",
        }
    }
}

/// Tells of the phases of one command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    form: Form,
}

/// One phase; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Phase {
    bar: Option<ProgressBar>,
    told: Option<Arc<Told>>,
}

/// Counts a phase's bytes, in whichever thread they pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    bar: Option<ProgressBar>,
    told: Option<Arc<Told>>,
}

/// What a program has been told of a phase.
#[derive(Debug)]
struct Told {
    word: Word,
    total: u64,
    done: AtomicU64,
    percent: AtomicU64,
}

impl Progress {
    /// In the form that suits where stderr goes.
    pub(crate) fn new(context: &Context) -> Self {
        let form = match (context.json, std::io::stderr().is_terminal()) {
            (true, _) => Form::Nothing,
            (false, true) => Form::Bar,
            (false, false) => Form::Lines,
        };
        Self { form }
    }

    /// Likewise, and if wanted told to a program beside JSON.
    pub(crate) fn told(context: &Context, wanted: bool) -> Self {
        if wanted && context.json {
            return Self {
                form: Form::Objects,
            };
        }
        Self::new(context)
    }

    /// Whether it would be shown how much is left, which may take work to know.
    pub(crate) fn shows_what_is_left(self) -> bool {
        matches!(self.form, Form::Bar)
    }

    /// Begins a phase of so many bytes; none if that is not known.
    pub(crate) fn phase(self, what: impl Into<String>, bytes: Option<u64>) -> Phase {
        let what = what.into();
        let bar = match self.form {
            Form::Nothing | Form::Objects => None,
            Form::Lines => {
                context::say(&what);
                None
            }
            Form::Bar => Some(bar(what, bytes)),
        };
        Phase { bar, told: None }
    }

    /// Likewise one that programs are told of.
    pub(crate) fn step(self, word: Word, what: impl Into<String>, bytes: Option<u64>) -> Phase {
        if !matches!(self.form, Form::Objects) {
            return self.phase(what, bytes);
        }
        context::say_plainly(&object(word, 0, bytes));
        // Of nothing at all there is no percentage.
        let told = bytes.filter(|&bytes| bytes > 0).map(|total| {
            Arc::new(Told {
                word,
                total,
                done: AtomicU64::new(0),
                percent: AtomicU64::new(0),
            })
        });
        Phase { bar: None, told }
    }
}

fn object(word: Word, done: u64, total: Option<u64>) -> String {
    let phase = word.text();
    serde_json::json!({ "progress": { "phase": phase, "done": done, "total": total } }).to_string()
}

impl Told {
    /// So many more bytes; what there is to say now, if anything.
    fn add(&self, bytes: u64) -> Option<String> {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let done = before.saturating_add(bytes).min(self.total);
        let percent = u128::from(done) * 100 / u128::from(self.total);
        let percent = u64::try_from(percent).unwrap_or(100);
        // Several threads may count: a percent is told once.
        let told = self.percent.fetch_max(percent, Ordering::Relaxed);
        (percent > told).then(|| object(self.word, done, Some(self.total)))
    }
}

fn bar(what: String, bytes: Option<u64>) -> ProgressBar {
    let template = if bytes.is_some() { BYTES } else { SPINNER };
    let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("#>-"));
    }
    bar.set_message(what);
    // Even where nothing moves, it shows that the program lives.
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

impl Phase {
    /// What counts its bytes.
    pub(crate) fn meter(&self) -> Meter {
        Meter {
            bar: self.bar.clone(),
            told: self.told.clone(),
        }
    }
}

impl Meter {
    /// So many more bytes have passed.
    pub(crate) fn add(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
        if let Some(line) = self.told.as_ref().and_then(|told| told.add(bytes)) {
            context::say_plainly(&line);
        }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_sound() {
        for template in [BYTES, SPINNER] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    fn told(total: u64) -> Told {
        Told {
            word: Word::Receiving,
            total,
            done: AtomicU64::new(0),
            percent: AtomicU64::new(0),
        }
    }

    #[test]
    fn a_program_is_told_each_percent_once() {
        let counted = told(1_000_000);
        let lines: Vec<_> = (0..100_000).filter_map(|_| counted.add(10)).collect();
        assert_eq!(lines.len(), 100);
        assert_eq!(
            lines.first().unwrap(),
            r#"{"progress":{"done":10000,"phase":"receiving","total":1000000}}"#
        );
        assert!(lines.last().unwrap().contains(r#""done":1000000,"#));
        assert_eq!(counted.add(1), None);
    }

    #[test]
    fn more_than_there_should_be_is_all_of_it() {
        let line = told(u64::MAX - 1).add(u64::MAX).unwrap();
        assert!(
            line.contains(&format!(r#""done":{},"#, u64::MAX - 1)),
            "{line}"
        );
        let line = told(3).add(7).unwrap();
        assert!(line.contains(r#""done":3,"#), "{line}");
    }
}
