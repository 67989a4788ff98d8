//! Clones from where they may not come, or of what is not there.

use super::{CANARY_FILE, Case, Expect, PARENT, UUID, v1};
use crate::build::Stream;
use crate::say::{Range, Say as _};

const FOREIGN: [u8; 16] = [0xcc; 16];

fn range(to: &'static str, from: &'static str) -> Range<'static> {
    Range {
        to,
        to_offset: 0,
        length: 4096,
        uuid: UUID,
        from,
        from_offset: 0,
    }
}

fn start() -> Stream {
    v1().mkfile("a").write("a", 0, &[1; 16384]).mkfile("b")
}

fn vet(rule: &str, range: &Range<'_>, words: &'static str) -> Case {
    let stream = start().clone_range(range).end();
    Case::new(rule, stream, Expect::Vet(words))
}

fn apply(rule: &str, stream: Stream, words: &'static [&'static str]) -> Case {
    Case::new(rule, stream.end(), Expect::Apply(words))
}

pub(super) fn cases() -> Vec<Case> {
    let misfit = &["Invalid", "regular file", "directory", "end of"][..];
    let limit = "beyond the limit";
    vec![
        vet(
            "clone from an unknown subvolume",
            &Range {
                uuid: FOREIGN,
                ..range("b", "a")
            },
            "foreign",
        ),
        vet(
            "clone from no subvolume",
            &Range {
                uuid: [0; 16],
                ..range("b", "a")
            },
            "foreign",
        ),
        vet(
            "clone from a parent that a full stream has not",
            &Range {
                uuid: PARENT,
                ..range("b", "a")
            },
            "foreign",
        ),
        vet(
            "clone from outside",
            &range("b", CANARY_FILE),
            "contains . or ..",
        ),
        vet(
            "clone of a huge length",
            &Range {
                length: u64::MAX,
                ..range("b", "a")
            },
            limit,
        ),
        vet(
            "clone to a huge offset",
            &Range {
                to_offset: 1 << 50,
                ..range("b", "a")
            },
            limit,
        ),
        vet(
            "clone whose end overflows",
            &Range {
                to_offset: u64::MAX,
                ..range("b", "a")
            },
            limit,
        )
        .allowing_everything(),
        apply(
            "clone whose source overflows",
            start().clone_range(&Range {
                from_offset: u64::MAX,
                ..range("b", "a")
            }),
            misfit,
        ),
        apply(
            "clone beyond the end",
            start().clone_range(&Range {
                from_offset: 1 << 20,
                ..range("b", "a")
            }),
            misfit,
        ),
        apply(
            "clone across the end",
            start().clone_range(&Range {
                length: 1 << 20,
                ..range("b", "a")
            }),
            misfit,
        ),
        apply(
            "clone of an unaligned range",
            start().clone_range(&Range {
                from_offset: 1,
                length: 100,
                ..range("b", "a")
            }),
            misfit,
        ),
        apply(
            "clone onto itself",
            start().clone_range(&Range {
                to_offset: 4096,
                length: 8192,
                ..range("a", "a")
            }),
            misfit,
        ),
        apply(
            "clone into a directory",
            start().mkdir("d").clone_range(&range("d", "a")),
            misfit,
        ),
        apply(
            "clone from a directory",
            start().mkdir("d").clone_range(&range("b", "d")),
            misfit,
        ),
        apply(
            "clone from a FIFO",
            start().mkfifo("p").clone_range(&range("b", "p")),
            misfit,
        ),
        apply(
            "clone into a FIFO",
            start().mkfifo("p").clone_range(&range("p", "a")),
            misfit,
        ),
        apply(
            "clone from a file that never was",
            start().clone_range(&range("b", "c")),
            &["No such file"],
        ),
        apply(
            "clone from a file the parent does not have",
            Stream::incremental().mkfile("b").clone_range(&Range {
                uuid: PARENT,
                ..range("b", "nothing")
            }),
            &["No such file"],
        )
        .on_parent(),
    ]
}
