//! Observes units and names over the system bus.
//!
//! systemd's side is its D-Bus interface (org.freedesktop.systemd1(5)); a name is
//! well when its owner answers a call: by default
//! `org.freedesktop.DBus.Peer.Ping`, which D-Bus libraries answer by themselves
//! for a program that serves objects and whose main loop runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use op_dbus_health::subject::Call;
use zbus::blocking::{Connection, connection};
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use super::judge::Finding;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const BUS: &str = "org.freedesktop.DBus";

/// A connection that many checks share: a bus accepts only so many of one user.
/// It is made when first needed, and again after it broke.
#[derive(Debug, Clone)]
pub struct Bus {
    /// For one call.
    timeout: Duration,
    connection: Arc<Mutex<Option<Connection>>>,
}

impl Bus {
    /// Not connected yet. `timeout`: for one call.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            connection: Arc::default(),
        }
    }

    /// What is the matter with a unit.
    pub fn unit(&self, name: &str) -> Finding {
        self.ask(|connection| unit(connection, name).map(|state| judge_unit(&state)))
    }

    /// Whether the owner of a name answers.
    pub fn name(&self, name: &str, call: &Call) -> Finding {
        self.ask(|connection| ask_owner(connection, name, call))
    }

    fn ask(&self, look: impl FnOnce(&Connection) -> zbus::Result<Finding>) -> Finding {
        let found = self.connect().and_then(|connection| {
            look(&connection).inspect_err(|error| {
                // A method's own error leaves the connection as good as it was,
                // and so does an answer that does not come.
                if !matches!(error, zbus::Error::MethodError(..)) && !is_timeout(error) {
                    self.forget(&connection);
                }
            })
        });
        found.unwrap_or_else(|error| Finding::NotYet(self.words(&error)))
    }

    /// The bus may accept a connection and then say nothing: the others wait as
    /// well, and to whoever keeps the clock they are all overdue.
    fn connect(&self) -> zbus::Result<Connection> {
        let mut shared = self.lock();
        if let Some(connection) = &*shared {
            return Ok(connection.clone());
        }
        let connection = connection::Builder::system()?
            .method_timeout(self.timeout)
            .build()?;
        Ok(shared.insert(connection).clone())
    }

    /// Unless somebody else has already made another.
    fn forget(&self, broken: &Connection) {
        let mut shared = self.lock();
        let is_this = |one: &Connection| one.unique_name() == broken.unique_name();
        if shared.as_ref().is_some_and(is_this) {
            *shared = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_timeout(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::InputOutput(error) if error.kind() == std::io::ErrorKind::TimedOut)
}

/// What systemd says about a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UnitState {
    load: String,
    active: String,
    sub: String,
    /// Services only: automatic restarts so far.
    restarts: u32,
    /// Services only: how the last run ended.
    result: String,
    /// Microseconds after boot when it last became active; 0 if it never was.
    since: u64,
    /// Whether systemd is about to do something with it.
    job: bool,
}

fn judge_unit(state: &UnitState) -> Finding {
    let UnitState {
        load,
        active,
        sub,
        restarts,
        result,
        since,
        job,
    } = state;
    let tried = match restarts {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        _ => format!(", restarted {restarts} times"),
    };
    match active.as_str() {
        _ if load != "loaded" => Finding::NotYet(format!(
            "{load}; is it in the version's lib/systemd/system, and not masked?"
        )),
        // "active (auto-restart)" does not exist: a unit that waits for its
        // restart is "activating".
        "active" | "reloading" => Finding::Well {
            mark: format!("{since} {restarts}"),
        },
        // systemd goes through no "failed" on the way to an automatic restart
        // that a client could see, so this state stays.
        "failed" => Finding::Lost(format!("failed ({result}){tried}")),
        // A service that gives up its bus name before it exits is stopped by
        // systemd, and that counts as a success: it may end here in place of
        // "failed". One that is restarted has a job.
        "inactive" if *since > 0 && !job => {
            Finding::Lost(format!("stopped after it had run ({result}){tried}"))
        }
        _ => Finding::NotYet(format!("{active} ({sub}){tried}")),
    }
}

