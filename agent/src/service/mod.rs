//! `org.opdbus.Deploy1` on the system bus: everybody may look, and whoever polkit
//! lets may receive, stage, roll back and cancel.
//!
//! | Module | Does |
//! |---|---|
//! | [`interface`] | methods, properties and signals, with their documentation |
//! | [`core`] | what is known, and how an operation goes |
//! | [`operation`] | one operation at a time, and its end |
//! | [`authority`] | who may do what, by uid and polkit |
//! | [`files`] | what callers hand over: open files, never paths |
//! | [`stage`] | runs `op-dbus-stage`, within bounds |
//! | [`snapshot`], [`progress`], [`events`] | what it said, as properties and signals |
//! | [`error`] | the errors' names |
//!
//! Nothing is decided here about versions: each operation is a child, which holds
//! the locks, keeps the rules and writes the log as for anybody. So a bug in what
//! every user of the machine may talk to can refuse service, and not much more.

mod arguments;
pub mod authority;
pub mod core;
pub mod error;
pub mod events;
pub mod files;
pub mod interface;
pub mod operation;
pub mod progress;
pub mod snapshot;
pub mod stage;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use async_io::Timer;
use futures_lite::{StreamExt as _, future};
use op_dbus_activator::layout::Layout;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zbus::Connection;
use zbus::fdo::{DBusProxy, NameLostStream, RequestNameFlags};

use self::core::Core;
pub use arguments::{Arguments, main};
use interface::Deploy;
use stage::Stage;

/// The name on the bus, and of the interface.
pub const NAME: &str = "org.opdbus.Deploy1";
/// The object.
pub const PATH: &str = "/org/opdbus/Deploy1";

/// For the bus to take the name back.
const RELEASING: Duration = Duration::from_secs(2);
/// For answers that are on their way when the service ends.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// How to run `op-dbus-stage`.
    pub stage: Stage,
    /// Where everything is.
    pub layout: Layout,
    /// Ends after so long without use.
    pub idle: Duration,
}

/// Why the service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nobody used it.
    Idle,
    /// A signal asked for it.
    Stopped,
    /// The bus is gone, or has taken the name away.
    BusLost,
}

/// Why there is no service.
#[derive(Debug)]
pub struct ServeError {
    what: String,
    why: String,
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl std::error::Error for ServeError {}

fn error(what: impl Into<String>, why: &dyn std::fmt::Display) -> ServeError {
    ServeError {
        what: what.into(),
        why: why.to_string(),
    }
}

/// The directory of this service's own below `run`.
fn private(layout: &Layout) -> PathBuf {
    layout.run.join("op-dbus-agent")
}

/// Serves until nobody uses it any more, or a signal comes.
pub fn serve(options: Options) -> Result<Ended, ServeError> {
    let (send, end) = mpsc::channel();
    // Before anything is begun that a signal might have to end.
    watch_signals(send.clone())?;
    let directory = private(&options.layout);
    files::private(&directory).map_err(|why| error(directory.display().to_string(), &why))?;
    let idle = options.idle;
    let core = Arc::new(Core::new(options.stage, options.layout, directory));
    let (bus, lost) = future::block_on(appear(&core))?;
    watch_bus(lost, send);

    let ended = loop {
        let left = idle.saturating_sub(core.unused_for());
        match end.recv_timeout(left) {
            Ok(ended) => break ended,
            Err(RecvTimeoutError::Disconnected) => break Ended::BusLost,
            Err(RecvTimeoutError::Timeout) if core.unused_for() < idle => {}
            Err(RecvTimeoutError::Timeout) => {
                // Whoever waits for an answer uses it; and so does an operation.
                if core.authority.calls.is_empty() && core.slot.close_if_free() {
                    break Ended::Idle;
                }
                core.touch();
            }
        }
    };
    // The bus starts it anew for whoever calls from now on. One that is gone gives
    // no answer, and may go at any time.
    if ended != Ended::BusLost {
        future::block_on(future::or(
            async {
                let _ = bus.release_name(NAME).await;
            },
            async {
                let _ = Timer::after(RELEASING).await;
            },
        ));
    }
    core.slot.close();
    thread::sleep(LAST_ANSWERS);
    Ok(ended)
}

/// Connects, looks at the device, and takes the name: in this order, so that the
/// first answer is a true one. What tells of the bus' end is begun before, too:
/// a question to a bus that has ended may stay without an answer for ever.
async fn appear(core: &Arc<Core>) -> Result<(Connection, NameLostStream), ServeError> {
    let lost = |why: zbus::Error| {
        error(
            "system bus",
            &format_args!("{why}; is dbus.service running?"),
        )
    };
    let bus = zbus::connection::Builder::system()
        .and_then(|builder| builder.serve_at(PATH, Deploy(Arc::clone(core))))
        .map_err(lost)?
        .build()
        .await
        .map_err(lost)?;
    let daemon = DBusProxy::new(&bus).await.map_err(lost)?;
    let end = daemon.receive_name_lost().await.map_err(lost)?;
    core.refresh(&bus, Duration::ZERO).await;
    bus.request_name_with_flags(NAME, RequestNameFlags::DoNotQueue.into())
        .await
        .map_err(|why| {
            error(
                NAME,
                &format_args!(
                    "{why}; does the service run already, and may this user own the name?"
                ),
            )
        })?;
    core.tell_events(&bus).await;
    Ok((bus, end))
}

fn watch_signals(send: Sender<Ended>) -> Result<(), ServeError> {
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|why: io::Error| error("signals", &why))?;
    thread::spawn(move || {
        for _ in signals.forever() {
            // The first one is heard; nobody is left to hear the others.
            let _ = send.send(Ended::Stopped);
        }
    });
    Ok(())
}

fn watch_bus(mut lost: NameLostStream, send: Sender<Ended>) {
    thread::spawn(move || {
        future::block_on(async {
            while let Some(signal) = lost.next().await {
                if signal.args().is_ok_and(|args| args.name() == NAME) {
                    break;
                }
            }
        });
        let _ = send.send(Ended::BusLost);
    });
}
