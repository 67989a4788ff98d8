//! Being told to stop. systemd stops this program when the host shuts down, and
//! that says nothing about the version: it must end neither as a verdict nor as
//! a success, which would bless.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use super::watch::Message;

/// The number of the signal that came; 0: none.
pub(super) type Stop = Arc<AtomicUsize>;

/// From now on such a signal is a message. Without memory or file descriptors
/// for that, it kills, as it would have.
pub(super) fn listen(inbox: &Sender<Message>) -> Stop {
    let stop = Stop::default();
    if let Err(why) = register(&stop, inbox.clone()) {
        eprintln!("op-dbus-agent: listen for signals: {why}");
    }
    stop
}

fn register(stop: &Stop, inbox: Sender<Message>) -> std::io::Result<()> {
    let (mut woken, wakes) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        let number = usize::try_from(signal).unwrap_or_default();
        // In this order: the number is there when the reader wakes up.
        flag::register_usize(signal, Arc::clone(stop), number)?;
        low_level::pipe::register(signal, wakes.try_clone()?)?;
    }
    let wait = move || {
        let mut byte = [0];
        if woken.read_exact(&mut byte).is_ok() {
            // Nobody listens once there is a verdict.
            let _ = inbox.send(Message::Stop);
        }
    };
    thread::Builder::new().spawn(wait)?;
    Ok(())
}

/// Ends as the signal would have ended the program.
pub(super) fn end(stop: &Stop) -> ExitCode {
    let signal = i32::try_from(stop.load(Ordering::SeqCst)).unwrap_or_default();
    if signal != 0 {
        // Comes back only if that is not possible.
        let _ = low_level::emulate_default_handler(signal);
    }
    ExitCode::FAILURE
}
