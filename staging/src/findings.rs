//! What a check found, and how it is shown: by `check source`, `check target`
//! and `check deployment` alike.

use serde::Serialize;

use crate::error::Exit;

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing to do.
    Info,
    /// It works, but look at it.
    Warning,
    /// In the way.
    Error,
}

impl Severity {
    /// The first column. What is wrong stands out without colours, which a serial
    /// console may not have.
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

/// Width of the first column.
const SEVERITY_WIDTH: usize = 7;
/// Lines are not broken into less than this.
const NARROW: usize = 40;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What it is about, in a word.
    pub(crate) subject: &'static str,
    /// How much it matters.
    pub(crate) severity: Severity,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it; nothing if there is nothing to do.
    pub(crate) remedy: Option<String>,
    /// Of an error: which exit code it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit: Option<Exit>,
}

/// Findings in the order they were made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    /// All is well.
    pub(crate) fn ok(&mut self, subject: &'static str, found: impl Into<String>) {
        self.push(subject, Severity::Ok, &found.into(), None, None);
    }

    /// Worth knowing.
    pub(crate) fn info(&mut self, subject: &'static str, found: impl Into<String>) {
        self.push(subject, Severity::Info, &found.into(), None, None);
    }

    /// Something to look at.
    pub(crate) fn warning(
        &mut self,
        subject: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let remedy = remedy.into();
        self.push(
            subject,
            Severity::Warning,
            &found.into(),
            Some(&remedy),
            None,
        );
    }

    /// Something in the way, that this exit code stands for.
    pub(crate) fn error(
        &mut self,
        exit: Exit,
        subject: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let remedy = remedy.into();
        let exit = Some(exit);
        self.push(subject, Severity::Error, &found.into(), Some(&remedy), exit);
    }

    /// Something in the way of a release, for which there is one exit code.
    pub(crate) fn problem(
        &mut self,
        subject: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.error(Exit::Refused, subject, found, remedy);
    }

    fn push(
        &mut self,
        subject: &'static str,
        severity: Severity,
        found: &str,
        remedy: Option<&String>,
        exit: Option<Exit>,
    ) {
        self.list.push(Finding {
            subject,
            severity,
            found: printable(found),
            remedy: remedy.map(|remedy| printable(remedy)),
            exit,
        });
    }

    /// Takes those of another check over.
    pub(crate) fn append(&mut self, other: Self) {
        self.list.extend(other.list);
    }

    /// All of them.
    pub(crate) fn list(&self) -> &[Finding] {
        &self.list
    }

    /// How many matter that much.
    pub(crate) fn count(&self, severity: Severity) -> usize {
        let is_wanted = |found: &&Finding| found.severity == severity;
        self.list.iter().filter(is_wanted).count()
    }

    /// Those in the way.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Finding> {
        self.list
            .iter()
            .filter(|found| found.severity == Severity::Error)
    }

    /// The exit code: that of the first error. Warnings alone fail only who asks
    /// for it.
    pub(crate) fn exit(&self, strict: bool) -> Exit {
        match self.problems().next() {
            Some(first) => first.exit.unwrap_or(Exit::Failure),
            None if strict && self.count(Severity::Warning) > 0 => Exit::Refused,
            None => Exit::Done,
        }
    }

    /// A table: severity, subject, what was found; the remedy below. The worst
    /// comes last, because that is where a terminal stays. Lines are broken to
    /// fit the terminal's width, if there is one.
    pub(crate) fn table(&self, terminal: Option<usize>) -> Vec<String> {
        let subjects = self.list.iter().map(|found| found.subject.len());
        let width = subjects.max().unwrap_or(0);
        let indent = SEVERITY_WIDTH + width + 4;
        let room = terminal.map_or(usize::MAX, |terminal| {
            terminal.saturating_sub(indent).max(NARROW)
        });
        let mut sorted: Vec<_> = self.list.iter().collect();
        sorted.sort_by_key(|found| found.severity);
        let mut lines = Vec::new();
        for (index, found) in sorted.iter().enumerate() {
            let word = found.severity.word();
            let mut head = format!("{word:<SEVERITY_WIDTH$}  {:<width$}", found.subject);
            // Of several with one remedy, only the last says it.
            let is_said_below = sorted.get(index + 1).is_some_and(|next| {
                (next.severity, next.subject, &next.remedy)
                    == (found.severity, found.subject, &found.remedy)
            });
            let remedy = found.remedy.iter().filter(|_| !is_said_below);
            let remedy = remedy.flat_map(|remedy| {
                let mut begin = "→ ";
                broken(remedy, room.saturating_sub(2))
                    .into_iter()
                    .map(move |line| format!("{}{line}", std::mem::replace(&mut begin, "  ")))
            });
            for text in broken(&found.found, room).into_iter().chain(remedy) {
                lines.push(format!("{head}  {text}"));
                head = " ".repeat(indent - 2);
            }
        }
        lines
    }
}

