//! How long a signed receive takes, beside what people do by hand: all
//! contenders by turns, in one run, on one loop-mounted store, from the same
//! stream of a Debian root of about 300 MB.
//!
//! Needs root. The program measured is `$OP_DBUS_STAGE`, or the one built for
//! the bench; the tree is the tar file `$OP_DBUS_BENCH_ROOT`, or one made with
//! mmdebstrap and kept in `target/bench`. The disks are files in `target/bench`,
//! so it matters what that lies on; the streams are read from the page cache.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;

/// Rounds; the median of each contender is printed.
const ROUNDS: usize = 5;
const VERSION: &str = "v1.0.0";

/// Runs a shell command that must succeed; its directory is the bench's.
fn sh(bench: &Bench, script: &str) -> String {
    let output = bench.shell(script).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Disks, mounts, keys and streams. The mounts are in a mount namespace of this
/// process, and the loop devices go with the last mount: however it ends,
/// nothing stays mounted.
struct Bench {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Bench {
    fn new(program: PathBuf, root: &Path) -> Self {
        let base = workspace().join("target/bench");
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let dir = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(base)
            .unwrap();
        let bench = Self { dir, program };
        let root = root.display();
        sh(
            &bench,
            &format!(
                "truncate -s 4G build.img device.img
                 mkdir build top run sysroot sysroot/etc gnupg out
                 chmod 700 gnupg
                 mkfs.btrfs -q build.img; mkfs.btrfs -q device.img
                 mount -o loop build.img build
                 losetup --find --show device.img > device
                 btrfs -q subvolume create build/golden
                 tar -x -f {root} -C build/golden --numeric-owner --xattrs --xattrs-include='*' --acls
                 sync -f build
                 stage snapshot {VERSION} --build build
                 btrfs -q send -f out/plain.btrfs build/versions/{VERSION}
                 for how in none zstd; do
                   mkdir out/$how
                   stage send {VERSION} --build build --output out/$how --compression $how --allow-privileged
                 done
                 gpg -q --batch --passphrase '' --quick-gen-key bench@example.org ed25519 sign never
                 gpg -q --export --armor > key.asc
                 gpg -q --export > key.gpg
                 for how in none zstd; do stage sign out/$how/{VERSION}.json; done
                 gpg -q --detach-sign --armor out/plain.btrfs
                 # Its agent would stay, and hold the mounts.
                 gpgconf --kill gpg-agent
                 (cd out && sha256sum plain.btrfs > plain.sha256)
                 stage prepare --device $(cat device) --key key.asc
                 mount $(cat device) top
                 mkdir top/by-hand
                 losetup --detach $(cat device)"
            ),
        );
        bench
    }

    /// A shell in the bench's directory, in which `stage` is the program.
    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .args(["-e", "-o", "pipefail", "-c"])
            .arg(format!(
                "stage() {{ \"$STAGE\" \"$@\" --run run --sysroot sysroot; }}\n{script}"
            ))
            .current_dir(self.dir.path())
            .env("STAGE", &self.program)
            .env("GNUPGHOME", self.dir.path().join("gnupg"));
        command
    }

    /// Leaves the device as it was before anything was received.
    fn reset(&self) {
        sh(
            self,
            &format!(
                "store=run/op-dbus/store
                 for tree in $store/deploy/{VERSION} top/by-hand/{VERSION}; do
                   [ ! -e $tree ] || btrfs -q subvolume delete $tree
                 done
                 rm -rf $store/manifests/* top/by-hand/*
                 btrfs filesystem sync top; btrfs subvolume sync -s 1 top > /dev/null
                 cat out/plain.btrfs out/none/*.btrfs out/zstd/*.zst > /dev/null"
            ),
        );
    }

    fn measure(&self, contender: &Contender) -> Sample {
        self.reset();
        let began = Instant::now();
        let output = self.shell(contender.script).output().unwrap();
        let seconds = began.elapsed().as_secs_f64();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: {stderr}",
            contender.script.trim()
        );
        let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Sample { seconds, report }
    }

    /// Most memory the program had resident while it received, in MiB. A process
    /// of its own measures: the kernel keeps the maximum over all children.
    fn peak(&self) -> String {
        self.reset();
        let output = Command::new(std::env::current_exe().unwrap())
            .env(PEAK, &self.program)
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Environment variable: the process is the one that measures memory.
const PEAK: &str = "OP_DBUS_BENCH_PEAK";

fn print_peak(program: &OsStr) {
    let status = Command::new(program)
        .args(["receive", "out/zstd/v1.0.0.btrfs.zst"])
        .args(["--run", "run", "--sysroot", "sysroot"])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    println!("{}", usage.max_rss() / 1024);
}

struct Contender {
    name: &'static str,
    script: &'static str,
}

struct Sample {
    seconds: f64,
    report: Value,
}

/// The first is what the others are compared with.
const CONTENDERS: &[Contender] = &[
    Contender {
        name: "(b) btrfs receive && sync -f",
        script: "btrfs -q receive -f out/plain.btrfs top/by-hand && sync -f top",
    },
    Contender {
        name: "(a) sha256sum -c && gpgv && (b)",
        script: "(cd out && sha256sum --quiet -c plain.sha256) \
            && gpgv -q --keyring \"$PWD/key.gpg\" out/plain.btrfs.asc out/plain.btrfs 2> /dev/null \
            && btrfs -q receive -f out/plain.btrfs top/by-hand && sync -f top",
    },
    Contender {
        name: "copy the stream, sync -f",
        script: "cp --reflink=never out/plain.btrfs top/by-hand/raw && sync -f top",
    },
    Contender {
        name: "op-dbus-stage receive --no-read-back",
        script: "stage receive out/none/v1.0.0.btrfs --no-read-back --json",
    },
    Contender {
        name: "op-dbus-stage receive",
        script: "stage receive out/none/v1.0.0.btrfs --json",
    },
    Contender {
        name: "zstd -dc | btrfs receive, sync -f",
        script: "zstd -qdc out/zstd/v1.0.0.btrfs.zst | btrfs -q receive top/by-hand && sync -f top",
    },
    Contender {
        name: "op-dbus-stage receive, zstd",
        script: "stage receive out/zstd/v1.0.0.btrfs.zst --json",
    },
];

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Medians of the steps that the program reports, in the order it took them.
fn steps(samples: &[Sample]) -> Vec<(String, f64)> {
    let of = |sample: &Sample| -> Vec<(String, f64)> {
        let steps = sample.report["steps_us"].as_array().cloned();
        steps
            .unwrap_or_default()
            .iter()
            .filter_map(|step| Some((step[0].as_str()?.to_owned(), step[1].as_f64()? / 1e6)))
            .collect()
    };
    let all: Vec<_> = samples.iter().map(of).collect();
    let names = all.first().into_iter().flatten().map(|(name, _)| name);
    names
        .map(|name| {
            let values = all.iter().flatten().filter(|(other, _)| other == name);
            (
                name.clone(),
                median(values.map(|(_, time)| *time).collect()),
            )
        })
        .collect()
}

fn main() {
    if let Some(program) = std::env::var_os(PEAK) {
        return print_peak(&program);
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root for mounts and loop devices");
        return;
    }
    let program = std::env::var_os("OP_DBUS_STAGE").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_op-dbus-stage")),
        PathBuf::from,
    );
    let bench = Bench::new(program.canonicalize().unwrap(), &root());
    let sizes = sh(&bench, "stat -c '%s %n' out/plain.btrfs out/*/*.btrfs*");
    println!("{}, median of {ROUNDS} rounds\n{sizes}", program.display());

    let mut samples: Vec<Vec<Sample>> = CONTENDERS.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (contender, samples) in CONTENDERS.iter().zip(&mut samples) {
            samples.push(bench.measure(contender));
        }
    }
    let times = |samples: &[Sample]| median(samples.iter().map(|sample| sample.seconds).collect());
    let baseline = samples.first().map_or(f64::NAN, |samples| times(samples));
    println!("{:<40}{:>8}{:>10}", "", "s", "x (b)");
    for (contender, samples) in CONTENDERS.iter().zip(&samples) {
        let time = times(samples);
        println!("{:<40}{time:>8.2}{:>10.2}", contender.name, time / baseline);
        for (step, time) in steps(samples) {
            println!("    {step:<36}{time:>8.2}{:>10.2}", time / baseline);
        }
    }
    println!(
        "peak memory of the last, in MiB {:>16}",
        bench.peak().trim()
    );
}

/// A Debian root as a tar file.
fn root() -> PathBuf {
    if let Some(path) = std::env::var_os("OP_DBUS_BENCH_ROOT") {
        return PathBuf::from(path).canonicalize().unwrap();
    }
    let base = workspace().join("target/bench");
    fs::create_dir_all(&base).unwrap();
    let path = base.join("root.tar");
    if !path.exists() {
        println!("making a Debian root in {} (once)", path.display());
        let partial = base.join("root.partial.tar");
        let status = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=important", "bookworm"])
            .arg(&partial)
            .status()
            .unwrap();
        assert!(status.success(), "mmdebstrap failed");
        fs::rename(&partial, &path).unwrap();
    }
    path
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
