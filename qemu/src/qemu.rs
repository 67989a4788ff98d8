//! One QEMU process: how it is started, and what comes out of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use op_dbus_vm_guest::proto::{Event, Request};
use serde_json::{Value, json};

use crate::error::{Context, Error, Result};
use crate::hardware::{Hardware, machine};

/// How long QEMU may take to connect to us after its start.
const CONNECT: Duration = Duration::from_secs(30);

/// How long QEMU's monitor may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// What came out of QEMU.
#[derive(Debug)]
pub enum Message {
    /// A line of the console, without control sequences.
    Console(String),
    /// An event of the guest program.
    Guest(Event),
    /// An event of QEMU's monitor.
    Monitor(Value),
    /// The monitor is closed: QEMU has ended or is about to.
    Gone,
}

/// A running QEMU. It is killed when dropped, and dies with this program.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    channel: UnixStream,
    monitor: UnixStream,
    answers: Receiver<Value>,
    messages: Receiver<Message>,
    _sockets: tempfile::TempDir,
}

impl Qemu {
    /// Starts `hardware`; the console's text goes to the file `console`, each
    /// line after the seconds since the start.
    pub fn start(hardware: &Hardware, console: &Path) -> Result<Self> {
        let sockets = tempfile::Builder::new()
            .prefix("op-dbus-vm-")
            .tempdir()
            .context(|| "make a directory for sockets".to_owned())?;
        let listen = |name: &str| {
            let path = sockets.path().join(name);
            UnixListener::bind(&path).at("listen on", &path)
        };
        let (consoles, channels, monitors) = (listen("con")?, listen("ch")?, listen("qmp")?);
        let log = File::create(console).at("create", console)?;
        let child = command(hardware, sockets.path()).spawn().context(|| {
            "start qemu-system-x86_64 (is it installed? see `op-dbus-vm check`)".into()
        })?;
        let mut guard = Killer(Some(child));
        let console = accept(&consoles, &mut guard)?;
        let channel = accept(&channels, &mut guard)?;
        let monitor = accept(&monitors, &mut guard)?;
        let clone = |stream: &UnixStream| stream.try_clone().context(|| "clone a socket".into());
        let (sender, messages) = mpsc::channel();
        read_console(console, log, sender.clone());
        read_lines(clone(&channel)?, sender.clone(), |line| {
            serde_json::from_str(&line).ok().map(Message::Guest)
        });
        let (answer, answers) = mpsc::channel();
        read_monitor(clone(&monitor)?, sender, answer);
        let Some(child) = guard.0.take() else {
            return Err(Error::Host("QEMU was lost".into()));
        };
        let mut qemu = Self {
            child,
            channel,
            monitor,
            answers,
            messages,
            _sockets: sockets,
        };
        qemu.execute("qmp_capabilities", &json!({}))?;
        Ok(qemu)
    }

