//! Which traces belong to which boot. Pure.
//!
//! Of the boots that are not told of yet, the last is the one just before this:
//! the watchdog's flag and the newest panic are its. Where as many panics came
//! to light as boots ended without shutting down, each has its own, in order: so
//! a trial that panics at every try has the words of each. With another number
//! nobody knows which is whose, and only the newest counts.

use op_dbus_bootstate::ending::{Ending, Evidence, Panic};

use super::mark::{Boot, State};
use super::pstore::Panicked;

/// What this boot sees of how those before it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traces {
    /// Panics that no report has seen yet, the oldest first.
    pub(crate) panics: Vec<Panicked>,
    /// Whether a watchdog says that it reset the machine.
    pub(crate) watchdog: bool,
    /// Whether this machine keeps panics.
    pub(crate) keeps_panics: bool,
}

/// How one boot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The boot.
    pub(crate) boot: Boot,
    /// How.
    pub(crate) ending: Ending,
    /// The same in a sentence.
    pub(crate) sentence: String,
    /// Its kernel's last words.
    pub(crate) words: Option<String>,
}

/// Tells of every boot, the oldest first.
pub(crate) fn weigh(boots: &[Boot], traces: &Traces) -> Vec<Ended> {
    let cut_short = |boot: &Boot| boot.state != State::Orderly;
    let one_each = boots.iter().filter(|boot| cut_short(boot)).count() == traces.panics.len();
    let mut panics = traces.panics.iter();
    let newest = traces.panics.last();
    boots
        .iter()
        .enumerate()
        .map(|(at, boot)| {
            let is_last = at.saturating_add(1) == boots.len();
            let panic = match (one_each, is_last) {
                (true, _) if cut_short(boot) => panics.next(),
                (false, true) => newest,
                _ => None,
            };
            let evidence = Evidence {
                mark: boot.state.mark(),
                panic: panic.map(|panic| Panic {
                    message: panic.message.clone(),
                }),
                watchdog: traces.watchdog && is_last,
                watchdog_before: boot.watchdog,
                keeps_panics: traces.keeps_panics,
            };
            let (ending, sentence) = evidence.ending();
            Ended {
                boot: boot.clone(),
                ending,
                sentence,
                words: panic.map(|panic| panic.text.clone()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::BootId;

    fn boots(states: &[State]) -> Vec<Boot> {
        let boots = states.iter().zip(1..).map(|(&state, n)| Boot {
            id: BootId([n; 16]),
            state,
            version: None,
            slot: None,
            watchdog: false,
        });
        boots.collect()
    }

    fn panicked(text: &str) -> Panicked {
        Panicked {
            id: text.to_owned(),
            message: text.to_owned(),
            text: text.to_owned(),
            is_recent: true,
        }
    }

    fn told(states: &[State], panics: &[&str], watchdog: bool) -> Vec<(Ending, Option<String>)> {
        let traces = Traces {
            panics: panics.iter().map(|text| panicked(text)).collect(),
            watchdog,
            keeps_panics: true,
        };
        weigh(&boots(states), &traces)
            .into_iter()
            .map(|ended| (ended.ending, ended.words))
            .collect()
    }

    const ORDERLY: State = State::Orderly;
    const RUNNING: State = State::Running;
    const COUNTED: State = State::Counted;

    fn died(words: &str) -> (Ending, Option<String>) {
        (Ending::Panic, Some(words.to_owned()))
    }

    #[test]
    fn a_trial_that_panics_at_every_try_has_the_words_of_each() {
        assert_eq!(
            told(
                &[ORDERLY, COUNTED, COUNTED, RUNNING],
                &["a", "b", "c"],
                false
            ),
            [(Ending::Orderly, None), died("a"), died("b"), died("c")]
        );
    }

    #[test]
    fn with_another_number_only_the_last_boot_has_the_newest() {
        assert_eq!(
            told(&[COUNTED, RUNNING, RUNNING], &["a", "b"], false),
            [(Ending::Unknown, None), (Ending::PowerCut, None), died("b")]
        );
        assert_eq!(told(&[RUNNING], &["a", "b"], false), [died("b")]);
        assert_eq!(told(&[], &["a"], false), []);
    }

    #[test]
    fn a_panic_is_of_the_boot_that_was_cut_short() {
        assert_eq!(
            told(&[RUNNING, ORDERLY], &["a"], false),
            [died("a"), (Ending::Orderly, None)]
        );
        // Nobody else: it died on the way down.
        assert_eq!(told(&[ORDERLY], &["a"], false), [died("a")]);
    }

    #[test]
    fn the_watchdog_speaks_of_the_last_boot_only() {
        assert_eq!(
            told(&[RUNNING, COUNTED], &[], true),
            [(Ending::PowerCut, None), (Ending::Watchdog, None)]
        );
        assert_eq!(told(&[COUNTED], &[], false), [(Ending::Unknown, None)]);
    }
}
