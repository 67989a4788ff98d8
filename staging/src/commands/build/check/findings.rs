//! What a check found, and how it is shown.

use serde::Serialize;

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// A release can be made, but look at it.
    Warning,
    /// No release can be made.
    Problem,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What it is about, in a word.
    pub(crate) subject: &'static str,
    /// How much it matters.
    pub(crate) state: State,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it; nothing if all is well.
    pub(crate) remedy: Option<String>,
}

/// Findings in the order they were made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    /// All is well.
    pub(crate) fn ok(&mut self, subject: &'static str, found: impl Into<String>) {
        self.push(subject, State::Ok, &found.into(), None);
    }

    /// Something to look at.
    pub(crate) fn warning(
        &mut self,
        subject: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(subject, State::Warning, &found.into(), Some(&remedy.into()));
    }

    /// Something in the way.
    pub(crate) fn problem(
        &mut self,
        subject: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(subject, State::Problem, &found.into(), Some(&remedy.into()));
    }

    fn push(&mut self, subject: &'static str, state: State, found: &str, remedy: Option<&String>) {
        self.list.push(Finding {
            subject,
            state,
            found: printable(found),
            remedy: remedy.map(|remedy| printable(remedy)),
        });
    }

    /// All of them.
    pub(crate) fn list(&self) -> &[Finding] {
        &self.list
    }

    /// Those in the way.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Finding> {
        self.list
            .iter()
            .filter(|found| found.state == State::Problem)
    }

    /// A table: state, subject, what was found; the remedy in a line below.
    pub(crate) fn table(&self) -> Vec<String> {
        let width = self
            .list
            .iter()
            .map(|found| found.subject.len())
            .max()
            .unwrap_or(0);
        let mut lines = Vec::new();
        for found in &self.list {
            let state = match found.state {
                State::Ok => "ok",
                State::Warning => "warning",
                State::Problem => "PROBLEM",
            };
            lines.push(format!(
                "{state:<8} {:<width$}  {}",
                found.subject, found.found
            ));
            if let Some(remedy) = &found.remedy {
                lines.push(format!("{:<8} {:<width$}  → {remedy}", "", ""));
            }
        }
        lines
    }
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
    fn every_finding_is_one_line_and_its_remedy_the_next() {
        let mut findings = Findings::default();
        findings.ok("golden", "fine");
        findings.warning("gpg", "no key\x1b[2J", "make one");
        findings.problem("nested", "a\nb", "move it");
        assert_eq!(
            findings.table(),
            [
                "ok       golden  fine",
                "warning  gpg     no key [2J",
                "                 → make one",
                "PROBLEM  nested  a b",
                "                 → move it",
            ]
        );
        assert_eq!(findings.problems().count(), 1);
    }
}
