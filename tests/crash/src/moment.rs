//! What the disk holds in a state.

use std::sync::Arc;

use crate::content::Content;
use crate::log::{pieces, whole};
use crate::states::Fate;
use crate::{Entry, Log, State};

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
        let flushed = Content::new(log.base.pool.clone(), log.base.table.clone());
        Self {
            log,
            position: 0,
            flushed,
        }
    }

    /// Makes `content` what the disk holds in a state.
    pub(crate) fn show(&mut self, state: &State, content: &mut Content) -> Result<(), String> {
        let entries = self.log.entries.len();
        if state.position > entries {
            return Err(format!(
                "{state}: the log has only {entries} entries; the state is of another one"
            ));
        }
        let flushed = state.flushed(&self.log);
        if flushed < self.position {
            self.flushed.reset(&self.log.base.table);
            self.position = 0;
        }
        for entry in self.log.entries.iter().take(flushed).skip(self.position) {
            apply(entry, &Fate::Kept, &mut self.flushed);
        }
        self.position = flushed;
        content.clone_from(&self.flushed);
        for (place, fate) in state.fates(&self.log) {
            apply(&self.log.entries[place], &fate, content);
        }
        Ok(())
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
