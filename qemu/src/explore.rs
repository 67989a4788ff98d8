//! Runs the crash explorer (`op-dbus-crash`) in a light guest: the kernel of a
//! Debian records and replays in place of the host's.
//!
//! Older kernels mount no two clones of one file system side by side, so that one
//! worker explores. The explorer needs no tool there: releases and an empty disk
//! are prepared on the host, and all of it is on a disk of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use op_dbus_vm_guest::init::{NO_ACTIVATION, RELEASES};

use crate::debian::profile::Suite;
use crate::error::{Context, Error, Result};
use crate::guest::{Ending, Guest};
use crate::hardware::{Disk, Format, Hardware};
use crate::release;
use crate::suite::Lab;
use crate::tool::Tool;

/// What the kernel, the explorer and the recording need together.
const MEMORY_MIB: u32 = 1536;
/// How long a boot and a recording may take, and a state.
const BOOT: Duration = Duration::from_secs(600);
const RECORDING: Duration = Duration::from_secs(3600);
const STATE: Duration = Duration::from_secs(60);

/// What to explore.
#[derive(Debug, Clone)]
pub struct Explore {
    /// The kernel.
    pub suite: Suite,
    /// `op-dbus-crash`, static.
    pub explorer: PathBuf,
    /// What `op-dbus-crash prepare` made.
    pub prepared: PathBuf,
    /// How many states.
    pub states: u32,
    /// Which.
    pub seed: u64,
}

/// Records and explores; the explorer's summary. `tell` hears of each step.
pub fn run(lab: &Lab, explore: &Explore, mut tell: impl FnMut(&str)) -> Result<String> {
    let light = lab.light(explore.suite, |_| ())?;
    let directory = lab.directory(&format!("explore-{}", explore.suite.name()));
    if directory.exists() {
        fs::remove_dir_all(&directory).at("remove", &directory)?;
    }
    let files = directory.join("files");
    fs::create_dir_all(&files).at("make", &files)?;
    let activator = lab
        .programs()
        .tree()
        .join("usr/libexec/op-dbus/op-dbus-activate");
    for (from, name) in [
        (&explore.explorer, "op-dbus-crash"),
        (&lab.programs().stage(), "op-dbus-stage"),
        (&activator, "op-dbus-activate"),
        (&explore.prepared, "prepared"),
    ] {
        Tool::new("cp")
            .args(["-r", "--sparse=always", "--"])
            .args([from, &files.join(name)])
            .run()?;
    }
    let image = directory.join("files.img");
    release::image(&files, &image)?;
    let line = format!(
        "{} vm.releases=/dev/vda {NO_ACTIVATION}",
        crate::light::KERNEL_OPTIONS
    );
    let hardware = Hardware {
        memory_mib: MEMORY_MIB,
        command_line: line,
        disks: vec![disk(&image)],
        ..light.light.hardware(&image, &image, lab.accelerator)
    };
    let mut guest = Guest::boot(&hardware, &directory.join("console.log"))?;
    guest.wait_ready(BOOT)?;
    tell(&format!("ready after {:.0} s", guest.seconds()));
    let programs = ["--stage", "op-dbus-stage", "--activate", "op-dbus-activate"];
    let here = |name: &&str| match *name {
        option if option.starts_with("--") => option.to_owned(),
        name => format!("{RELEASES}/{name}"),
    };
    let programs: Vec<String> = programs.iter().map(here).collect();
    let explorer = format!("{RELEASES}/op-dbus-crash");
    let prepared = format!("{RELEASES}/prepared");
    let (states, seed) = (explore.states.to_string(), explore.seed.to_string());
    let with = |words: &[&str]| -> Vec<String> {
        let words = words.iter().map(ToString::to_string);
        words.chain(programs.clone()).collect()
    };
    let record = with(&[
        &explorer,
        "record",
        "--prepared",
        &prepared,
        "--log",
        "/tmp/log",
    ]);
    let said = done(&mut guest, &record, RECORDING)?;
    tell(&format!("{} ({:.0} s)", said.trim(), guest.seconds()));
    let explore_states = [
        explorer.as_str(),
        "explore",
        "--log",
        "/tmp/log",
        "--workers",
        "1",
        "--states",
        &states,
        "--seed",
        &seed,
        "--json",
        "--limit",
        "60",
    ]
    .map(String::from);
    let summary = done(&mut guest, &explore_states, STATE * explore.states.max(10));
    tell(&format!("ended after {:.0} s", guest.seconds()));
    let summary = summary?;
    guest.leave(Ending::PowerOff, BOOT)?;
    for path in [&files, &image] {
        let removed = if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
        removed.at("remove", path)?;
    }
    Ok(summary)
}

fn disk(image: &Path) -> Disk {
    Disk {
        path: image.to_owned(),
        format: Format::Raw,
        read_only: true,
        log: None,
        faults: Vec::new(),
    }
}

/// What a program says that ends well.
fn done(guest: &mut Guest, argv: &[String], within: Duration) -> Result<String> {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let exit = guest.run(&words, within)?;
    let said = format!("{}{}", exit.stdout, exit.stderr);
    if exit.code == 0 {
        return Ok(said);
    }
    Err(Error::Expectation(format!(
        "`{}` ended with {}: {said}",
        argv.join(" "),
        exit.code
    )))
}
