//! The command line.

mod cuts;
mod demo;
mod explore;
mod live;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::bench::{Bench, Make};
use crate::debian::disk;
use crate::debian::profile::{self, Profile, Suite};
use crate::error::{Context, Error, Result};
use crate::hardware::Accelerator;
use crate::qemu;
use crate::release::{self, bad};
use crate::scenario::{Boot, Kind};
use crate::suite::{Chosen, Lab};
use crate::tool::Tool;
use crate::{catalogue, host, sandbox};

/// Boot-tests upgrades on real Debian machines under QEMU.
///
/// Disks are built from Debian packages, with op-dbus installed as a user would
/// install it, and cached below `${XDG_CACHE_HOME:-~/.cache}/op-dbus-vm`. Runs
/// leave console logs and a timeline below `target/vm`. Needs root (mounts), no
/// KVM.
///
/// Machines: `<suite>-<initramfs>[-ext4]`, for example `bookworm-dracut`,
/// `trixie-initramfs-tools`, `bookworm-dracut-ext4` (ext4 root, the store on a
/// file system of its own); `light-bookworm` and `light-trixie` are the same
/// kernels with our programs alone.
///
/// Exit codes: 0 done, 1 a scenario failed or something could not be built,
/// 2 usage, 3 the host lacks something (see `check`).
#[derive(Debug, Parser)]
#[command(name = "op-dbus-vm", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what this host lacks, and the command that installs it
    Check,
    /// List scenarios, their cases, and the machines
    List,
    /// Build a machine's disk, or say where the cached one is
    Disk {
        /// Machine
        machine: Profile,
    },
    /// Make the demo's releases: signed manifests, streams, and the certificate
    Release {
        /// Directory for them, made when missing
        directory: PathBuf,
    },
    /// Boot a copy of a prepared machine with a root shell on this terminal
    ///
    /// Ctrl-A x ends it; nothing it changes is kept. The releases are below
    /// /media/releases.
    Boot(BootArguments),
    /// Play scenarios one after the other on a machine
    ///
    /// A scenario is a name from `list`, one case of it as `name/case`, or the
    /// path (with a slash) of a TOML file of your own. To test your own release in CI:
    ///
    ///   op-dbus-vm play ./upgrade.toml --on bookworm-dracut \
    ///       --releases ./releases --key ./signer.asc --set new=v2.0.0
    ///
    /// The directory holds what `op-dbus-stage send` and `sign` write; in a
    /// scenario, `stage = "v2.0.0"` receives its v2.0.0.json.
    /// The machine starts with the demo's v1.0.0 good; its health check wants
    /// op-dbus-demo.service and the bus name org.opdbus.Demo.
    #[command(verbatim_doc_comment)]
    Play(PlayArguments),
    /// Cut the power of a light guest at random moments, and check what is left
    ///
    /// One boot a cut: the guest recovers from the last cut, is checked, goes on
    /// with what devices do, and loses its power again, at a random request to
    /// its disk. What the disk keeps of what no flush had made durable is random
    /// as well, down to its 512-byte sectors. A run can be stopped at any moment
    /// and resumed.
    #[command(verbatim_doc_comment)]
    Cuts(cuts::CutsArguments),
    /// Run the crash explorer in a light guest: on its kernel
    Explore(explore::ExploreArguments),
    /// Play an upgrade and a failing one on bookworm, and tell what happens
    Demo {
        #[command(flatten)]
        speed: Speed,
    },
}

#[derive(Debug, Args)]
struct Speed {
    /// Use KVM in place of emulation
    #[arg(long)]
    kvm: bool,
    /// Virtual processors
    #[arg(long, default_value_t = 2, value_name = "N")]
    processors: u32,
}

#[derive(Debug, Args)]
struct BootArguments {
    /// Machine
    #[arg(default_value = "bookworm-dracut")]
    machine: Profile,
    #[command(flatten)]
    speed: Speed,
}

#[derive(Debug, Args)]
struct PlayArguments {
    /// Names from `list`, or files
    #[arg(required = true)]
    scenarios: Vec<String>,
    /// Machine
    #[arg(long, default_value = "bookworm-dracut", value_name = "MACHINE")]
    on: Machine,
    /// Only this case of the scenario [default: every case]
    #[arg(long)]
    case: Option<String>,
    /// A value for the scenario's `${name}`
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Offer the releases in this directory in place of the demo's
    #[arg(long, value_name = "DIR")]
    releases: Option<PathBuf>,
    /// Certificate that the machine trusts for them
    #[arg(long, value_name = "FILE", requires = "releases")]
    key: Vec<PathBuf>,
    /// Write the timeline as JSON to this file
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
    #[command(flatten)]
    speed: Speed,
}

/// What `--on` takes.
#[derive(Debug, Clone, Copy)]
enum Machine {
    Debian(Profile),
    Light(Suite),
}

