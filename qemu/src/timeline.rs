//! What happened, boot by boot, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::guest::Ending;

/// One boot of a machine.
#[derive(Debug, Clone, Serialize)]
pub struct Boot {
    /// Number, from 1.
    pub number: usize,
    /// What early boot said it chose: `v1.1.0 (trial)`, `rescue: …`, or a dash.
    pub choice: String,
    /// Seconds until the guest answered, if it came so far.
    pub ready_seconds: Option<f64>,
    /// Seconds from power-on to the end.
    pub seconds: f64,
    /// How it ended.
    pub ending: Ending,
    /// What the scenario did or saw in it, in order.
    pub notes: Vec<String>,
    /// The console's log.
    pub console: String,
}

/// The boots of one machine.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Timeline {
    /// Whose it is, for example `bookworm-dracut`.
    pub machine: String,
    /// Its boots.
    pub boots: Vec<Boot>,
}

impl Timeline {
    /// As text: one line a boot, one indented line a note.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine);
        for boot in &self.boots {
            text.push_str(&boot.line());
            text.push('\n');
            for note in &boot.notes {
                let _ = writeln!(text, "  │      {note}");
            }
        }
        text
    }

    /// Seconds of all boots together.
    pub fn seconds(&self) -> f64 {
        self.boots.iter().map(|boot| boot.seconds).sum()
    }
}

impl Boot {
    /// The boot in one line.
    pub fn line(&self) -> String {
        let ready = self
            .ready_seconds
            .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.0} s"));
        format!(
            "  ├─ {:>2}  {:<24} ready {ready:>5}   ended after {:>4.0} s: {}",
            self.number,
            self.choice,
            self.seconds,
            self.ending.word()
        )
    }
}

/// What early boot chose, from the console's stable phrases.
pub fn choice(console: &[String]) -> String {
    let said = |phrase: &str| {
        console
            .iter()
            .rev()
            .find_map(|line| line.split_once(phrase).map(|(_, rest)| rest.trim()))
    };
    if let Some(rest) = said("op-dbus: activated ") {
        return rest.split(" in ").next().unwrap_or(rest).to_owned();
    }
    if let Some(reason) = said("op-dbus: rescue: ") {
        return format!("rescue: {reason}");
    }
    if let Some(reason) = said("op-dbus: failed: ") {
        return format!("failed: {reason}");
    }
    if console.iter().any(|line| line.contains("op-dbus: off")) {
        return "off".to_owned();
    }
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_read_from_the_console() {
        let lines = |text: &str| vec!["[ 1.0] boot".to_owned(), text.to_owned()];
        for (line, expected) in [
            (
                "[ 9.1] op-dbus: activated v1.1.0 (trial) in 2900 us",
                "v1.1.0 (trial)",
            ),
            (
                "[ 9.1] op-dbus: rescue: nothing is left",
                "rescue: nothing is left",
            ),
            ("[ 9.1] op-dbus: off", "off"),
            ("[ 9.1] something else", "-"),
        ] {
            assert_eq!(choice(&lines(line)), expected);
        }
    }

    #[test]
    fn a_boot_is_one_line() {
        let timeline = Timeline {
            machine: "bookworm-dracut".into(),
            boots: vec![Boot {
                number: 1,
                choice: "v1.1.0 (trial)".into(),
                ready_seconds: Some(40.4),
                seconds: 52.0,
                ending: Ending::Reboot,
                notes: vec!["blessed".into()],
                console: String::new(),
            }],
        };
        let text = timeline.text();
        assert!(text.contains("1  v1.1.0 (trial)"), "{text}");
        assert!(text.contains("ended after   52 s: reboot"), "{text}");
        assert_eq!(text.lines().count(), 3);
    }
}
