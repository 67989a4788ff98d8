//! The table fits the tree, and the docs fit the table.

use std::fs;
use std::path::Path;

use op_dbus_mutants::{Table, page};

#[test]
fn every_mutant_fits_its_file_and_is_in_the_docs() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // Loading checks that each old text occurs exactly once.
    let table = Table::load(&repository).unwrap();
    assert!(table.mutants().count() > 10);
    let docs = fs::read_to_string(repository.join("docs/mutants.md")).unwrap();
    for mutant in table.mutants() {
        assert!(
            docs.contains(&format!("`{}`", mutant.name)),
            "{}",
            mutant.name
        );
    }
    assert!(
        docs == page(&table),
        "docs/mutants.md is not what the tables say; run: op-dbus-mutants doc"
    );
}