impl std::str::FromStr for Machine {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "light-bookworm" => Ok(Self::Light(Suite::Bookworm)),
            "light-trixie" => Ok(Self::Light(Suite::Trixie)),
            other => other.parse().map(Self::Debian),
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("op-dbus-vm: {error}");
            match error {
                Error::Host(_) => ExitCode::from(3),
                Error::Scenario(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Check => return check(),
        Command::List => return list(),
        _ => {}
    }
    host::require()?;
    sandbox::enter()?;
    match command {
        Command::Disk { machine } => {
            let prepared = Lab::open()?.prepare(*machine, live::tell())?;
            println!("{}", prepared.entry().path().display());
            Ok(())
        }
        Command::Release { directory } => release_to(directory),
        Command::Boot(arguments) => boot(arguments),
        Command::Play(arguments) => play(arguments),
        Command::Cuts(arguments) => cuts::run(arguments),
        Command::Explore(arguments) => explore::run(arguments),
        Command::Demo { speed } => demo::run(&lab(speed)?),
        Command::Check | Command::List => Ok(()),
    }
}

fn lab(speed: &Speed) -> Result<Lab> {
    let mut lab = Lab::open()?;
    lab.processors = speed.processors;
    if speed.kvm {
        lab.accelerator = Accelerator::Kvm;
    }
    Ok(lab)
}

fn check() -> Result<()> {
    let missing = host::missing();
    if missing.is_empty() {
        println!("Nothing is missing.");
        return Ok(());
    }
    Err(host::lacking(&missing))
}

fn list() -> Result<()> {
    println!("Scenarios");
    for name in catalogue::names() {
        let scenario = catalogue::find(name)?;
        let kind = match scenario.guest {
            Kind::Debian => "debian",
            Kind::Light => "light",
        };
        println!("  {name:<18} {kind:<7} {}", scenario.summary);
        for case in scenario.case_names().into_iter().flatten() {
            println!("    {case}");
        }
    }
    println!("Machines");
    for profile in profile::all() {
        println!("  {profile}");
    }
    println!("  light-bookworm\n  light-trixie");
    println!("Releases of the demo");
    for demo in release::demos() {
        println!("  {:<24} {}", demo.version, demo.note);
    }
    for bad in bad::BAD {
        let path = format!("{}/{}", bad::DIRECTORY, bad.name);
        println!("  {path:<24} {}", bad.note);
    }
    Ok(())
}

fn release_to(directory: &Path) -> Result<()> {
    let lab = Lab::open()?;
    fs::create_dir_all(directory).at("make", directory)?;
    let releases = lab.releases();
    Tool::new("cp")
        .args(["-rT", "--"])
        .args([&releases.directory(), directory])
        .run()?;
    for key in releases.keys() {
        let target = directory.join(key.file_name().unwrap_or_default());
        fs::copy(key, &target).at("copy", key)?;
        println!("{}  certificate of who signed them", target.display());
    }
    for demo in release::demos() {
        let manifest = directory.join(format!("{}.json", demo.version));
        println!("{}  {}", manifest.display(), demo.note);
    }
    println!(
        "{}  to be refused, each for one reason",
        directory.join(bad::DIRECTORY).display()
    );
    Ok(())
}

fn boot(arguments: &BootArguments) -> Result<()> {
    let lab = lab(&arguments.speed)?;
    let machine = lab.prepare(arguments.machine, live::tell())?;
    let directory = tempfile::tempdir().context(|| "make a temporary directory".into())?;
    let make = Make::Debian(&machine);
    let run = directory.path().join("run");
    let bench = Bench::new(make, &run, &lab.releases().image())?
        .with_processors(lab.processors)
        .with_accelerator(lab.accelerator);
    let hardware = bench.power_on(&Boot {
        options: disk::shell_option().into(),
        ..Boot::default()
    })?;
    println!("Ctrl-A x ends the machine.");
    qemu::interactive(&hardware)
        .status()
        .context(|| "start qemu-system-x86_64".into())
        .map(drop)
}

fn play(arguments: &PlayArguments) -> Result<()> {
    let mut lab = lab(&arguments.speed)?;
    if let Some(directory) = &arguments.releases {
        lab = lab.with_releases(directory, &arguments.key)?;
    }
    let values: BTreeMap<String, String> = arguments.set.iter().cloned().collect();
    let mut chosen = Vec::new();
    for name in &arguments.scenarios {
        let mut found = Chosen::find(name)?;
        found.values.clone_from(&values);
        chosen.extend(
            found
                .cases()
                .into_iter()
                .filter(|one| arguments.case.is_none() || one.case == arguments.case),
        );
    }
    if chosen.is_empty() {
        return Err(Error::Scenario(
            "no such case; `op-dbus-vm list` names them".into(),
        ));
    }
    let mut timelines = Vec::new();
    let mut result = Ok(());
    match arguments.on {
        Machine::Debian(profile) => {
            let (timeline, outcome) = lab.play_debian(profile, &chosen, live::tell(), |_| Ok(()));
            timelines.push(timeline);
            result = outcome;
        }
        Machine::Light(suite) => {
            for one in &chosen {
                println!("{}", one.title());
                let (timeline, outcome) = lab.play_light(suite, one, live::tell());
                timelines.push(timeline);
                result = result.and(outcome);
            }
        }
    }
    if let Some(path) = &arguments.timeline {
        let json = serde_json::to_vec_pretty(&timelines)
            .map_err(std::io::Error::from)
            .at("write", path)?;
        fs::write(path, json).at("write", path)?;
    }
    result
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from([
            "op-dbus-vm",
            "play",
            "upgrade",
            "--on",
            "light-trixie",
            "--set",
            "new=v2.0.0",
        ])
        .unwrap();
        let Command::Play(play) = cli.command else {
            panic!()
        };
        assert!(matches!(play.on, Machine::Light(Suite::Trixie)));
        assert_eq!(play.set, [("new".to_owned(), "v2.0.0".to_owned())]);
    }

    #[test]
    fn a_key_is_of_one_s_own_releases() {
        let parse = |words: &[&str]| {
            let all = ["op-dbus-vm", "play", "upgrade", "--key", "signer.asc"];
            Cli::try_parse_from(all.iter().chain(words))
        };
        assert!(parse(&[]).is_err());
        assert!(parse(&["--releases", "here"]).is_ok());
    }
}
