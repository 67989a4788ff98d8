//! What the service knows and does, behind its interface.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use op_dbus_activator::layout::Layout;
use serde_json::Value as Json;
use zbus::Connection;
use zbus::fdo::Properties;
use zbus::names::InterfaceName;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::Value;

use super::authority::{Authority, Caller};
use super::error::{Error, Result};
use super::events::{self, Event, Told};
use super::files::Release;
use super::interface::Deploy;
use super::operation::Slot;
use super::progress::Progress;
use super::snapshot::Snapshot;
use super::stage::{Job, Stage, Stop};
use super::{NAME, PATH};

/// What a reader gets is not older than this: other programs change things too.
const FRESH: Duration = Duration::from_secs(5);
/// For reading the status, or the log. Below the time the bus gives a service to start.
const READING: Duration = Duration::from_secs(15);

/// The service's state, shared by its threads.
#[derive(Debug)]
pub struct Core {
    stage: Stage,
    layout: Layout,
    /// A directory of our own that lasts one boot.
    private: PathBuf,
    /// Who may do what.
    pub authority: Authority,
    /// What is under way.
    pub slot: Arc<Slot>,
    known: Mutex<Known>,
    refreshing: async_lock::Mutex<()>,
    used: Mutex<Instant>,
}

#[derive(Debug, Default)]
struct Known {
    snapshot: Snapshot,
    read_at: Option<Instant>,
}

/// An operation to perform.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name, for the journal and for `Finished`.
    pub name: &'static str,
    /// What it is doing until it says otherwise.
    pub phase: &'static str,
    /// Whether it can be ended before its end.
    pub can_be_interrupted: bool,
}

