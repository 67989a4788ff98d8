//! Pictures of what a person sees, for the documentation: what the program
//! printed on a terminal, drawn. `make pictures` writes them into `docs/img`.
//!
//! The device is that of the other tests. What is not real about it is what a
//! boot does besides, and that a minute of it passes in a moment: the clock of
//! uptime runs in a time namespace (`unshare --time`), so that a verdict comes
//! when it would.

mod svg;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::fixture::Device;
use crate::status::watch;

/// Where the pictures go.
const DIRECTORY: &str = "OP_DBUS_PICTURES";
const COLUMNS: u16 = 80;

/// A device, and how long its boot has run.
struct Life {
    device: Device,
    /// Where its releases come from.
    media: String,
    seconds: f64,
}

impl Life {
    /// The command, at its time.
    fn command(&self, args: &[&str]) -> Command {
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let inner = self.device.command(args);
        let mut command = Command::new("unshare");
        command
            .args(["--time", "--boottime"])
            .arg(format!("{:.0}", self.seconds - uptime))
            .arg("--")
            .arg(inner.get_program())
            .args(inner.get_args());
        command
    }

    fn run(&self, args: &[&str]) {
        let ended = self.command(args).stdin(Stdio::null()).output().unwrap();
        assert!(ended.status.success(), "{args:?}: {ended:?}");
    }

    /// After so many seconds of a boot.
    fn at(&mut self, seconds: f64, args: &[&str]) {
        self.seconds = seconds;
        self.run(args);
    }

    fn boot(&mut self, expected: &str) {
        assert_eq!(self.device.boot(), expected);
        let path = self.device.layout.activation();
        let text = fs::read(&path).unwrap();
        let mut activation: serde_json::Value = serde_json::from_slice(&text).unwrap();
        activation["total_us"] = json!(41_250);
        fs::write(&path, activation.to_string()).unwrap();
        self.at(6.0, &["boot-report"]);
    }

    fn receive(&mut self, stream: &str, version: &str) {
        self.at(3600.0, &["receive", stream]);
        self.at(3605.0, &["stage", version]);
    }

    fn reboot(&mut self, expected: &str) {
        self.at(3660.0, &["orderly-shutdown"]);
        self.boot(expected);
    }

    /// What status shows, as a picture.
    fn draw(&self, name: &str, args: &[&str]) {
        let (command, screen) = watch::terminal(self.command(args), COLUMNS);
        let (_, shown) = watch::shown(command, screen);
        // The store is where it is on any device.
        let run = self.device.layout.run.display().to_string();
        let on_device = |text: &str| text.replace(&run, "/run").replace(&self.media, "/media");
        let shown = on_device(&shown);
        let prompt = on_device(&format!("# op-dbus-stage {}", args.join(" ")));
        let picture = svg::draw(&prompt, &shown, COLUMNS.into());
        let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
        fs::write(directory.join(name).with_extension("svg"), picture).unwrap();
    }
}

#[test]
#[ignore = "writes files of the documentation: make pictures"]
fn draw() {
    let Some(device) = Device::new() else { return };
    let builder = crate::builder::Builder::new();
    let streams =
        ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"].map(|version| builder.release(version, None));
    let media = Path::new(&streams[0]).parent().unwrap();
    let mut life = Life {
        device,
        media: media.display().to_string(),
        seconds: 0.0,
    };
    life.at(900.0, &["receive", &streams[0]]);
    life.at(905.0, &["stage", "v1.0.0"]);
    life.boot("trial v1.0.0");
    life.at(38.0, &["bless"]);
    life.reboot("good v1.0.0");
    life.at(33.0, &["bless"]);
    life.receive(&streams[1], "v1.1.0");
    life.reboot("trial v1.1.0");
    life.seconds = 19.0;
    life.draw("status-trial", &["status"]);
    life.at(41.0, &["bless"]);
    life.reboot("good v1.1.0");
    life.at(34.0, &["bless"]);
    life.draw("status-healthy", &["status"]);
    life.receive(&streams[2], "v1.2.0");
    life.reboot("trial v1.2.0");
    let why = "unit demo.service: failed (exit-code); tcp 127.0.0.1:8080: connection refused";
    life.at(27.0, &["condemn", "--reason", why]);
    life.at(28.0, &["orderly-shutdown"]);
    life.boot("good v1.1.0");
    life.at(35.0, &["bless"]);
    life.draw("status-fell-back", &["status"]);

    // Once more, and somebody changed the stream on its way.
    let stream = PathBuf::from(&streams[3]);
    crate::fixture::flip(&stream, 3000);
    life.draw("receive-refused", &["receive", &streams[3]]);
}
