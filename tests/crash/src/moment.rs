//! What the disk holds in a state.

use std::sync::Arc;

use crate::content::Content;
use crate::log::{pieces, whole};
use crate::states::Fate;
use crate::{Entry, Image, Log, State};

/// Goes through a log. Going on is cheap, going back starts anew.
#[derive(Debug)]
pub(crate) struct Walker {
    log: Arc<Log>,
    /// How many entries `flushed` has in it.
    position: usize,
    flushed: Content,
}

impl Walker {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self {
            flushed: Content::new(log.base.pool.clone(), log.base.table.clone()),
            log,
            position: 0,
        }
    }

    /// Makes `content` what the disk holds in a state.
    pub(crate) fn show(&mut self, state: &State, content: &mut Content) -> Result<(), String> {
        let flushed = within(state, &self.log)?;
        if flushed < self.position {
            self.flushed.reset(&self.log.base.table);
            self.position = 0;
        }
        for entry in self.log.entries.iter().take(flushed).skip(self.position) {
            apply(entry, &Fate::Kept, &mut self.flushed);
        }
        self.position = flushed;
        content.clone_from(&self.flushed);
        apply_fates(state, &self.log, content);
        Ok(())
    }
}

/// What the disk holds in one state.
pub(crate) fn image(state: &State, log: &Log) -> Result<Image, String> {
    let flushed = within(state, log)?;
    let mut content = Content::new(log.base.pool.clone(), log.base.table.clone());
    for entry in log.entries.iter().take(flushed) {
        apply(entry, &Fate::Kept, &mut content);
    }
    apply_fates(state, log, &mut content);
    Ok(content.into_image())
}

/// How many entries the last flush covered. Fails where the log is too short.
fn within(state: &State, log: &Log) -> Result<usize, String> {
    let entries = log.entries.len();
    if state.position > entries {
        return Err(format!(
            "{state}: the log has only {entries} entries; take the log that the state is of"
        ));
    }
    Ok(state.flushed(log))
}

fn apply_fates(state: &State, log: &Log, content: &mut Content) {
    for (place, fate) in state.fates(log) {
        apply(&log.entries[place], &fate, content);
    }
}

fn apply(entry: &Entry, fate: &Fate, content: &mut Content) {
    let Entry::Write { offset, data } = entry else {
        return;
    };
    match fate {
        Fate::Lost => {}
        Fate::Kept => {
            for (block, page, sectors) in whole(*offset, data) {
                content.put(block, page, sectors);
            }
        }
        Fate::Torn(stays) => {
            for (block, page, sectors) in pieces(*offset, data, |sector| stays[sector]) {
                content.put(block, page, sectors);
            }
        }
    }
}
