//! The command line.

mod commands;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::State;
use crate::recording::Elsewhere;

/// Where `make build` leaves the programs.
const BUILT: &str = "target/x86_64-unknown-linux-gnu";

/// Cuts the power at every moment of a device's life, and looks what is left.
///
/// A story of the shipped programs is recorded, block write by block write. Then
/// it is cut short at one moment after the other, in all the ways a disk may have
/// dealt with writes that no flush had covered; each of these disks is booted by
/// the shipped activator, and what was acknowledged before the cut must be there.
#[derive(Debug, Parser)]
#[command(name = "op-dbus-crash", version, disable_help_subcommand = true, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Exit codes: 0 no violation; 1 violations; 2 wrong usage, or the host can't do it.
Needs root, /dev/fuse and loop devices; preparing also mkfs.btrfs, btrfs, gpg and mount.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare, record and explore in one go
    Run(Run),
    /// Make an empty disk and signed releases for the story
    Prepare(Prepare),
    /// Perform the story and record what reaches the disk
    Record(Record),
    /// Explore states of a recording
    Explore(Explore),
    /// Look at one state of a recording again, and tell everything
    Replay(Replay),
    /// Explore what the standard input says (started by explore)
    #[command(hide = true)]
    Worker(Worker),
}

/// The programs under test.
#[derive(Debug, Args)]
struct UnderTest {
    /// The op-dbus-stage under test
    #[arg(long, value_name = "PROGRAM", default_value_os_t = Path::new(BUILT).join("release/op-dbus-stage"))]
    stage: PathBuf,
    /// The op-dbus-activate under test
    #[arg(long, value_name = "PROGRAM", default_value_os_t = Path::new(BUILT).join("boot/op-dbus-activate"))]
    activate: PathBuf,
}

/// Which states, and how.
#[derive(Debug, Args)]
struct How {
    /// How many states to explore
    #[arg(long, value_name = "N", default_value_t = 2000)]
    states: usize,
    /// Chooses the states: the same seed and recording, the same states
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Workers at once [default: three for each core, as they wait half of the time]; 1 where the kernel refuses two mounts of one UUID (before 6.7)
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Stop after so many states with violations
    #[arg(long, value_name = "N", default_value_t = 10)]
    max_violations: usize,
    /// Every Nth state is booted twice, shown to verify and audit verify, and the interrupted command is run again; 0 for none
    #[arg(long, value_name = "N", default_value_t = 8)]
    again: u64,
    /// Every Nth state loses power again, at 24 moments of its recovery; 0 for none
    #[arg(long, value_name = "N", default_value_t = 100)]
    twice: u64,
    /// Seconds one state may take, and each that a second cut makes of it
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    limit: u64,
    /// Directory for the evidence of violations [default: beside the log]
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    programs: UnderTest,
    /// Directory for everything that is made
    #[arg(long, value_name = "DIR", default_value = "target/crash")]
    dir: PathBuf,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct Prepare {
    /// Directory to make it in
    dir: PathBuf,
    #[command(flatten)]
    programs: UnderTest,
}

#[derive(Debug, Args)]
struct Record {
    /// Directory made by prepare
    #[arg(long, value_name = "DIR")]
    prepared: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    #[command(flatten)]
    programs: UnderTest,
}

#[derive(Debug, Args)]
struct Explore {
    /// The recording
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    #[command(flatten)]
    elsewhere: Elsewhere,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct Replay {
    /// The recording
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    #[command(flatten)]
    elsewhere: Elsewhere,
    /// The state, as it was reported: 1234:prefix, 1234:subset:77, 1234:torn:78
    state: State,
    /// Then look at a state of the recovery that was recorded in this file
    #[arg(long, num_args = 2, value_names = ["FILE", "STATE"])]
    second: Vec<String>,
    /// Write the disk as the power cut left it to this file
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Worker {
    #[arg(long)]
    log: PathBuf,
    #[command(flatten)]
    elsewhere: Elsewhere,
    #[arg(long)]
    place: PathBuf,
}

/// What a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Nothing is wrong.
    Fine,
    /// Something is.
    Violations,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => args.run(),
        Command::Prepare(args) => args.run(),
        Command::Record(args) => args.run(),
        Command::Explore(args) => args.run(),
        Command::Replay(args) => args.run(),
        Command::Worker(args) => args.run(),
    };
    match result {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Violations) => ExitCode::from(1),
        Err(why) => {
            say(&format!("op-dbus-crash: {why}"));
            ExitCode::from(2)
        }
    }
}

fn say(line: &str) {
    // Nobody is left to tell if stderr is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
}
