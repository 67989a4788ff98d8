//! The tables of mutants.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::killer::Killer;

/// Where the tables are, in the repository.
const TABLES: &str = "tests/mutants/table";

/// All mutants, in the order of the tables' names and then of their own.
#[derive(Debug)]
pub struct Table {
    /// One for each table's file.
    pub chapters: Vec<Chapter>,
}

/// The mutants of one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chapter {
    /// Heading in the docs.
    pub title: String,
    /// The mutants.
    pub mutant: Vec<Mutant>,
}

/// One step taken out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// Unique, for the command line.
    pub name: String,
    /// The file it is in, relative to the repository.
    pub file: String,
    /// Text that occurs exactly once in that file.
    pub old: String,
    /// What takes its place.
    pub new: String,
    /// What is gone then, in words.
    pub without: String,
    /// What goes wrong then.
    pub why: String,
    /// The command that fails then; none for a step proved redundant.
    #[serde(default)]
    pub killer: Option<Killer>,
    /// Why no test can fail without this step: a proof, in one sentence.
    #[serde(default)]
    pub redundant: Option<String>,
}

impl Table {
    /// Reads the tables of a repository, and checks them against its files.
    pub fn load(repository: &Path) -> Result<Self> {
        let dir = repository.join(TABLES);
        let fail = || Error::io("read", &dir);
        let mut paths = Vec::new();
        for entry in fs::read_dir(&dir).map_err(fail())? {
            paths.push(entry.map_err(fail())?.path());
        }
        paths.sort();
        let mut chapters = Vec::new();
        for path in paths {
            let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            let chapter: Chapter = toml::from_str(&text).map_err(|why| Error::Table {
                path,
                why: why.to_string(),
            })?;
            chapters.push(chapter);
        }
        let table = Self { chapters };
        table.check(repository)?;
        Ok(table)
    }

    /// Every mutant.
    pub fn mutants(&self) -> impl Iterator<Item = &Mutant> {
        self.chapters.iter().flat_map(|chapter| &chapter.mutant)
    }

    /// Those with these names; all of them without any name.
    pub fn chosen(&self, names: &[String]) -> Result<Vec<&Mutant>> {
        let mut chosen = Vec::new();
        for name in names {
            let known = self.mutants().find(|mutant| mutant.name == *name);
            chosen.push(known.ok_or_else(|| Error::Unknown(name.clone()))?);
        }
        if names.is_empty() {
            chosen.extend(self.mutants());
        }
        Ok(chosen)
    }

    fn check(&self, repository: &Path) -> Result<()> {
        let mut names = BTreeSet::new();
        for mutant in self.mutants() {
            if !names.insert(&mutant.name) {
                return Err(mutant.wrong("there are two of that name"));
            }
            if mutant.killer.is_some() == mutant.redundant.is_some() {
                return Err(mutant.wrong("it has either a killer or a proof"));
            }
            let path = repository.join(&mutant.file);
            let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            mutant.applied_to(&text)?;
        }
        Ok(())
    }
}

impl Mutant {
    /// The file's text with this mutant in it.
    pub fn applied_to(&self, text: &str) -> Result<String> {
        let found = text.matches(&self.old).count();
        if found != 1 {
            let file = &self.file;
            return Err(self.wrong(format!("its old text occurs {found} times in {file}")));
        }
        if self.old == self.new {
            return Err(self.wrong("it changes nothing"));
        }
        Ok(text.replacen(&self.old, &self.new, 1))
    }

    fn wrong(&self, why: impl Into<String>) -> Error {
        Error::Mutant {
            mutant: self.name.clone(),
            why: why.into(),
        }
    }
}
