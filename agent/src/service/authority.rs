//! Who may do what: root everything; others what polkit allows them, and without
//! polkit nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_lite::{StreamExt as _, future};
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::{Flags, Header};
use zbus::names::{BusName, UniqueName};
use zbus::zvariant::Value;

use super::error::{Error, Result};

const POLKIT: &str = "org.freedesktop.PolicyKit1";
const AUTHORITY: &str = "/org/freedesktop/PolicyKit1/Authority";
const INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";
/// `AllowUserInteraction` of `CheckAuthorization`.
const INTERACT: u32 = 1;

/// How long somebody may think about a password.
const QUESTION: Duration = Duration::from_secs(120);
/// Calls of one connection that may wait at once, and questions to one user. The
/// bus limits the connections of a user.
const CALLS_MAX: usize = 4;
const QUESTIONS_MAX: usize = 4;

/// What there is to ask leave for, by its polkit action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Bring a release into the store, or end that.
    Receive,
    /// Put a version on trial.
    Stage,
    /// Go back to an earlier version.
    Rollback,
    /// Take the trial back.
    Cancel,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Receive, Self::Stage, Self::Rollback, Self::Cancel];

    /// Its name in `org.opdbus.deploy1.policy`.
    pub fn id(self) -> &'static str {
        match self {
            Self::Receive => "org.opdbus.deploy1.receive",
            Self::Stage => "org.opdbus.deploy1.stage",
            Self::Rollback => "org.opdbus.deploy1.rollback",
            Self::Cancel => "org.opdbus.deploy1.cancel",
        }
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Their connection; the bus gives a name of this kind out once only.
    pub name: UniqueName<'static>,
    /// Their user, as the bus saw it when they connected.
    pub uid: u32,
    /// Whether they may be asked for a password.
    pub interactive: bool,
}

impl Caller {
    /// Whoever sent a message, by the bus' word.
    pub async fn of(header: &Header<'_>, bus: &Connection) -> Result<Self> {
        let name = header
            .sender()
            .ok_or_else(|| Error::denied("the call has no sender"))?;
        let unknown = |why: zbus::Error| Error::denied(format!("who calls is not known: {why}"));
        let daemon = DBusProxy::new(bus).await.map_err(unknown)?;
        let uid = daemon
            .get_connection_unix_user(BusName::from(name.clone()))
            .await;
        let flags = header.primary().flags();
        Ok(Self {
            name: name.to_owned(),
            uid: uid.map_err(|why| unknown(why.into()))?,
            interactive: flags.contains(Flags::AllowInteractiveAuth),
        })
    }
}

/// Lets so many in at once for each key.
#[derive(Debug)]
pub struct Gate<K> {
    limit: usize,
    inside: Arc<Mutex<BTreeMap<K, usize>>>,
}

/// Inside; dropping it leaves.
#[derive(Debug)]
pub struct Pass<K: Ord> {
    key: K,
    inside: Arc<Mutex<BTreeMap<K, usize>>>,
}

impl<K: Ord + Clone> Gate<K> {
    /// None are inside.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            inside: Arc::default(),
        }
    }

    /// Goes in, if there is room.
    pub fn enter(&self, key: K) -> Result<Pass<K>> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let count = inside.entry(key.clone()).or_default();
        if *count >= self.limit {
            return Err(Error::too_many());
        }
        *count += 1;
        Ok(Pass {
            key,
            inside: Arc::clone(&self.inside),
        })
    }

    /// Whether nobody is inside.
    pub fn is_empty(&self) -> bool {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.is_empty()
    }
}

impl<K: Ord> Drop for Pass<K> {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inside.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.key);
            }
        }
    }
}

/// Asks polkit.
#[derive(Debug)]
pub struct Authority {
    /// Calls that are not answered yet, by connection.
    pub calls: Gate<String>,
    questions: Gate<u32>,
    next: AtomicU64,
}

impl Default for Authority {
    fn default() -> Self {
        Self {
            calls: Gate::new(CALLS_MAX),
            questions: Gate::new(QUESTIONS_MAX),
            next: AtomicU64::new(0),
        }
    }
}

