//! Plays `op-dbus-stage`, and polkit.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use zbus::blocking::Connection;
use zbus::zvariant::OwnedValue;

use crate::bus::Bus;

/// So long a test waits for what must come: beyond any crowd on the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must come to be.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What it does stands in files beside it:
/// - `status.json`, `audit.json`: what these commands print;
/// - `script`: a piece of shell for the command that changes something, run with
///   its name as `$verb`, all arguments as `$*`;
/// - `calls`: its arguments, a line a run.
const STAGE: &str = r#"#!/bin/bash
cd "${0%/*}" || exit 99
echo "$*" >> calls
case " $* " in
    *" status "*) cat status.json ;;
    *" audit log "*) cat audit.json ;;
    *) . ./script ;;
esac
"#;

/// What a receive is played by: it is long, and ends in order at a signal.
pub(crate) const LONG: &str = r#"
say() { echo "{\"progress\":{\"phase\":\"$1\",\"done\":$2,\"total\":$3}}" >&2; }
trap 'echo TERM >> signals; echo "{\"error\":{\"code\":1,\"message\":\"interrupted; again\"}}" >&2; exit 1' TERM
say receiving 0 4
say receiving 2 4
touch began
while [ ! -e go ]; do sleep 0.02; done
say receiving 4 4
say writing 0 null
say reading-back 0 null
say publishing 0 null
echo '{"command":"receive","result":"received","version":"v1.1.0"}'
"#;

pub(crate) const STATUS: &str = r#"{"command":"status","result":"ok","this_boot":true,
"activation":{"outcome":"activated","version":"v1.0.0","slot":"good"},
"good":{"version":"v1.0.0"},"fallback":{"version":"v0.8.0"},"trial":null,
"quarantine":[{"version":"v0.9.0","cause":"condemned"}],
"versions":[{"version":"v1.0.0"},{"version":"v0.8.0"}],"problems":[],"next":["Nothing to do."]}"#;

/// The service, with a played `op-dbus-stage`.
pub(crate) struct Service {
    child: Child,
    // After the child, which uses it.
    pub(crate) bus: Bus,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Whatever a played program waits for has come.
        let _ = fs::write(self.bus.path("go"), "");
    }
}

impl Service {
    /// A service that has its name; none where that can't be.
    pub(crate) fn start() -> Option<Self> {
        Self::idle_after(3600)
    }

