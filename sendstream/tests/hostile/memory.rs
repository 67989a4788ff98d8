//! How much memory a stream can make its receiver take, and for how long it
//! keeps it busy. Each stream has a process of its own, whose peak is read.

use std::io::{self, Read};
use std::time::Duration;

use op_dbus_sendstream::wire::{Attr, Command};
use op_dbus_sendstream::{Policy, StreamError};

use crate::build::{Stream, attrs};
use crate::say::{Encoded, Say};
use crate::world::World;
use crate::{cases, watched};

/// What the whole process may take, in KiB.
pub(crate) const LIMIT: u64 = 64 << 10;

/// A stream that is made while it is read.
struct Endless<I> {
    commands: I,
    ready: Vec<u8>,
    read: usize,
}

impl<I: Iterator<Item = Stream>> Read for Endless<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.ready.len() {
            let Some(next) = self.commands.next() else {
                return Ok(0);
            };
            (self.ready, self.read) = (next.bytes, 0);
        }
        let count = buffer.len().min(self.ready.len() - self.read);
        buffer[..count].copy_from_slice(&self.ready[self.read..][..count]);
        self.read += count;
        Ok(count)
    }
}

/// The beginning, whatever the commands yield, END.
fn endless(
    start: Stream,
    commands: impl Iterator<Item = Stream>,
) -> Endless<impl Iterator<Item = Stream>> {
    let end = next().end();
    Endless {
        commands: std::iter::once(start).chain(commands).chain([end]),
        ready: Vec::new(),
        read: 0,
    }
}

/// Commands to follow others, in a stream of version 2.
fn next() -> Stream {
    Stream {
        version: 2,
        bytes: Vec::new(),
    }
}

/// Peak of this process, in KiB (`VmHWM` of `proc_pid_status(5)`).
pub(crate) fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// In the child: receives a stream and looks at what it took.
fn received(stream: impl Read) -> Option<StreamError> {
    let world = World::new()?;
    let before = world.listing();
    let result = world.apply(stream, &Policy::everything(), false);
    let peak = peak();
    println!("peak {peak} KiB, {result:?}");
    assert!(peak < LIMIT, "{peak} KiB");
    assert_eq!(crate::difference(&before, &world.listing()), "");
    world.clean();
    result.err()
}

/// Runs a test of this module in a process of its own.
fn alone(name: &str) {
    watched(Duration::from_secs(240), name, || {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                &format!("memory::{name}"),
                "--ignored",
                "--nocapture",
            ])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {text}{words}");
        assert!(text.contains("1 passed"), "{name}: {text}");
        for line in text.lines().filter(|line| line.starts_with("peak")) {
            println!("{name}: {line}");
        }
    });
}

macro_rules! bounded {
    ($($(#[$doc:meta])* $name:ident => $child:ident: $stream:expr;)+) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                alone(stringify!($child));
            }

            #[test]
            #[ignore = "run by the test of the same name, in a process of its own"]
            fn $child() {
                received($stream);
            }
        )+
    };
}

bounded! {
    one_million_tiny_commands => one_million_tiny_commands_alone: {
        let commands = (0..1_000_000_u64).map(|i| next().utimes("", i, 1));
        endless(Stream::full(2), commands)
    };
    /// Each step puts what there is one level deeper, by short paths.
    five_thousand_levels => five_thousand_levels_alone: {
        let commands = (1..5000_u32).map(|i| {
            next().mkdir(&format!("n{i}")).rename(&format!("n{}", i - 1), &format!("n{i}/d"))
        });
        endless(Stream::full(2).mkdir("n0"), commands)
    };
    ten_thousand_directories_with_long_paths => ten_thousand_directories_with_long_paths_alone: {
        let mut start = Stream::full(2);
        let mut path = String::new();
        for _ in 0..15 {
            path.push_str(&"p".repeat(250));
            start = start.mkdir(&path);
            path.push('/');
        }
        let commands = (0..10_000_u32).map(move |i| {
            let dir = format!("{path}{i:0>200}");
            next().mkdir(&dir).mkfile(&format!("{dir}/file")).utimes(&dir, 1, 1)
        });
        endless(start, commands)
    };
    scattered_single_bytes => scattered_single_bytes_alone: {
        let commands = (0..20_000_u64).map(|i| next().write("f", i * 7919 % 20_000 * 4099, b"x"));
        endless(Stream::full(2).mkfile("f"), commands)
    };
    a_thousand_extents_that_decode_to_128_kib => a_thousand_extents_that_decode_to_128_kib_alone: {
        let data = cases::run_of(1);
        let commands = (0..1000_u64).map(move |i| next().encoded("f", &Encoded {
            offset: i << 17,
            file_length: 1 << 17,
            length: 1 << 17,
            skip: 0,
            compression: 2,
            encryption: 0,
            data: &data,
        }));
        endless(Stream::full(2).mkfile("f"), commands)
    };
    many_hard_links => many_hard_links_alone: {
        let commands = (0..70_000_u32).map(|i| next().link(&format!("l{i}"), "f"));
        endless(Stream::full(2).mkfile("f"), commands)
    };
    many_attributes => many_attributes_alone: {
        let commands = (0..20_000_u32).map(|i| {
            next().mkfile(&format!("f{i}")).set_xattr(&format!("f{i}"), b"user.x", &[7; 3000])
        });
        endless(Stream::full(2), commands)
    };
    the_longest_commands => the_longest_commands_alone: {
        let commands = (0..500_u64).map(|i| next().write("f", i * 196_000, &[7; 196_000]));
        endless(Stream::full(2).mkfile("f"), commands)
    };
}

/// The same when nothing is written at all.
#[test]
fn vetting_takes_a_bounded_buffer() {
    alone("vetting_alone");
}

#[test]
#[ignore = "run by the test of the same name, in a process of its own"]
fn vetting_alone() {
    let path = attrs().path(&"p".repeat(250)).u64(Attr::Ino, 1);
    let commands = (0..1_000_000).map(|_| next().command(Command::MkFile, &path));
    let stream = endless(Stream::full(2), commands);
    let summary = op_dbus_sendstream::vet(stream, &Policy::default()).unwrap();
    assert_eq!(summary.commands, 1_000_002);
    let peak = peak();
    println!("peak {peak} KiB");
    assert!(peak < LIMIT, "{peak} KiB");
}
