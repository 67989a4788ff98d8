//! The command that is to fail once a mutant is in.

use std::fmt;

use serde::Deserialize;

/// What a killer may begin with; the rest are arguments.
const TEST: [&str; 2] = ["cargo", "test"];

/// A command line, of words without spaces: `cargo test …`, or another program
/// that builds what it needs and fails by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Killer(Vec<String>);

impl TryFrom<String> for Killer {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        match words.first().map(String::as_str) {
            Some("cargo" | "make") => Ok(Self(words)),
            _ => Err("a killer begins with cargo or make"),
        }
    }
}

impl fmt::Display for Killer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl Killer {
    /// Whether it is `cargo test`: then building and testing are told apart, and
    /// its tests are counted.
    pub(crate) fn is_test(&self) -> bool {
        self.0.iter().zip(TEST).all(|(word, wanted)| word == wanted)
    }

    /// The command that only builds it, where there is one.
    pub(crate) fn build(&self) -> Option<Vec<String>> {
        if !self.is_test() {
            return None;
        }
        let mut words = self.run();
        let end = words.iter().position(|word| word == "--");
        words.insert(end.unwrap_or(words.len()), "--no-run".to_owned());
        Some(words)
    }

    /// The command itself.
    pub(crate) fn run(&self) -> Vec<String> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn building_and_testing_are_apart() {
        let killer = Killer::try_from("cargo test -p a --lib x -- y".to_owned()).unwrap();
        let build = killer.build().unwrap().join(" ");
        assert_eq!(build, "cargo test -p a --lib x --no-run -- y");
        assert_eq!(killer.run().join(" "), "cargo test -p a --lib x -- y");
        let other = Killer::try_from("make crash-test STATES=9".to_owned()).unwrap();
        assert_eq!(other.build(), None);
        assert!(Killer::try_from("rm -rf x".to_owned()).is_err());
    }
}
