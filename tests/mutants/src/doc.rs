//! `docs/mutants.md`, written from the tables.

use std::fmt::Write as _;

use crate::table::{Chapter, Table};

/// Where it lies, in the repository.
pub(crate) const PATH: &str = "docs/mutants.md";

const HEAD: &str = "\
<!-- Written by `op-dbus-mutants doc` from tests/mutants/table; change that. -->
# Mutation controls

A durability or verification step that no test misses is a step that somebody will lose. So each is taken out in turn, and
the test named beside it must fail.

```sh
make mutants                                   # all of them, on a copy of the tracked files
make mutants NAMES='record-syncfs lock-flock'  # some
op-dbus-mutants run --jobs 2 --json            # see --help
```

Every killer is first shown to pass without a mutant, and to test something. Then one mutant at a time is put in: a failing
test *kills* it, so does a test that no longer ends; one that does not compile is *broken* and one that passes has
*survived*, and both fail the run. Logs are in `target/mutants/logs`. `make test-fast` checks that every mutant still fits
its file and is in this table.

Many killers watch the system calls of the real programs ([`tests/calls`](../tests/calls/src/lib.rs)): which writes, renames
and subvolumes were not yet durable when something began to rely on them. What that means on a real disk, the crash explorer
shows.
";

/// The whole page.
pub fn page(table: &Table) -> String {
    let mut text = HEAD.to_owned();
    let count = table.mutants().count();
    let proved = table.mutants().filter(|m| m.redundant.is_some()).count();
    let _ = writeln!(text, "\n{count} mutants, {proved} of them proved harmless.");
    for chapter in &table.chapters {
        write_chapter(&mut text, chapter);
    }
    text
}

fn write_chapter(text: &mut String, chapter: &Chapter) {
    let _ = writeln!(text, "\n## {}\n", chapter.title);
    text.push_str("| Mutant | Without | Then | Killed by |\n|---|---|---|---|\n");
    for mutant in &chapter.mutant {
        let killer = match (&mutant.killer, &mutant.redundant) {
            (Some(killer), _) => format!("`{killer}`"),
            (None, Some(proof)) => format!("nothing can: {}", cell(proof)),
            (None, None) => String::new(),
        };
        let _ = writeln!(
            text,
            "| `{}`<br/>[{}](../{}) | {} | {} | {killer} |",
            mutant.name,
            short(&mutant.file),
            mutant.file,
            cell(&mutant.without),
            cell(&mutant.why),
        );
    }
}

/// Crate and file, which is enough to recognise it.
fn short(file: &str) -> String {
    file.replacen("src/", "", 1)
}

fn cell(text: &str) -> String {
    text.trim().replace('\n', " ").replace('|', "\\|")
}
