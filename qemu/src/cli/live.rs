//! Tells a play as it goes.

use std::time::Instant;

use crate::player::Progress;

/// A listener that prints each boot and note with the minutes gone by.
pub(super) fn tell() -> impl FnMut(Progress<'_>) {
    let start = Instant::now();
    move |progress| {
        let seconds = start.elapsed().as_secs();
        let clock = format!("{:>3}:{:02}", seconds / 60, seconds % 60);
        match progress {
            Progress::Started(number) => println!("{clock}  ┌─ {number:>2}  power on"),
            Progress::Note(note) => println!("{clock}  │      {note}"),
            Progress::Ended(boot) => println!("{clock}{}", boot.line()),
        }
    }
}