    pub(crate) fn idle_after(seconds: u32) -> Option<Self> {
        let bus = Bus::start()?;
        let put = |name: &str, text: &str| fs::write(bus.path(name), text).unwrap();
        put("stage", STAGE);
        put("status.json", STATUS);
        put("audit.json", r#"{"lines":[]}"#);
        put("script", "echo '{\"result\":\"done\"}'");
        fs::set_permissions(bus.path("stage"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(bus.path("run/op-dbus")).unwrap();
        let child = command(&bus, seconds).spawn().unwrap();
        let service = Self { child, bus };
        service.appears();
        Some(service)
    }

    fn appears(&self) {
        let connection = self.bus.connect(0);
        until("the service's name", || is_owned(&connection).then_some(()));
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        // In one step: the service may be reading.
        let aside = self.bus.path("aside");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, self.bus.path(name)).unwrap();
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.bus.path(name)).unwrap_or_default()
    }

    /// The runs that changed something, each with its arguments.
    pub(crate) fn calls(&self) -> Vec<String> {
        let lines = self.text("calls");
        let lines = lines.lines().map(str::to_owned);
        lines.filter(|line| line.contains("--for-uid")).collect()
    }

    /// What of callers' files is still there.
    pub(crate) fn copies(&self) -> Vec<String> {
        let entries = fs::read_dir(self.bus.path("run/op-dbus-agent")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("receive")).collect()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        until("the service's end", || self.child.try_wait().unwrap())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

/// The program on this bus.
pub(crate) fn command(bus: &Bus, idle: u32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_op-dbus-agent"));
    command
        .arg("serve")
        .arg("--run")
        .arg(bus.path("run"))
        .arg("--sysroot")
        .arg(bus.path("root"))
        .arg("--stage")
        .arg(bus.path("stage"))
        .arg(format!("--idle={idle}"))
        .env("DBUS_SYSTEM_BUS_ADDRESS", bus.address())
        .stdin(Stdio::null());
    command
}

pub(crate) fn is_owned(connection: &Connection) -> bool {
    let daemon = zbus::blocking::fdo::DBusProxy::new(connection).unwrap();
    daemon
        .name_has_owner("org.opdbus.Deploy1".try_into().unwrap())
        .unwrap()
}

/// What polkit was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) action: String,
    pub(crate) about: HashMap<String, String>,
    pub(crate) flags: u32,
    pub(crate) cancellation: String,
}

/// What polkit answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    Challenge,
    Dismissed,
    /// Somebody thinks about it.
    None,
}

#[derive(Debug, Default)]
struct Memory {
    questions: Vec<Question>,
    cancelled: Vec<String>,
    answer: Option<Answer>,
}

/// A played polkit.
pub(crate) struct Polkit {
    memory: Arc<(Mutex<Memory>, Condvar)>,
    _connection: Connection,
}

struct Authority(Arc<(Mutex<Memory>, Condvar)>);

impl Polkit {
    pub(crate) fn start(bus: &Bus, answer: Answer) -> Self {
        let memory = Arc::new((Mutex::<Memory>::default(), Condvar::new()));
        memory.0.lock().unwrap().answer = Some(answer);
        let connection = zbus::blocking::connection::Builder::address(bus.address().as_str())
            .and_then(|it| it.name("org.freedesktop.PolicyKit1"))
            .and_then(|it| {
                let path = "/org/freedesktop/PolicyKit1/Authority";
                it.serve_at(path, Authority(Arc::clone(&memory)))
            })
            .and_then(zbus::blocking::connection::Builder::build);
        Self {
            memory,
            _connection: connection.unwrap(),
        }
    }

    pub(crate) fn answers(&self, answer: Answer) {
        self.memory.0.lock().unwrap().answer = Some(answer);
        self.memory.1.notify_all();
    }

    pub(crate) fn questions(&self) -> Vec<Question> {
        self.memory.0.lock().unwrap().questions.clone()
    }

    pub(crate) fn cancelled(&self) -> Vec<String> {
        self.memory.0.lock().unwrap().cancelled.clone()
    }
}

#[zbus::interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Authority {
    async fn check_authorization(
        &self,
        subject: (String, HashMap<String, OwnedValue>),
        action: String,
        about: HashMap<String, String>,
        flags: u32,
        cancellation: String,
    ) -> (bool, bool, HashMap<String, String>) {
        assert_eq!(subject.0, "system-bus-name");
        let name = subject.1["name"].downcast_ref::<String>().unwrap();
        {
            let mut memory = self.0.0.lock().unwrap();
            memory.questions.push(Question {
                name,
                action,
                about,
                flags,
                cancellation: cancellation.clone(),
            });
        }
        // In a thread of its own: the bus' must go on, to hear of a cancellation.
        let memory = Arc::clone(&self.0);
        let answer = blocking::unblock(move || {
            let mut held = memory.0.lock().unwrap();
            loop {
                let answer = held.answer.unwrap_or(Answer::No);
                if answer != Answer::None {
                    return answer;
                }
                if held.cancelled.contains(&cancellation) {
                    return Answer::No;
                }
                held = memory.1.wait(held).unwrap();
            }
        });
        let answer = answer.await;
        let mut details = HashMap::new();
        if answer == Answer::Dismissed {
            details.insert("polkit.dismissed".to_owned(), "true".to_owned());
        }
        (answer == Answer::Yes, answer == Answer::Challenge, details)
    }

    fn cancel_check_authorization(&self, cancellation: String) {
        self.0.0.lock().unwrap().cancelled.push(cancellation);
        self.0.1.notify_all();
    }
}
