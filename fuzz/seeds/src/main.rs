//! usage: op-dbus-fuzz-seeds DIR
//! Writes what the fuzz targets begin with to `DIR/<target>/`: a stream with
//! every kind of command, every hostile stream of the tests, and what else has
//! a format. Files that are there already stay.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../../sendstream/tests/streams/build.rs"]
mod build;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../../sendstream/tests/hostile/cases/mod.rs"]
mod cases;
#[path = "../../../sendstream/tests/hostile/say.rs"]
mod say;

mod release;
mod trust;

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where seeds go.
struct Corpus(PathBuf);

impl Corpus {
    fn add(&self, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        let dir = self.0.join(target);
        fs::create_dir_all(&dir)?;
        let path = dir.join(name);
        if path.exists() {
            return Ok(());
        }
        fs::write(path, bytes)
    }
}

fn streams(corpus: &Corpus) -> io::Result<()> {
    let mut seeds = vec![(
        "incremental".to_owned(),
        build::Stream::incremental().end().bytes,
    )];
    for version in [1, 2] {
        seeds.push((format!("rich-v{version}"), build::rich(version).bytes));
    }
    let hostile = cases::all("/outside").into_iter().enumerate();
    seeds.extend(hostile.map(|(index, case)| (format!("hostile-{index}"), case.bytes)));
    for (name, bytes) in seeds {
        corpus.add("stream", &name, &bytes)?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let dir = std::env::args_os()
        .nth(1)
        .ok_or_else(|| io::Error::other("usage: op-dbus-fuzz-seeds DIR"))?;
    let corpus = Corpus(Path::new(&dir).to_owned());
    streams(&corpus)?;
    release::manifests(&corpus)?;
    release::chunks(&corpus)?;
    release::extents(&corpus)?;
    trust::signatures(&corpus)
}
