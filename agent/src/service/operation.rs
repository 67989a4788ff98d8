//! One operation at a time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::error::{Error, Result};
use super::progress::Progress;
use super::stage::Stop;

/// What is under way.
#[derive(Debug)]
struct Operation {
    uid: u32,
    can_be_interrupted: bool,
    progress: Progress,
    stop: Arc<Stop>,
}

#[derive(Debug, Default)]
struct Place {
    operation: Option<Operation>,
    is_closed: bool,
}

/// The place there is for one.
#[derive(Debug, Default)]
pub struct Slot {
    place: Mutex<Place>,
    freed: Condvar,
}

/// An operation under way; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    slot: Arc<Slot>,
    /// Ends it.
    pub stop: Arc<Stop>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That one could begin now.
    pub fn require_free(&self) -> Result<()> {
        let place = self.lock();
        if place.is_closed {
            return Err(Error::busy("the service is about to end; call again"));
        }
        match &place.operation {
            None => Ok(()),
            Some(operation) => Err(Error::busy(format!(
                "another operation is under way ({}); wait for its end",
                operation.progress.phase
            ))),
        }
    }

    /// Begins one.
    pub fn begin(
        self: &Arc<Self>,
        phase: &'static str,
        uid: u32,
        can_be_interrupted: bool,
    ) -> Result<Running> {
        let mut place = self.lock();
        if place.is_closed || place.operation.is_some() {
            drop(place);
            self.require_free()?;
            return Err(Error::busy(
                "another operation is under way; wait for its end",
            ));
        }
        let stop = Arc::new(Stop::default());
        place.operation = Some(Operation {
            uid,
            can_be_interrupted,
            progress: Progress::began(phase),
            stop: Arc::clone(&stop),
        });
        Ok(Running {
            slot: Arc::clone(self),
            stop,
        })
    }

    /// Where it is: a phase and percent, or nothing and 0.
    pub fn progress(&self) -> (String, u32) {
        self.lock()
            .operation
            .as_ref()
            .map_or_else(Default::default, |operation| {
                (
                    operation.progress.phase.to_owned(),
                    operation.progress.percent,
                )
            })
    }

    /// Who asked for what can be interrupted now.
    pub fn interruptible(&self) -> Result<u32> {
        let place = self.lock();
        let operation = place
            .operation
            .as_ref()
            .filter(|operation| operation.can_be_interrupted);
        operation
            .map(|operation| operation.uid)
            .ok_or_else(Error::nothing_to_interrupt)
    }

    /// Asks it to end, if it is of a kind that can and, where that is given, of
    /// this user.
    pub fn interrupt(&self, of: Option<u32>) -> Result<()> {
        let place = self.lock();
        let operation = place.operation.as_ref().filter(|operation| {
            operation.can_be_interrupted && of.is_none_or(|uid| uid == operation.uid)
        });
        let operation = operation.ok_or_else(Error::nothing_to_interrupt)?;
        operation.stop.ask();
        Ok(())
    }

    /// Lets none begin any more, if none is under way.
    pub fn close_if_free(&self) -> bool {
        let mut place = self.lock();
        if place.operation.is_none() {
            place.is_closed = true;
        }
        place.is_closed
    }

    /// Lets none begin any more, ends what can be ended, and waits for the rest:
    /// it has an end of its own, and is not to be cut off in the middle.
    pub fn close(&self) {
        let mut place = self.lock();
        place.is_closed = true;
        if let Some(operation) = &place.operation {
            if operation.can_be_interrupted {
                operation.stop.ask();
            }
        }
        while place.operation.is_some() {
            place = self
                .freed
                .wait(place)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Running {
    /// It came so far. Whether that is news.
    pub fn came_to(&self, progress: Progress) -> bool {
        let mut place = self.slot.lock();
        let Some(operation) = &mut place.operation else {
            return false;
        };
        let progress = progress.after(&operation.progress);
        let is_news = progress != operation.progress;
        operation.progress = progress;
        is_news
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.slot.lock().operation = None;
        self.slot.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: &str = "org.opdbus.Deploy1.Error.Busy";

    #[test]
    fn there_is_one_at_a_time() {
        let slot = Arc::new(Slot::default());
        let running = slot.begin("receiving", 1000, true).unwrap();
        assert_eq!(slot.begin("staging", 0, false).unwrap_err().name(), BUSY);
        assert_eq!(slot.progress(), ("receiving".to_owned(), 0));
        drop(running);
        assert_eq!(slot.progress(), (String::new(), 0));
        slot.begin("staging", 0, false).unwrap();
    }

    #[test]
    fn news_is_what_was_not_said_before() {
        let slot = Arc::new(Slot::default());
        let running = slot.begin("receiving", 0, true).unwrap();
        let at = |phase, percent| Progress { phase, percent };
        assert!(!running.came_to(at("receiving", 0)));
        assert!(running.came_to(at("receiving", 40)));
        assert!(!running.came_to(at("receiving", 30)));
        assert!(running.came_to(at("writing", 30)));
        assert_eq!(slot.progress(), ("writing".to_owned(), 40));
    }

    #[test]
    fn only_a_receive_is_interrupted_and_only_whose_was_meant() {
        let slot = Arc::new(Slot::default());
        assert!(slot.interrupt(None).is_err());
        let running = slot.begin("receiving", 1000, true).unwrap();
        assert!(slot.interrupt(Some(1001)).is_err());
        assert!(!running.stop.is_asked());
        assert_eq!(slot.interruptible().unwrap(), 1000);
        slot.interrupt(Some(1000)).unwrap();
        assert!(running.stop.is_asked());
        drop(running);
        let _staging = slot.begin("staging", 1000, false).unwrap();
        assert!(slot.interruptible().is_err());
    }

    #[test]
    fn nothing_begins_in_a_closed_slot_and_closing_waits() {
        let slot = Arc::new(Slot::default());
        let running = slot.begin("receiving", 0, true).unwrap();
        assert!(!slot.close_if_free());
        let stop = Arc::clone(&running.stop);
        let closer = std::thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.close()
        });
        while !stop.is_asked() {
            std::thread::yield_now();
        }
        // Long enough for one that does not wait.
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(!closer.is_finished());
        drop(running);
        closer.join().unwrap();
        assert_eq!(slot.begin("staging", 0, false).unwrap_err().name(), BUSY);
    }
}
