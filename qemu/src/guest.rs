//! A booted guest: waits for what it says, asks it to do things, ends it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use op_dbus_vm_guest::proto::{Cut, Event, Exit, Request};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::hardware::{Fault, Hardware, failing};
use crate::qemu::{Message, Qemu};

/// How long the last lines of a boot may take from QEMU to us.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// How a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The guest restarted in good order.
    Reboot,
    /// The guest switched itself off.
    PowerOff,
    /// Its kernel crashed.
    Panic,
    /// The host cut its power.
    PowerCut,
    /// Its watchdog restarted it.
    Watchdog,
}

impl Ending {
    /// One word for a timeline.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::PowerOff => "power-off",
            Self::Panic => "panic",
            Self::PowerCut => "power cut",
            Self::Watchdog => "watchdog",
        }
    }
}

/// A guest between power-on and its end.
#[derive(Debug)]
pub struct Guest {
    qemu: Qemu,
    console: PathBuf,
    started: Instant,
    lines: Vec<String>,
    events: std::collections::VecDeque<Event>,
    shutdown: Option<String>,
    bitten: bool,
    restarted: bool,
    gone: bool,
    ready: Option<(String, f64)>,
}

impl Guest {
    /// Switches `hardware` on; its console goes to the file `console`.
    pub fn boot(hardware: &Hardware, console: &Path) -> Result<Self> {
        Ok(Self {
            qemu: Qemu::start(hardware, console)?,
            console: console.to_owned(),
            started: Instant::now(),
            lines: Vec::new(),
            events: std::collections::VecDeque::new(),
            shutdown: None,
            bitten: false,
            restarted: false,
            gone: false,
            ready: None,
        })
    }

    /// Seconds since power-on.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// The kernel's boot id and the seconds it took to get ready, once it is.
    pub fn ready(&self) -> Option<(&str, f64)> {
        self.ready.as_ref().map(|(id, at)| (id.as_str(), *at))
    }

    /// Whether the boot is over and the machine went on with its next one by
    /// itself.
    pub fn goes_on(&self) -> bool {
        self.restarted && !self.gone
    }

    /// The next boot of a machine that goes on: what was said before is forgotten.
    pub fn go_on(&mut self) {
        self.started = Instant::now();
        self.lines.clear();
        self.events.clear();
        self.shutdown = None;
        self.bitten = false;
        self.restarted = false;
        self.ready = None;
    }

    /// The file its console goes to: for a machine that goes on, that of its first
    /// boot.
    pub fn log(&self) -> &Path {
        &self.console
    }

    /// Every console line so far.
    pub fn console(&self) -> &[String] {
        &self.lines
    }

    /// Waits until the guest serves the channel; its boot id.
    pub fn wait_ready(&mut self, within: Duration) -> Result<String> {
        loop {
            match self.event("the guest to get ready", within)? {
                Event::Ready { boot_id, .. } => {
                    self.ready = Some((boot_id.clone(), self.seconds()));
                    return Ok(boot_id);
                }
                // Early activation was to be cut but ended first.
                Event::Missed(_) => {}
                other => return Err(self.surprise("to get ready", &other)),
            }
        }
    }

