//! How far a long command has come, on stderr: a bar on a terminal, a line a
//! phase elsewhere, nothing beside JSON.

use std::io::IsTerminal as _;
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
    Nothing,
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
}

/// Counts a phase's bytes, in whichever thread they pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    bar: Option<ProgressBar>,
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

    /// Whether it would be shown how much is left, which may take work to know.
    pub(crate) fn shows_what_is_left(self) -> bool {
        matches!(self.form, Form::Bar)
    }

    /// Begins a phase of so many bytes; none if that is not known.
    pub(crate) fn phase(self, what: impl Into<String>, bytes: Option<u64>) -> Phase {
        let what = what.into();
        let bar = match self.form {
            Form::Nothing => None,
            Form::Lines => {
                context::say(&what);
                None
            }
            Form::Bar => Some(bar(what, bytes)),
        };
        Phase { bar }
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
        }
    }
}

impl Meter {
    /// So many more bytes have passed.
    pub(crate) fn add(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
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
}
