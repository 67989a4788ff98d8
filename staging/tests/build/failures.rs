//! Runs that end badly leave nothing, and the same command works again.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags};
use op_dbus_loopback::sh;

use crate::common::{Ended, noise};
use crate::fixture::{Site, names};

/// A btrfs program that does something else when it is to send.
fn instead(site: &Site, text: &str) -> String {
    let text = format!("case \"$*\" in *--help*) exec btrfs \"$@\";; esac\n{text}");
    site.script("btrfs", &text)
}

#[test]
fn a_kill_in_the_middle_leaves_nothing() {
    let Some(site) = Site::new() else { return };
    site.version("v1.0.0");
    let half = site.path("half");
    let program = instead(
        &site,
        &format!(
            "btrfs \"$@\" | head -c 200000; touch {}; sleep 60",
            half.display()
        ),
    );
    let mut running = site
        .command(&["send", "v1.0.0", "--btrfs", &program])
        .process_group(0)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let give_up = Instant::now() + Duration::from_secs(60);
    while !half.exists() {
        assert!(Instant::now() < give_up, "it does not send");
        thread::sleep(Duration::from_millis(10));
    }
    // Meanwhile nobody takes versions away.
    let holder = format!("(process {})", running.id());
    site.run(&["prune", "--source"]).failed(6, &holder);
    let group = nix::unistd::Pid::from_raw(i32::try_from(running.id()).unwrap());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    running.wait().unwrap();
    assert_eq!(site.releases(), [""; 0]);
    site.run(&["send", "v1.0.0"]).done();
    assert_eq!(
        site.releases(),
        ["v1.0.0.btrfs.zst", "v1.0.0.json", "v1.0.0.sha256"]
    );
}

#[test]
fn a_kill_at_any_moment_is_made_good_by_the_same_command() {
    let Some(site) = Site::new() else { return };
    fs::write(site.golden("bin/app"), noise(20_000)).unwrap();
    for step in 0..10_u64 {
        let version = format!("v1.{step}.0");
        site.version(&version);
        let mut running = site
            .command(&["send", &version])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(step * 12));
        let _ = running.kill();
        running.wait().unwrap();
        let json = format!("{version}.json");
        let there = site.releases().into_iter().any(|name| name == json);
        let again = site.run(&["send", &version]);
        if there {
            again.failed(8, "never overwritten");
        } else {
            again.done();
        }
        let own: Vec<_> = site
            .releases()
            .into_iter()
            .filter(|name| name.contains(&version))
            .collect();
        assert_eq!(own.len(), 3, "{own:?}");
        let sums = format!(
            "cd {} && sha256sum --strict -c {version}.sha256",
            site.path("b/releases").display()
        );
        sh("sh", &["-c", &sums]);
    }
}

#[test]
fn a_full_output_disk() {
    let Some(site) = Site::new() else { return };
    fs::write(site.golden("bin/app"), noise(3 << 20)).unwrap();
    site.version("v1.0.0");
    let out = site.path("out");
    fs::create_dir(&out).unwrap();
    nix::mount::mount(
        Some("tmpfs"),
        &out,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=1m"),
    )
    .unwrap();
    for form in ["zstd", "none"] {
        let args = [
            "send",
            "v1.0.0",
            "--compression",
            form,
            "--output",
            out.to_str().unwrap(),
        ];
        site.run(&args).failed(11, "No space left");
        assert_eq!(names(&out), [""; 0]);
        let used = rustix::fs::statvfs(&out).unwrap();
        assert!(used.f_bfree + 1 >= used.f_blocks, "the space is given back");
    }
    nix::mount::umount2(&out, MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn a_failing_btrfs_program_is_reported_in_its_own_words() {
    let Some(site) = Site::new() else { return };
    site.version("v1.0.0");
    let run = |text: &str| site.run(&["send", "v1.0.0", "--btrfs", &instead(&site, text)]);
    run("echo 'ERROR: it is raining' >&2; exit 1").failed(1, "it is raining");
    run("btrfs \"$@\" | head -c 100000; echo 'ERROR: send ioctl failed: Input/output error' >&2; exit 1")
        .failed(1, "check the medium");
    run("exit 7").failed(1, "exit status: 7");
    // Endless talk does not fill the memory.
    run("yes 'ERROR: x' | head -c 5000000 >&2; exit 3").failed(1, "x, x");
    // What it claims is a stream.
    run("echo nothing of the kind; exit 0").failed(9, "not a Btrfs send stream");
    run("btrfs \"$@\" | head -c 100000; exit 0").failed(9, "cut off");
    run("btrfs \"$@\"; echo more").failed(9, "after the end");
    // A good stream of another subvolume.
    let other = format!("btrfs -q send {}", site.text("b/versions/v0.9.0"));
    site.version("v0.9.0");
    run(&other).failed(9, "not about the subvolumes");
    site.run(&["send", "v1.0.0", "--btrfs", "/nonexistent"])
        .failed(1, "install btrfs-progs");
    assert_eq!(site.releases(), [""; 0]);
    site.run(&["send", "v1.0.0"]).done();
}

#[test]
fn a_program_without_protocols_sends_version_1() {
    let Some(site) = Site::new() else { return };
    site.version("v1.0.0");
    let program = site.script(
        "btrfs",
        "case \"$*\" in *--help*) echo 'usage: btrfs send'; exit 0;; *--proto*) exit 9;; esac\nexec btrfs \"$@\"",
    );
    site.run(&["send", "v1.0.0", "--btrfs", &program, "--compressed-data"])
        .failed(8, "version 2");
    site.run(&["send", "v1.0.0", "--btrfs", &program]).done();
}

/// stderr tells of each step, stdout only of the result.
#[test]
fn what_is_told_while_it_runs() {
    let Some(site) = Site::new() else { return };
    site.version("v1.0.0");
    let Ended { stderr, stdout, .. } = site.run(&["send", "v1.0.0"]);
    assert!(stderr.contains("sending v1.0.0.btrfs.zst\n"), "{stderr}");
    assert!(
        stderr
            .lines()
            .all(|line| line.starts_with("op-dbus-stage: ")),
        "{stderr}"
    );
    assert!(stdout.contains("Next: op-dbus-stage sign "), "{stdout}");
    site.version("v1.1.0");
    let ended = site.run(&["send", "v1.1.0", "--json"]);
    assert_eq!(ended.stderr, "");
    assert_eq!(ended.stdout.lines().count(), 1);
}
