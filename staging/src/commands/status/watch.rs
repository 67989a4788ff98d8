//! `status --watch`: the same again and again, until a signal or a closed pipe.
//!
//! Between two looks the program sleeps in one `poll(2)`, which a signal ends,
//! and so does whoever read the output and is gone.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::low_level::pipe;

use super::look;
use super::paint::Screen;
use crate::context::Context;
use crate::error::{Exit, Failure, Result};

/// Home, with no cursor in the way.
const BEGIN: &str = "\x1b[?25l\x1b[H";
/// Clears what is left of a line, and of the screen.
const LINE: &str = "\x1b[K\n";
const REST: &str = "\x1b[J";
const CLEAR: &str = "\x1b[2J";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// Why the sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woke {
    /// The time is up.
    Time,
    /// The terminal has another size.
    Resized,
    /// A signal, or nobody reads any more.
    End,
}

/// Runs the command.
pub(crate) fn run(context: &Context, seconds: u32) -> Result<Exit> {
    let fail = |why| Failure::io("signal handler", why);
    let end = signals(&[SIGINT, SIGTERM, SIGHUP]).map_err(fail)?;
    let resized = signals(&[SIGWINCH]).map_err(fail)?;
    let interval = Duration::from_secs(seconds.into());
    let mut is_first = true;
    loop {
        let screen = Screen::stdout();
        let is_drawn = screen != Screen::default() && !context.json;
        // Warnings of its own each time: they would pile up.
        let context = context.with_config(context.config_path());
        let text = context.render(&look(&context, screen));
        let text = match (is_drawn, is_first) {
            (true, _) => drawn(&text, screen, is_first),
            (false, false) if !context.json => format!("\n{text}"),
            (false, _) => text,
        };
        match write(&text) {
            Err(why) if why.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            result => result.map_err(|why| Failure::io("standard output: write", why))?,
        }
        let woke =
            sleep(&end, &resized, interval, is_drawn).map_err(|why| Failure::io("poll", why))?;
        if woke == Woke::End {
            if is_drawn {
                let _ = write(SHOW_CURSOR);
            }
            return Ok(Exit::Done);
        }
        is_first = is_drawn && woke == Woke::Resized;
    }
}

/// A socket that becomes readable with one of the signals.
fn signals(which: &[i32]) -> io::Result<UnixStream> {
    let (here, there) = UnixStream::pair()?;
    here.set_nonblocking(true)?;
    for &signal in which {
        pipe::register(signal, there.try_clone()?)?;
    }
    Ok(here)
}

/// The screen over the one before, without a flicker, and no longer than is seen.
fn drawn(text: &str, screen: Screen, is_first: bool) -> String {
    let lines: Vec<_> = text.lines().collect();
    // The last row stays free: a newline there would scroll.
    let room = screen.height.map_or(usize::MAX, |rows| rows - 1);
    let more = lines.len().saturating_sub(room);
    let shown = if more == 0 { room } else { room - 1 };
    let mut drawn = String::from(BEGIN);
    if is_first {
        drawn.push_str(CLEAR);
    }
    for line in lines.iter().take(shown) {
        drawn.push_str(line);
        drawn.push_str(LINE);
    }
    if more > 0 {
        // Writing to a string can't fail.
        let _ = std::fmt::Write::write_fmt(
            &mut drawn,
            format_args!("({} more lines: make the window higher){LINE}", more + 1),
        );
    }
    drawn.push_str(REST);
    drawn
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn sleep(
    end: &UnixStream,
    resized: &UnixStream,
    interval: Duration,
    is_drawn: bool,
) -> io::Result<Woke> {
    let stdout = io::stdout();
    let until = Instant::now() + interval;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut waits = [
            PollFd::new(end, PollFlags::IN),
            PollFd::new(resized, PollFlags::IN),
            // Errors are told without being asked for: the reader is gone.
            PollFd::new(&stdout, PollFlags::empty()),
        ];
        match poll(&mut waits, Some(&left)) {
            Ok(0) => return Ok(Woke::Time),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(why) => return Err(why.into()),
        }
        let [ended, size, reader] = waits.map(|wait| wait.revents());
        if !ended.is_empty() || reader.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
        {
            return Ok(Woke::End);
        }
        if !size.is_empty() {
            drain(resized);
            if is_drawn {
                return Ok(Woke::Resized);
            }
        }
    }
}

fn drain(mut signals: &UnixStream) {
    use io::Read as _;
    let mut bytes = [0; 64];
    // Until it would block.
    while matches!(signals.read(&mut bytes), Ok(count) if count > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(rows: usize) -> Screen {
        Screen {
            width: Some(80),
            height: Some(rows),
            has_colour: false,
        }
    }

    #[test]
    fn no_line_of_the_screen_before_shows_through() {
        let text = drawn("one\ntwo\n", screen(24), true);
        assert_eq!(text, format!("{BEGIN}{CLEAR}one{LINE}two{LINE}{REST}"));
        assert!(
            !drawn("one\n", screen(24), false).contains(CLEAR),
            "it would flicker"
        );
    }

    #[test]
    fn it_never_scrolls() {
        let long = "line\n".repeat(30);
        for rows in 2..=40 {
            let text = drawn(&long, screen(rows), false);
            assert!(text.matches('\n').count() < rows, "{rows}");
            assert_eq!(text.contains("more lines"), rows <= 30, "{rows}");
        }
        let text = drawn(&long, screen(5), false);
        assert!(text.contains("(27 more lines"), "{text}");
    }
}
