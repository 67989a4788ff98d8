//! The operator's word on the kernel command line (rule 11).

use crate::version::Version;

/// What `op-dbus.select=` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// A version of the store, quarantined or not.
    Version(Version),
    /// The good version.
    Good,
    /// The fallback version.
    Fallback,
    /// No version.
    None,
}

/// What the kernel command line says to this program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `op-dbus=off`: touch nothing.
    pub off: bool,
    /// `op-dbus.select=…`; the last one counts.
    pub select: Option<Select>,
    /// Words that begin like ours and mean nothing, for a warning.
    pub unknown: Vec<String>,
}

/// Unknown words that are kept for the warning.
const MAX_UNKNOWN: usize = 8;

impl CommandLine {
    /// Parses the text of `/proc/cmdline`. Double quotes group words, as in the
    /// kernel's own parser (kernel `lib/cmdline.c`, `next_arg`).
    pub fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        let mut quoted = false;
        let words = text.split(|c: char| {
            quoted ^= c == '"';
            c.is_ascii_whitespace() && !quoted
        });
        for word in words {
            let word = word.replace('"', "");
            match word.split_once('=') {
                Some(("op-dbus", "off")) => parsed.off = true,
                Some(("op-dbus.select", choice)) => match Self::choice(choice) {
                    Some(select) => parsed.select = Some(select),
                    None => parsed.warn(word),
                },
                Some(("op-dbus", _)) => parsed.warn(word),
                _ if word.starts_with("op-dbus") => parsed.warn(word),
                _ => {}
            }
        }
        parsed
    }

    fn choice(text: &str) -> Option<Select> {
        match text {
            "good" => Some(Select::Good),
            "fallback" => Some(Select::Fallback),
            "none" => Some(Select::None),
            version => version.parse().ok().map(Select::Version),
        }
    }

    fn warn(&mut self, word: String) {
        if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.push(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_its_own_words_among_others() {
        let parsed = CommandLine::parse("root=/dev/vda ro op-dbus.select=v1.2.0 quiet\n");
        assert_eq!(
            parsed.select,
            Some(Select::Version("v1.2.0".parse().unwrap()))
        );
        assert!(!parsed.off);
        assert!(CommandLine::parse("op-dbus=off").off);
    }

    #[test]
    fn the_last_choice_counts() {
        let parsed = CommandLine::parse("op-dbus.select=good op-dbus.select=none");
        assert_eq!(parsed.select, Some(Select::None));
    }

    #[test]
    fn mistakes_are_reported_and_choose_nothing() {
        let parsed = CommandLine::parse("op-dbus.select=latest op-dbus=maybe op-dbus.slect=good");
        assert_eq!(parsed.select, None);
        assert!(!parsed.off);
        assert_eq!(parsed.unknown.len(), 3);
    }

    #[test]
    fn words_inside_quotes_of_others_are_not_ours() {
        let parsed = CommandLine::parse("dyndbg=\"file x op-dbus=off +p\" op-dbus.select=good");
        assert!(!parsed.off);
        assert_eq!(parsed.select, Some(Select::Good));
    }

    proptest! {
        #[test]
        fn any_text_parses_within_bounds(text in ".{0,4096}") {
            prop_assert!(CommandLine::parse(&text).unknown.len() <= MAX_UNKNOWN);
        }
    }
}