    /// The next event, or none in that time.
    pub fn poll(&mut self, within: Duration) -> Result<Option<Event>> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.gone {
                return Err(self.error("the guest ended by itself".into()));
            }
            if !self.pump(deadline) && !self.gone {
                return Ok(None);
            }
        }
    }

    /// Sends a request and waits for nothing.
    pub fn send(&mut self, request: &Request) -> Result<()> {
        self.qemu.send(request)
    }

    /// Runs a command of QEMU's monitor.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        self.qemu.execute(command, arguments)
    }

    /// Waits for a console line that contains `text`, from the first line on.
    pub fn wait_console(&mut self, text: &str, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        let mut seen = 0;
        loop {
            if let Some(line) = self
                .lines
                .iter()
                .skip(seen)
                .find(|line| line.contains(text))
            {
                return Ok(line.clone());
            }
            seen = self.lines.len();
            if !self.pump(deadline) {
                return Err(self.late(&format!("console text \"{text}\""), within));
            }
        }
    }

    /// Runs a program in the guest to its end.
    pub fn run(&mut self, argv: &[&str], within: Duration) -> Result<Exit> {
        let words: Vec<String> = argv.iter().map(ToString::to_string).collect();
        self.request(&Request::Run(words), &argv.join(" "), within)
    }

    /// As [`run`](Self::run); anything but exit code 0 is an error.
    pub fn check(&mut self, argv: &[&str], within: Duration) -> Result<String> {
        let exit = self.run(argv, within)?;
        if exit.code == 0 {
            return Ok(exit.stdout);
        }
        Err(self.error(format!(
            "`{}` ended with {}: {}",
            argv.join(" "),
            exit.code,
            exit.stderr.trim()
        )))
    }

    /// Replaces a file in the guest.
    pub fn write(&mut self, path: &str, text: &str, within: Duration) -> Result<()> {
        let write = op_dbus_vm_guest::proto::Write {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        self.request(&Request::Write(write), path, within).map(drop)
    }

    /// Replaces a file in the guest as a careful program does: it is on the medium
    /// when this returns.
    pub fn keep(&mut self, path: &str, text: &str, within: Duration) -> Result<()> {
        let write = op_dbus_vm_guest::proto::Write {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        self.request(&Request::Keep(write), path, within).map(drop)
    }

    /// A text file of the guest; `None` when it can't be read.
    pub fn read(&mut self, path: &str, within: Duration) -> Result<Option<String>> {
        self.qemu.send(&Request::Read(path.to_owned()))?;
        match self.event(path, within)? {
            Event::Exit(exit) => Ok(Some(exit.stdout)),
            Event::Error { .. } => Ok(None),
            other => Err(self.surprise(&format!("to read {path}"), &other)),
        }
    }

    /// What directories of the guest hold, as text to compare.
    pub fn list(&mut self, roots: &[&str], within: Duration) -> Result<String> {
        let roots: Vec<String> = roots.iter().map(ToString::to_string).collect();
        let what = roots.join(" ");
        self.request(&Request::List(roots), &what, within)
            .map(|exit| exit.stdout)
    }

    /// Runs a program until a moment, and leaves it frozen there. An error when
    /// the program ends first.
    pub fn wait_cut(&mut self, argv: &[String], at: &str, within: Duration) -> Result<()> {
        let cut = Cut {
            run: argv.to_vec(),
            at: at.to_owned(),
        };
        self.qemu.send(&Request::Cut(cut))?;
        self.wait_paused(at, within)
    }

    /// Waits until what is traced stands at the moment `at`.
    pub fn wait_paused(&mut self, at: &str, within: Duration) -> Result<()> {
        match self.event(&format!("the moment {at}"), within)? {
            Event::Paused { .. } => Ok(()),
            Event::Missed(exit) => Err(self.error(format!(
                "the moment {at} never came: the program ended with {}: {}",
                exit.code,
                exit.stderr.trim()
            ))),
            other => Err(self.surprise(&format!("to reach {at}"), &other)),
        }
    }

    /// From now on these requests to the first disk fail.
    pub fn fail(&mut self, faults: &[Fault]) -> Result<()> {
        self.execute("blockdev-add", &failing("failing", "disk0", faults))?;
        let drive =
            json!({"path": "/machine/peripheral/blk0", "property": "drive", "value": "failing"});
        self.execute("qom-set", &drive).map(drop)
    }

    /// Cuts the power now.
    pub fn cut(&mut self) -> Result<()> {
        self.qemu.kill()
    }

    /// Asks the guest to restart or switch off, to crash or to let its watchdog
    /// bite, and waits until it has.
    pub fn leave(&mut self, how: Ending, within: Duration) -> Result<Ending> {
        let request = match how {
            Ending::Reboot => Request::Reboot,
            Ending::PowerOff => Request::Poweroff,
            Ending::Panic => Request::Panic,
            Ending::Watchdog => Request::Bite,
            Ending::PowerCut => {
                self.qemu.kill()?;
                return Ok(Ending::PowerCut);
            }
        };
        if how == Ending::Watchdog {
            // It has a while yet, and may have no watchdog to start.
            self.request(&request, "watchdog", within)?;
        } else {
            self.qemu.send(&request)?;
        }
        self.wait_end(within)
    }

    /// Waits until the guest ends by itself; how it did.
    pub fn wait_end(&mut self, within: Duration) -> Result<Ending> {
        let deadline = Instant::now() + within;
        while !self.gone && !self.restarted {
            if !self.pump(deadline) && !self.gone {
                return Err(self.late("the guest's end", within));
            }
        }
        // What QEMU wrote last may still be on its way through the readers.
        if self.gone {
            self.qemu.wait()?;
            while self.pump(Instant::now() + LAST_WORDS) {}
        } else {
            // The next boot has begun; its kernel says nothing as early as that.
            let end = Instant::now() + LAST_WORDS;
            while self.pump(end) {}
        }
        let panicked = self
            .lines
            .iter()
            .any(|line| line.contains("Kernel panic - not syncing"));
        match self.shutdown.as_deref() {
            _ if self.bitten => Ok(Ending::Watchdog),
            _ if panicked => Ok(Ending::Panic),
            Some("guest-reset") => Ok(Ending::Reboot),
            Some("guest-shutdown") => Ok(Ending::PowerOff),
            Some("guest-panic") => Ok(Ending::Panic),
            other => Err(self.error(format!(
                "QEMU ended without the guest's doing ({})",
                other.unwrap_or("no reason given")
            ))),
        }
    }

    fn request(&mut self, request: &Request, what: &str, within: Duration) -> Result<Exit> {
        self.qemu.send(request)?;
        match self.event(&format!("the end of `{what}`"), within)? {
            Event::Exit(exit) => Ok(exit),
            other => Err(self.surprise(&format!("to finish `{what}`"), &other)),
        }
    }

    fn event(&mut self, what: &str, within: Duration) -> Result<Event> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if self.gone || self.restarted {
                return Err(self.error(format!("the guest ended while we waited for {what}")));
            }
            if !self.pump(deadline) && !self.gone {
                return Err(self.late(what, within));
            }
        }
    }

    /// Takes in one message; false at the deadline and after the end.
    fn pump(&mut self, deadline: Instant) -> bool {
        match self.qemu.next(deadline) {
            None => return false,
            Some(Message::Gone) => {
                let first = !self.gone;
                self.gone = true;
                return first;
            }
            Some(Message::Console(line)) => self.lines.push(line),
            Some(Message::Guest(event)) => self.events.push_back(event),
            Some(Message::Monitor(event)) => {
                let what = event.get("event").and_then(Value::as_str);
                match what {
                    Some("SHUTDOWN" | "RESET") => {
                        let reason = event.pointer("/data/reason").and_then(Value::as_str);
                        self.shutdown = reason.map(str::to_owned);
                        // The firmware resets the machine once more when it wakes up in
                        // one that has run: before the kernel says its first words.
                        let is_first = |line: &String| line.contains("Linux version");
                        let has_begun = self.lines.iter().any(is_first);
                        self.restarted |= what == Some("RESET") && has_begun;
                    }
                    Some("WATCHDOG") => self.bitten = true,
                    _ => {}
                }
            }
        }
        true
    }

    fn late(&self, what: &str, within: Duration) -> Error {
        Error::Deadline {
            what: what.to_owned(),
            seconds: within.as_secs(),
            console: self.console.display().to_string(),
        }
    }

    fn error(&self, what: String) -> Error {
        Error::Guest {
            what,
            console: self.console.display().to_string(),
        }
    }

    fn surprise(&self, expected: &str, event: &Event) -> Error {
        self.error(format!("the guest was {expected}, but said {event:?}"))
    }
}
