//! The files of a run: what the disk was before the last cut, what was written
//! until then, and what it is now.
//!
//! The disk of today is always made from the other two, so that a run can be
//! stopped at any moment and goes on from where it was.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::state::{self, Cut, Purpose, State};
use crate::bench::{LOG_BYTES, copy_sparse};
use crate::error::{Context, Error, Result};
use crate::hardware::{Disk, Format};
use crate::logwrites;
use crate::powercut::{self, Tally};

/// The disks of a run in its directory.
#[derive(Debug)]
pub(super) struct Disks {
    directory: PathBuf,
    prepared: PathBuf,
}

impl Disks {
    /// In `directory`; a new device starts with a copy of `prepared`.
    pub(super) fn new(directory: &Path, prepared: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            prepared: prepared.to_owned(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn before(&self, number: u32) -> PathBuf {
        self.file(&format!("before-{number}.img"))
    }

    pub(super) fn log(&self, number: u32) -> PathBuf {
        self.file(&format!("writes-{number}.log"))
    }

    fn now(&self) -> PathBuf {
        self.file("now.img")
    }

    /// Makes the disk that the last cut has left, or that of a new device.
    pub(super) fn recover(&self, state: &State) -> Result<Tally> {
        let now = self.now();
        let Some(cut) = &state.cut else {
            copy_sparse(&self.prepared, &now)?;
            return Ok(Tally::default());
        };
        copy_sparse(&self.before(cut.number), &now)?;
        let log = self.log(cut.number);
        let mut entries = logwrites::read(&log)?;
        if state.lying_disk {
            for entry in &mut entries {
                entry.flush = false;
            }
        }
        let entries = entries.get(..cut.position).ok_or_else(|| {
            let (found, path) = (entries.len(), log.display());
            Error::Host(format!(
                "{path} has {found} requests in place of {}",
                cut.position
            ))
        })?;
        let mut chance = state.chance(cut.number, Purpose::Disk);
        let (pieces, tally) = powercut::random(entries, &mut chance);
        powercut::write(&pieces, &now)?;
        Ok(tally)
    }

    /// A copy of it to run on, logged as the boot that cut `number` will end.
    pub(super) fn power_on(&self, number: u32) -> Result<Disk> {
        let path = self.file("run.img");
        copy_sparse(&self.now(), &path)?;
        let log = self.log(number);
        let file = File::create(&log).at("create", &log)?;
        file.set_len(LOG_BYTES).at("size", &log)?;
        Ok(Disk {
            path,
            format: Format::Raw,
            read_only: false,
            log: Some(log),
            faults: Vec::new(),
        })
    }

    /// Books the cut of `state`: what was the disk is now the one before it.
    /// `last` is the cut that it follows.
    pub(super) fn book(&self, state: &State, cut: &Cut, last: Option<&Cut>) -> Result<()> {
        let before = self.before(cut.number);
        fs::rename(self.now(), &before).at("keep", &before)?;
        state.save(&self.directory)?;
        if let Some(last) = last {
            for path in [self.before(last.number), self.log(last.number)] {
                fs::remove_file(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }

    /// Copies all that shows what the last cut did to the directory `to`, in such
    /// a way that a run can be resumed from there.
    pub(super) fn keep_evidence(
        &self,
        state: &State,
        consoles: &[PathBuf],
        to: &Path,
    ) -> Result<()> {
        fs::create_dir_all(to).at("make", to)?;
        let mut files = consoles.to_vec();
        if let Some(cut) = &state.cut {
            files.extend([self.before(cut.number), self.log(cut.number)]);
        }
        for path in files.iter().filter(|path| path.exists()) {
            copy_sparse(path, &to.join(path.file_name().unwrap_or_default()))?;
        }
        copy_sparse(&self.now(), &to.join("after.img"))?;
        state.save(to)
    }

    /// Removes all disks; the state stays.
    pub(super) fn remove(&self) -> Result<()> {
        for entry in fs::read_dir(&self.directory).at("list", &self.directory)? {
            let path = entry.at("list", &self.directory)?.path();
            let kind = path.extension().and_then(|extension| extension.to_str());
            let is_log = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("writes-"));
            if kind == Some("img") || is_log {
                fs::remove_file(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }

    /// The state's file.
    pub(super) fn state(&self) -> PathBuf {
        state::file(&self.directory)
    }
}