/// Breaks a text at spaces into lines of at most so many characters. A word that
/// is longer stays whole: it is a path or a command, to be copied.
fn broken(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let length = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > room {
            lines.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// Columns of the terminal on stdout; none if it is none.
pub(crate) fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    (size.ws_col > 0).then(|| size.ws_col.into())
}

/// Keeps file names and other programs' words from moving the cursor.
fn printable(text: &str) -> String {
    let text = text.trim().chars();
    text.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_is_one_line_and_its_remedy_the_next_the_worst_last() {
        let mut findings = Findings::default();
        findings.problem("nested", "a\nb", "move it");
        findings.ok("golden", "fine");
        findings.warning("gpg", "no key\x1b[2J", "make one");
        findings.info("clock", "noon");
        assert_eq!(
            findings.table(None),
            [
                "ok       golden  fine",
                "info     clock   noon",
                "WARNING  gpg     no key [2J",
                "                 → make one",
                "ERROR    nested  a b",
                "                 → move it",
            ]
        );
        assert_eq!(findings.problems().count(), 1);
    }

    #[test]
    fn a_remedy_of_several_is_said_once() {
        let mut findings = Findings::default();
        for (found, remedy) in [("a", "do"), ("b", "do"), ("c", "other")] {
            findings.warning("x", found, remedy);
        }
        let expected = ["  a", "  b", "  → do", "  c", "  → other"];
        let lines = findings.table(None);
        assert_eq!(lines.len(), expected.len(), "{lines:?}");
        for (line, end) in lines.iter().zip(expected) {
            assert!(line.ends_with(end), "{lines:?}");
        }
    }

    #[test]
    fn lines_fit_the_terminal() {
        let mut findings = Findings::default();
        findings.warning(
            "gpg",
            "one two three four five six seven eight nine ten eleven twelve",
            "do this and that and /a/path/that/is/longer/than/any/line/may/be/in/here at last and for good",
        );
        let lines = findings.table(Some(60));
        assert_eq!(
            lines,
            [
                "WARNING  gpg  one two three four five six seven eight nine",
                "              ten eleven twelve",
                "              → do this and that and",
                "                /a/path/that/is/longer/than/any/line/may/be/in/here",
                "                at last and for good",
            ]
        );
    }

    #[test]
    fn the_first_error_is_the_exit_code() {
        let mut findings = Findings::default();
        findings.ok("a", "b");
        findings.info("a", "b");
        assert_eq!(findings.exit(true), Exit::Done);
        findings.warning("a", "b", "c");
        assert_eq!(findings.exit(false), Exit::Done);
        assert_eq!(findings.exit(true), Exit::Refused);
        findings.error(Exit::Store, "a", "b", "c");
        findings.error(Exit::NoSpace, "a", "b", "c");
        assert_eq!(findings.exit(false), Exit::Store);
    }
}