    /// Runs a command of QEMU's monitor (QMP) and returns its answer.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut line = json!({"execute": command, "arguments": arguments}).to_string();
        line.push('\n');
        self.monitor
            .write_all(line.as_bytes())
            .context(|| format!("send {command} to QEMU's monitor"))?;
        let answer = self
            .answers
            .recv_timeout(ANSWER)
            .map_err(|_| Error::Host(format!("QEMU's monitor did not answer {command}")))?;
        match answer.get("return") {
            Some(value) => Ok(value.clone()),
            None => Err(Error::Host(format!("QEMU refused {command}: {answer}"))),
        }
    }

    /// The next message, or `None` at `deadline`.
    pub fn next(&mut self, deadline: Instant) -> Option<Message> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.messages.recv_timeout(left) {
            Ok(message) => Some(message),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => Some(Message::Gone),
        }
    }

    /// Sends a request to the guest.
    pub fn send(&mut self, request: &Request) -> Result<()> {
        let mut line = serde_json::to_vec(request)
            .map_err(std::io::Error::from)
            .context(|| "write a request".into())?;
        line.push(b'\n');
        self.channel
            .write_all(&line)
            .context(|| "send a request to the guest".into())
    }

    /// Kills QEMU as a power cut would the machine, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context(|| "kill QEMU".into())?;
        self.wait()
    }

    /// Waits until QEMU is gone.
    pub fn wait(&mut self) -> Result<()> {
        self.child
            .wait()
            .map(drop)
            .context(|| "wait for QEMU".into())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Kills a child that was started in vain.
struct Killer(Option<Child>);

impl Drop for Killer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The command line of QEMU. `setpriv` makes the kernel kill it when we die.
fn command(hardware: &Hardware, sockets: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    command.args(arguments(hardware, sockets));
    command.stdin(Stdio::null());
    command
}

/// A QEMU whose console is this program's terminal (Ctrl-A x ends it).
pub fn interactive(hardware: &Hardware) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    command.args(machine(hardware));
    command.args(["-serial", "mon:stdio", "-chardev", "null,id=channel"]);
    command
}

/// What is attached to our sockets.
fn arguments(hardware: &Hardware, sockets: &Path) -> Vec<String> {
    let mut words = machine(hardware);
    for (name, path) in [("console", "con"), ("channel", "ch"), ("monitor", "qmp")] {
        let path = sockets.join(path);
        words.push("-chardev".into());
        words.push(format!("socket,id={name},path={}", path.display()));
    }
    words.extend(
        [
            "-serial",
            "chardev:console",
            "-mon",
            "chardev=monitor,mode=control",
        ]
        .map(String::from),
    );
    words
}

fn accept(listener: &UnixListener, guard: &mut Killer) -> Result<UnixStream> {
    let end = Instant::now() + CONNECT;
    listener
        .set_nonblocking(true)
        .context(|| "prepare a socket".into())?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream
                    .set_nonblocking(false)
                    .context(|| "prepare a socket".into())?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context(|| "accept QEMU's connection".into()),
        }
        let ended = guard
            .0
            .as_mut()
            .is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if ended || Instant::now() > end {
            return Err(Error::Host(
                "qemu-system-x86_64 did not start (its reason is above)".into(),
            ));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn read_lines(
    stream: impl Read + Send + 'static,
    sender: Sender<Message>,
    parse: impl Fn(String) -> Option<Message> + Send + 'static,
) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            if parse(line).is_some_and(|message| sender.send(message).is_err()) {
                break;
            }
        }
    });
}

fn read_monitor(stream: UnixStream, sender: Sender<Message>, answers: Sender<Value>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            let Ok(value) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            // A greeting is neither.
            if value.get("event").is_some() {
                if sender.send(Message::Monitor(value)).is_err() {
                    return;
                }
            } else if value.get("return").or(value.get("error")).is_some() {
                // Nobody may be left to take it.
                let _ = answers.send(value);
            }
        }
        // Whoever listened may be gone as well.
        let _ = sender.send(Message::Gone);
    });
}

fn read_console(stream: UnixStream, mut log: File, sender: Sender<Message>) {
    let start = Instant::now();
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match reader.read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let line = plain(&String::from_utf8_lossy(&bytes));
            let seconds = start.elapsed().as_secs_f64();
            // The console is worth more to the test than to the log.
            let _ = writeln!(log, "{seconds:7.2}  {line}");
            if sender.send(Message::Console(line)).is_err() {
                return;
            }
        }
    });
}

/// `text` without carriage returns and terminal control sequences.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next() == Some('[') {
                    let _ = characters.find(|c| ('@'..='~').contains(c));
                }
            }
            '\r' | '\n' => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_go() {
        assert_eq!(
            plain("[\u{1b}[0;32m  OK  \u{1b}[0m] Started\r\n"),
            "[  OK  ] Started"
        );
        assert_eq!(plain("a\u{1b}"), "a");
    }
}
