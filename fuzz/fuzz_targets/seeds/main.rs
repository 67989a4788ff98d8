//! usage: seeds DIR
//! Writes what the fuzz targets begin with to `DIR/<target>/`: a stream with
//! every kind of command, every hostile stream of the tests, and what else has
//! a format. Files that are there already stay.
//!
//! A fuzz target that ends before it fuzzes, so that one build has everything.
#![no_main]

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../../sendstream/tests/streams/build.rs"]
mod build;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../../sendstream/tests/hostile/cases/mod.rs"]
mod cases;
#[path = "../../../sendstream/tests/hostile/say.rs"]
mod say;

mod backup;
mod brings;
mod device;
mod health;
mod release;
mod trust;

use std::ffi::OsString;
use std::path::PathBuf;
use std::{fs, io};

use libfuzzer_sys::fuzz_target;

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

fn write(dir: Option<OsString>) -> io::Result<()> {
    let dir = dir.ok_or_else(|| io::Error::other("usage: seeds DIR"))?;
    let corpus = Corpus(dir.into());
    streams(&corpus)?;
    backup::all(&corpus)?;
    brings::all(&corpus)?;
    device::all(&corpus)?;
    health::all(&corpus)?;
    release::manifests(&corpus)?;
    release::chunks(&corpus)?;
    release::extents(&corpus)?;
    trust::signatures(&corpus)
}

/// Ends the program: there is nothing to fuzz here.
fn end(written: io::Result<()>) {
    if let Err(why) = &written {
        eprintln!("seeds: {why}");
    }
    std::process::exit(i32::from(written.is_err()))
}

fuzz_target!(
    init: end(write(std::env::args_os().nth(1))),
    |_data: &[u8]| {}
);