fn unit(connection: &Connection, name: &str) -> zbus::Result<UnitState> {
    // LoadUnit, not GetUnit: one that is not running need not be in memory.
    let path: OwnedObjectPath = connection
        .call_method(
            Some(SYSTEMD),
            "/org/freedesktop/systemd1",
            Some("org.freedesktop.systemd1.Manager"),
            "LoadUnit",
            &name,
        )?
        .body()
        .deserialize()?;
    let is_service = name.ends_with(".service");
    Ok(UnitState {
        load: property(connection, &path, UNIT, "LoadState")?,
        active: property(connection, &path, UNIT, "ActiveState")?,
        sub: property(connection, &path, UNIT, "SubState")?,
        since: property(connection, &path, UNIT, "ActiveEnterTimestampMonotonic")?,
        job: property::<(u32, OwnedObjectPath)>(connection, &path, UNIT, "Job")?.0 != 0,
        restarts: if is_service {
            property(connection, &path, SERVICE, "NRestarts")?
        } else {
            0
        },
        result: if is_service {
            property(connection, &path, SERVICE, "Result")?
        } else {
            "failed".to_owned()
        },
    })
}

fn property<T>(
    connection: &Connection,
    path: &OwnedObjectPath,
    interface: &str,
    name: &str,
) -> zbus::Result<T>
where
    T: TryFrom<OwnedValue, Error: Into<zbus::zvariant::Error>>,
{
    let value: OwnedValue = connection
        .call_method(
            Some(SYSTEMD),
            path,
            Some("org.freedesktop.DBus.Properties"),
            "Get",
            &(interface, name),
        )?
        .body()
        .deserialize()?;
    T::try_from(value).map_err(|error| zbus::Error::Variant(error.into()))
}

/// Asks the present owner, by its unique name: calling the name itself would
/// have the bus start an activatable service just to answer.
fn ask_owner(connection: &Connection, name: &str, call: &Call) -> zbus::Result<Finding> {
    let owner: String = connection
        .call_method(
            Some(BUS),
            "/org/freedesktop/DBus",
            Some(BUS),
            "GetNameOwner",
            &name,
        )?
        .body()
        .deserialize()?;
    connection.call_method(
        Some(owner.as_str()),
        call.path.as_str(),
        Some(call.interface.as_str()),
        call.method.as_str(),
        &(),
    )?;
    Ok(Finding::Well { mark: owner })
}

impl Bus {
    /// One line, without D-Bus' own words where there are better ones.
    fn words(&self, error: &zbus::Error) -> String {
        match error {
            zbus::Error::MethodError(name, text, _) => match name.as_str() {
                "org.freedesktop.DBus.Error.NameHasNoOwner" => {
                    "no program owns it; does the service run, and does the bus policy allow the name?"
                        .to_owned()
                }
                other => text.clone().unwrap_or_else(|| other.to_owned()),
            },
            error if is_timeout(error) => {
                format!("no answer within {} s", self.timeout.as_secs())
            }
            other => format!("system bus: {other}; is dbus.service running?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(active: &str, sub: &str) -> UnitState {
        UnitState {
            load: "loaded".to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            restarts: 2,
            result: "exit-code".to_owned(),
            since: 7,
            job: false,
        }
    }

    #[test]
    fn active_is_well_and_a_restart_changes_the_mark() {
        let before = judge_unit(&state("active", "running"));
        assert!(matches!(before, Finding::Well { .. }));
        let mut later = state("active", "running");
        later.since = 8;
        assert_ne!(judge_unit(&later), before);
    }

    #[test]
    fn waiting_for_a_restart_is_not_well() {
        assert_eq!(
            judge_unit(&state("activating", "auto-restart")),
            Finding::NotYet("activating (auto-restart), restarted 2 times".to_owned())
        );
    }

    #[test]
    fn failed_is_lost() {
        assert_eq!(
            judge_unit(&state("failed", "failed")),
            Finding::Lost("failed (exit-code), restarted 2 times".to_owned())
        );
    }

    #[test]
    fn what_ran_and_stopped_is_lost_unless_it_is_about_to_start() {
        let mut stopped = state("inactive", "dead");
        stopped.result = "success".to_owned();
        assert_eq!(
            judge_unit(&stopped),
            Finding::Lost("stopped after it had run (success), restarted 2 times".to_owned())
        );
        stopped.job = true;
        assert!(matches!(judge_unit(&stopped), Finding::NotYet(_)));
        stopped.job = false;
        stopped.since = 0;
        assert!(matches!(judge_unit(&stopped), Finding::NotYet(_)));
    }

    #[test]
    fn a_unit_that_is_not_there_is_not_well() {
        let mut state = state("inactive", "dead");
        state.load = "not-found".to_owned();
        assert!(
            matches!(judge_unit(&state), Finding::NotYet(reason) if reason.starts_with("not-found"))
        );
    }
}