impl Core {
    /// Knows nothing yet.
    pub fn new(stage: Stage, layout: Layout, private: PathBuf) -> Self {
        Self {
            stage,
            layout,
            private,
            authority: Authority::default(),
            slot: Arc::default(),
            known: Mutex::default(),
            refreshing: async_lock::Mutex::default(),
            used: Mutex::new(Instant::now()),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody uses the service.
    pub fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// For how long nobody has used it.
    pub fn unused_for(&self) -> Duration {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }

    /// What is known, read anew if it is older than a few seconds.
    pub async fn snapshot(&self, bus: &Connection) -> Snapshot {
        self.touch();
        self.refresh(bus, FRESH).await;
        self.known().snapshot.clone()
    }

    /// Reads the status if it is older than this, and tells what changed. However
    /// many ask, it is read once.
    pub async fn refresh(&self, bus: &Connection, age: Duration) {
        let asked = Instant::now();
        let _one = self.refreshing.lock().await;
        let oldest = asked.checked_sub(age).unwrap_or(asked);
        if self
            .known()
            .read_at
            .is_some_and(|read_at| read_at >= oldest)
        {
            return;
        }
        let begun = Instant::now();
        let stage = self.stage.clone();
        let snapshot = blocking::unblock(move || read(&stage)).await;
        let before = {
            let mut known = self.known();
            let is_first = known.read_at.replace(begun).is_none();
            let before = std::mem::replace(&mut known.snapshot, snapshot.clone());
            (!is_first).then_some(before)
        };
        // Nobody was told anything before the first time.
        if let Some(before) = before {
            changed(bus, snapshot.changed_from(&before)).await;
        }
    }

    /// Tells what happened since the last time this was asked.
    pub async fn tell_events(&self, bus: &Connection) {
        let stage = self.stage.clone();
        let layout = self.layout.clone();
        let told = Told(self.private.join("told"));
        let found = blocking::unblock(move || events::since(&stage, &layout, &told, READING)).await;
        let found = found.unwrap_or_else(|why| {
            eprintln!("op-dbus-agent: audit log: {}", why.message());
            Vec::new()
        });
        let Ok(emitter) = SignalEmitter::new(bus, PATH) else {
            return;
        };
        for event in found {
            let sent = match event {
                Event::Staged { version } => Deploy::staged(&emitter, &version).await,
                Event::Blessed { version } => Deploy::blessed(&emitter, &version).await,
                Event::FellBack { to, reason } => Deploy::fell_back(&emitter, &to, &reason).await,
            };
            complain(sent);
        }
    }

    /// Performs an operation to its end, whether or not its caller waits for that.
    pub async fn operate(
        self: &Arc<Self>,
        bus: &Connection,
        caller: &Caller,
        kind: Kind,
        job: impl FnOnce(&Path) -> Result<(Job, Option<Release>)> + Send + 'static,
    ) -> Result<Json> {
        let running = self
            .slot
            .begin(kind.phase, caller.uid, kind.can_be_interrupted)?;
        self.tell_progress(bus).await;
        let core = Arc::clone(self);
        let told = bus.clone();
        let uid = caller.uid;
        let stop = Arc::clone(&running.stop);
        let (running, ended) = blocking::unblock(move || {
            let ended = job(&core.private).and_then(|(mut job, _files)| {
                job.args.insert(0, format!("--for-uid={uid}").into());
                let mut hear = |line: &Json| {
                    let progress = Progress::of(line);
                    if progress.is_some_and(|progress| running.came_to(progress)) {
                        futures_lite::future::block_on(core.tell_progress(&told));
                    }
                };
                core.stage.run(job, &stop, &mut hear)
            });
            (running, ended)
        })
        .await;
        let ended = match ended {
            Err(why) if running.stop.is_asked() => Err(Error::interrupted(why.message())),
            ended => ended,
        };
        report(kind, caller, &ended);
        self.refresh(bus, Duration::ZERO).await;
        self.tell_events(bus).await;
        drop(running);
        self.touch();
        self.tell_progress(bus).await;
        if let Ok(emitter) = SignalEmitter::new(bus, PATH) {
            let (version, error) = match &ended {
                Ok(said) => (word(said, "version"), ""),
                Err(why) => (String::new(), why.name()),
            };
            complain(Deploy::finished(&emitter, kind.name, &version, error).await);
        }
        ended
    }

    async fn tell_progress(&self, bus: &Connection) {
        let now = Value::from(self.slot.progress());
        changed(bus, HashMap::from([("Operation", now)])).await;
    }
}

/// A word of a result; empty where it says none.
pub fn word(said: &Json, name: &str) -> String {
    said.get(name)
        .and_then(Json::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn read(stage: &Stage) -> Snapshot {
    let job = Job {
        args: vec!["status".into()],
        limit: Some(READING),
        ..Job::default()
    };
    match stage.run(job, &Stop::default(), &mut |_| ()) {
        Ok(status) => Snapshot::of(&status),
        Err(why) => Snapshot::unknown(why.message()),
    }
}

async fn changed(bus: &Connection, properties: HashMap<&'static str, Value<'_>>) {
    if properties.is_empty() {
        return;
    }
    let Ok(emitter) = SignalEmitter::new(bus, PATH) else {
        return;
    };
    let interface = InterfaceName::from_static_str_unchecked(NAME);
    let none: &[&str] = &[];
    complain(Properties::properties_changed(&emitter, interface, properties, none.into()).await);
}

/// That a signal could not be sent changes nothing of what it tells of.
fn complain(sent: zbus::Result<()>) {
    if let Err(why) = sent {
        eprintln!("op-dbus-agent: signal: {why}");
    }
}

fn report(kind: Kind, caller: &Caller, ended: &Result<Json>) {
    let Kind { name, .. } = kind;
    let Caller { uid, name: by, .. } = caller;
    match ended {
        Ok(said) => {
            let (result, version) = (word(said, "result"), word(said, "version"));
            eprintln!("{name} for uid {uid} ({by}): {result} {version}");
        }
        Err(why) => eprintln!("{name} for uid {uid} ({by}): {}", why.message()),
    }
}
