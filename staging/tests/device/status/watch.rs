//! Status on a terminal, and again and again.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::Device;

/// Runs a command with a terminal for its output, and returns what that shows.
pub(super) fn on_terminal(
    device: &Device,
    args: &[&str],
    columns: u16,
    env: &[(&str, &str)],
) -> String {
    let (mut command, screen) = terminal(device.command(args), columns);
    command.envs(env.iter().copied());
    let (is_done, text) = shown(command, screen);
    assert!(is_done, "{text}");
    text
}

/// Gives a command a terminal for all it says.
pub(crate) fn terminal(mut command: Command, columns: u16) -> (Command, File) {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(&size, None).unwrap();
    command
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::from(pty.slave.try_clone().unwrap()))
        .stderr(Stdio::from(pty.slave));
    (command, File::from(pty.master))
}

/// Whether it succeeded, and what the terminal shows.
pub(crate) fn shown(mut command: Command, screen: File) -> (bool, String) {
    let mut child = command.spawn().unwrap();
    drop(command);
    let shown = read_all(screen);
    (child.wait().unwrap().success(), shown)
}

/// Until nobody has the other side open: Linux says EIO then.
fn read_all(mut screen: File) -> String {
    let mut bytes = Vec::new();
    let mut some = [0; 4096];
    while let Ok(count @ 1..) = screen.read(&mut some) {
        bytes.extend_from_slice(&some[..count]);
    }
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

#[test]
fn json_comes_a_line_at_a_time_until_a_signal() {
    let Some((device, _builder)) = Device::blessed() else {
        return;
    };
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut child = device
            .command(&["status", "--json", "--watch", "1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..2 {
            let status = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            super::schema::check(&status);
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        // What still comes is whole.
        for line in lines {
            super::schema::check(&serde_json::from_str(&line.unwrap()).unwrap());
        }
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let Some((device, _builder)) = Device::blessed() else {
        return;
    };
    // A day between two looks: only the closed pipe can end it.
    let mut child = device
        .command(&["status", "--watch", "86400"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    assert!(first.starts_with("HEALTHY: "), "{first}");
    drop(reader);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn a_terminal_is_drawn_over_and_gets_its_cursor_back() {
    let Some((device, _builder)) = Device::blessed() else {
        return;
    };
    let args = ["status", "--watch", "86400"];
    let (mut command, mut screen) = terminal(device.command(&args), 80);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut shown = Vec::new();
    let mut some = [0; 4096];
    while !shown.ends_with(b"\x1b[J") {
        let count = screen.read(&mut some).unwrap();
        shown.extend_from_slice(&some[..count]);
    }
    let text = String::from_utf8(shown).unwrap();
    assert!(text.starts_with("\u{1b}[?25l\u{1b}[H\u{1b}[2J"), "{text:?}");
    assert!(text.matches('\n').count() < 24, "it would scroll");
    kill(
        Pid::from_raw(child.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    screen.flush().unwrap();
    assert!(read_all(screen).ends_with("\u{1b}[?25h"));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_interval_is_a_second_to_a_day() {
    let Some(device) = Device::new() else { return };
    for seconds in ["0", "86401", "-1", "soon"] {
        let ended = device.run(&["status", "--watch", seconds]);
        assert_eq!(ended.code, 2, "{seconds}: {ended:?}");
    }
}