impl Authority {
    /// That a caller may do something. `about` is shown with the question; its
    /// values must have been checked.
    pub async fn require(
        &self,
        bus: &Connection,
        caller: &Caller,
        action: Action,
        about: &[(&str, &str)],
    ) -> Result<()> {
        if caller.uid == 0 {
            return Ok(());
        }
        let _pass = self.questions.enter(caller.uid)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let cancellation = format!("op-dbus-agent-{number}");
        let asked = ask(bus, caller, action, about, &cancellation);
        let timer = async {
            async_io::Timer::after(QUESTION).await;
        };
        let given_up = future::or(gone(bus, &caller.name), timer);
        // The question first: an answer that is there counts.
        let answer = future::or(async { Some(asked.await) }, async {
            given_up.await;
            None
        });
        if let Some(answer) = answer.await {
            return answer;
        }
        // Takes the question off somebody's screen. What becomes of this call no
        // longer matters.
        let _ = bus
            .call_method(
                Some(POLKIT),
                AUTHORITY,
                Some(INTERFACE),
                "CancelCheckAuthorization",
                &cancellation,
            )
            .await;
        Err(Error::denied(
            "nobody answered the question for leave in time",
        ))
    }
}

async fn ask(
    bus: &Connection,
    caller: &Caller,
    action: Action,
    about: &[(&str, &str)],
    cancellation: &str,
) -> Result<()> {
    let subject = HashMap::from([("name", Value::from(caller.name.as_str()))]);
    let about: HashMap<_, _> = about.iter().copied().collect();
    let flags = if caller.interactive { INTERACT } else { 0 };
    let reply = bus
        .call_method(
            Some(POLKIT),
            AUTHORITY,
            Some(INTERFACE),
            "CheckAuthorization",
            &(
                ("system-bus-name", subject),
                action.id(),
                about,
                flags,
                cancellation,
            ),
        )
        .await;
    let body = reply.map_err(|why| {
        Error::denied(format!(
            "polkit gave no answer ({why}); without it only root may do this"
        ))
    })?;
    let body = body.body();
    let (is_authorized, is_challenge, details): (bool, bool, HashMap<String, String>) = body
        .deserialize()
        .map_err(|why| Error::denied(format!("polkit's answer: {why}")))?;
    if is_authorized {
        Ok(())
    } else if is_challenge && !caller.interactive {
        Err(Error::needs_interaction())
    } else if details.contains_key("polkit.dismissed") {
        Err(Error::denied("the question for leave was dismissed"))
    } else {
        Err(Error::denied(format!(
            "polkit does not allow {} to this user",
            action.id()
        )))
    }
}

/// Waits until a connection is gone.
async fn gone(bus: &Connection, name: &UniqueName<'_>) {
    let watch = async {
        let daemon = DBusProxy::new(bus).await?;
        let args = [(0, name.as_str()), (2, "")];
        let mut changes = daemon.receive_name_owner_changed_with_args(&args).await?;
        // It may have gone before anybody watched.
        if daemon.name_has_owner(BusName::from(name.clone())).await? {
            changes.next().await;
        }
        Ok::<_, zbus::Error>(())
    };
    if watch.await.is_err() {
        // Without a watch the question's own time limit has to do.
        future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What polkit does not know it refuses, and what it allows is in this file.
    #[test]
    fn each_action_is_known_to_polkit_and_nobody_may_without_a_password() {
        let text = include_str!("../../polkit-1/org.opdbus.deploy1.policy");
        let known: Vec<_> = text
            .split("<action id=\"")
            .skip(1)
            .map(|rest| rest.split_once("</action>").unwrap().0)
            .collect();
        assert_eq!(known.len(), Action::ALL.len());
        for (action, known) in Action::ALL.into_iter().zip(known) {
            assert!(known.starts_with(&format!("{}\">", action.id())), "{known}");
            for (whose, allowed) in [
                ("any", "auth_admin"),
                ("inactive", "auth_admin"),
                ("active", "auth_admin_keep"),
            ] {
                let line = format!("<allow_{whose}>{allowed}</allow_{whose}>");
                assert!(known.contains(&line), "{}: {line}", action.id());
            }
        }
    }

    #[test]
    fn a_gate_lets_so_many_in_for_each() {
        let gate = Gate::new(2);
        let first = gate.enter("a").unwrap();
        let _second = gate.enter("a").unwrap();
        let refused = gate.enter("a").unwrap_err();
        assert_eq!(refused.name(), "org.freedesktop.DBus.Error.LimitsExceeded");
        let other = gate.enter("b").unwrap();
        drop(first);
        let _third = gate.enter("a").unwrap();
        drop(other);
        assert!(!gate.is_empty());
    }

    #[test]
    fn an_empty_gate_remembers_nobody() {
        let gate = Gate::new(1);
        drop(gate.enter(7).unwrap());
        assert!(gate.is_empty());
        let _again = gate.enter(7).unwrap();
    }
}
