use super::*;

#[test]
fn endings_are_written_as_they_are_shown() {
    for ending in [
        Ending::Orderly,
        Ending::PowerCut,
        Ending::Panic,
        Ending::Watchdog,
        Ending::Unknown,
    ] {
        let text = serde_json::to_string(&ending).unwrap();
        assert_eq!(text, format!("\"{ending}\""));
        assert_eq!(serde_json::from_str::<Ending>(&text).unwrap(), ending);
    }
    let later: Ending = serde_json::from_str("\"meteorite\"").unwrap();
    assert_eq!(later, Ending::Unknown);
}

/// Every case there is: mark, panic (none, any, the software watchdog's), watchdog
/// flag now and when the boot began. Whether panics are kept changes words only.
#[test]
fn the_whole_table() {
    use Ending::{Orderly, Panic as Died, PowerCut, Unknown, Watchdog};
    let panics = ["", "Oh no", "Software Watchdog Timer expired"];
    // A line a mark and panic; the columns: no flag, flag before only, flag now, both.
    let table = [
        (Mark::None, 0, [Unknown, Unknown, Watchdog, Watchdog]),
        (Mark::None, 1, [Died, Died, Died, Died]),
        (Mark::None, 2, [Watchdog, Watchdog, Watchdog, Watchdog]),
        (Mark::Running, 0, [PowerCut, PowerCut, Watchdog, Watchdog]),
        (Mark::Running, 1, [Died, Died, Died, Died]),
        (Mark::Running, 2, [Watchdog, Watchdog, Watchdog, Watchdog]),
        (Mark::Orderly, 0, [Orderly, Orderly, Watchdog, Orderly]),
        (Mark::Orderly, 1, [Died, Died, Died, Died]),
        (Mark::Orderly, 2, [Watchdog, Watchdog, Watchdog, Watchdog]),
    ];
    let mut sentences = std::collections::BTreeSet::new();
    for (mark, panic, row) in table {
        for (column, expected) in row.into_iter().enumerate() {
            for keeps_panics in [false, true] {
                let evidence = Evidence {
                    mark,
                    panic: (panic > 0).then(|| Panic {
                        message: panics[panic].to_owned(),
                    }),
                    watchdog: column >= 2,
                    watchdog_before: column % 2 == 1,
                    keeps_panics,
                };
                let (ending, sentence) = evidence.ending();
                assert_eq!(ending, expected, "{evidence:?}");
                assert!(!sentence.is_empty() && !sentence.ends_with('.'));
                sentences.insert(format!("{ending}: {sentence}"));
            }
        }
    }
    // What they say differs wherever something else is known.
    assert_eq!(sentences.len(), 13, "{sentences:#?}");
}

#[test]
fn a_device_that_keeps_no_panics_says_so() {
    let mut evidence = Evidence {
        mark: Mark::Running,
        panic: None,
        watchdog: false,
        watchdog_before: false,
        keeps_panics: false,
    };
    assert!(evidence.ending().1.contains("a panic would leave none"));
    evidence.keeps_panics = true;
    assert!(!evidence.ending().1.contains("would leave none"));
}

#[test]
fn the_kernel_s_own_words_are_passed_on() {
    let evidence = Evidence {
        mark: Mark::Running,
        panic: Some(Panic {
            message: "sysrq triggered crash".to_owned(),
        }),
        watchdog: false,
        watchdog_before: false,
        keeps_panics: true,
    };
    let (ending, sentence) = evidence.ending();
    assert_eq!(ending, Ending::Panic);
    assert_eq!(sentence, "the kernel panicked: sysrq triggered crash");
}
