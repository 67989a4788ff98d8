//! One QEMU process: how it is started, and what comes out of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use op_dbus_vm_guest::proto::{Event, PORT_NAME, Request};
use serde_json::Value;

use crate::error::{Context, Error, Result};

/// How long QEMU may take to connect to us after its start.
const CONNECT: Duration = Duration::from_secs(30);

/// The emulation to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU's own emulation: everywhere, slow.
    #[default]
    Tcg,
    /// The kernel's: only where asked for.
    Kvm,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The image.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// Where to log its writes, if they shall be.
    pub log: Option<PathBuf>,
}

/// An image's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Plain bytes.
    Raw,
    /// Copy-on-write over a base.
    Qcow2,
}

/// A machine to start.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// Emulation.
    pub accelerator: Accelerator,
    /// Virtual processors.
    pub processors: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The kernel's image.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: PathBuf,
    /// Its command line.
    pub command_line: String,
    /// Disks, in the order the guest sees them.
    pub disks: Vec<Disk>,
}

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
        let mut monitor = accept(&monitors, &mut guard)?;
        let clone = |stream: &UnixStream| stream.try_clone().context(|| "clone a socket".into());
        let (sender, messages) = mpsc::channel();
        read_console(console, log, sender.clone());
        read_lines(clone(&channel)?, sender.clone(), |line| {
            serde_json::from_str(&line).ok().map(Message::Guest)
        });
        monitor
            .write_all(b"{\"execute\":\"qmp_capabilities\"}\n")
            .context(|| "talk to QEMU's monitor".into())?;
        read_monitor(monitor, sender);
        let Some(child) = guard.0.take() else {
            return Err(Error::Host("QEMU was lost".into()));
        };
        Ok(Self {
            child,
            channel,
            messages,
            _sockets: sockets,
        })
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

/// The machine itself.
fn machine(hardware: &Hardware) -> Vec<String> {
    let accelerator = match hardware.accelerator {
        Accelerator::Tcg => "tcg,thread=multi",
        Accelerator::Kvm => "kvm",
    };
    let mut words: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| {
        words.push(option.to_owned());
        words.push(value);
    };
    add("-machine", "q35,vmport=off".into());
    add("-accel", accelerator.into());
    add("-cpu", "max".into());
    add("-smp", hardware.processors.to_string());
    add("-m", hardware.memory_mib.to_string());
    add("-display", "none".into());
    add("-kernel", hardware.kernel.display().to_string());
    add("-initrd", hardware.initrd.display().to_string());
    add("-append", hardware.command_line.clone());
    add("-device", "virtio-serial-pci".into());
    add(
        "-device",
        format!("virtserialport,chardev=channel,name={PORT_NAME}"),
    );
    for (number, disk) in hardware.disks.iter().enumerate() {
        for node in nodes(number, disk) {
            add("-blockdev", node);
        }
        add("-device", format!("virtio-blk-pci,drive=disk{number}"));
    }
    // A guest that restarts ends this QEMU: one process, one boot.
    words.extend(["-no-reboot", "-nodefaults", "-no-user-config"].map(String::from));
    words
}

/// The block nodes of one disk; the last is called `disk<number>`. A comma in a
/// path is doubled, as QEMU's option syntax wants it.
fn nodes(number: usize, disk: &Disk) -> Vec<String> {
    let path = |path: &Path| path.display().to_string().replace(',', ",,");
    let driver = match disk.format {
        Format::Raw => "raw",
        Format::Qcow2 => "qcow2",
    };
    let read_only = if disk.read_only { "on" } else { "off" };
    let name = if disk.log.is_some() {
        format!("inner{number}")
    } else {
        format!("disk{number}")
    };
    let mut nodes = vec![format!(
        "driver={driver},node-name={name},read-only={read_only},discard=ignore,\
         file.driver=file,file.filename={},file.locking=off",
        path(&disk.path)
    )];
    if let Some(log) = &disk.log {
        nodes.push(format!(
            "driver=blklogwrites,node-name=disk{number},file={name},log-sector-size=512,\
             log.driver=file,log.filename={},log.locking=off",
            path(log)
        ));
    }
    nodes
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

fn read_monitor(stream: UnixStream, sender: Sender<Message>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            // Answers to our own commands are no events.
            let event = serde_json::from_str::<Value>(&line)
                .ok()
                .filter(|value| value.get("event").is_some());
            if event.is_some_and(|event| sender.send(Message::Monitor(event)).is_err()) {
                return;
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

    #[test]
    fn a_logged_disk_is_two_nodes_and_commas_survive() {
        let disk = Disk {
            path: "/a,b".into(),
            format: Format::Raw,
            read_only: false,
            log: Some("/log".into()),
        };
        let nodes = nodes(0, &disk);
        assert!(nodes[0].contains("node-name=inner0") && nodes[0].contains("/a,,b"));
        assert!(nodes[1].starts_with("driver=blklogwrites,node-name=disk0,file=inner0"));
    }
}
