//! The site's own checks: programs in a directory, run one after the other.
//!
//! Each is called with the golden path, and finds the rest in `OP_DBUS_GOLDEN`,
//! `OP_DBUS_BUILD`, `OP_DBUS_VERSIONS` and `OP_DBUS_RELEASES`. Exit code 0 is
//! well, anything else a problem, told in its own last words. One that takes
//! longer than a minute is killed with its process group: whatever it started, but
//! for daemons that left it on purpose.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::commands::build::area::Area;
use crate::findings::Findings;
use crate::limited;

/// How long a check may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long its last words may take to arrive once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How much of its output is kept, in bytes: the end.
const KEPT: usize = 4 * 1024;
/// How much of that is shown, in characters.
const SHOWN: usize = 300;

/// Runs all checks of a directory, in the order of their names.
pub(crate) fn run(dir: &Path, golden: &Path, area: &Area, findings: &mut Findings) {
    let programs = match programs(dir) {
        Ok(programs) => programs,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return,
        Err(why) => {
            findings.problem(
                "checks",
                format!("{}: {why}", dir.display()),
                "make it readable",
            );
            return;
        }
    };
    for program in programs {
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let began = Instant::now();
        match run_one(&program, golden, area, LIMIT) {
            Ok(()) => findings.ok(
                "checks",
                format!("{name}: passed, {:.1} s", began.elapsed().as_secs_f64()),
            ),
            Err(why) => findings.problem(
                "checks",
                format!("{name}: {why}"),
                format!(
                    "correct what it names; by hand: {} {}",
                    program.display(),
                    golden.display()
                ),
            ),
        }
    }
}

/// Executable files, sorted by name. Hidden ones and backups of editors are none.
fn programs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_program = path
            .metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
        if is_program && !name.starts_with('.') && !name.ends_with('~') {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn run_one(program: &Path, golden: &Path, area: &Area, limit: Duration) -> Result<(), String> {
    let mut child = Command::new(program)
        .arg(golden)
        .env("OP_DBUS_GOLDEN", golden)
        .env("OP_DBUS_BUILD", area.root())
        .env("OP_DBUS_VERSIONS", area.versions())
        .env("OP_DBUS_RELEASES", area.releases())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|why| format!("can't be run: {why}"))?;
    let words = Words::default();
    // What escaped its process group may keep a pipe open: nobody waits for this.
    let listeners = [
        child.stdout.take().map(|pipe| listen(pipe, &words)),
        child.stderr.take().map(|pipe| listen(pipe, &words)),
    ];
    let ended = limited::wait(&mut child, limit);
    limited::kill_group(&child);
    let _ = child.wait();
    let deadline = Instant::now() + LAST_WORDS;
    while !listeners.iter().flatten().all(JoinHandle::is_finished) && Instant::now() < deadline {
        thread::sleep(limited::PAUSE);
    }
    let words = words.lock().map(|words| shown(&words)).unwrap_or_default();
    let why = match ended {
        Ok(Some(status)) if status.success() => return Ok(()),
        Ok(Some(status)) => status.to_string(),
        Ok(None) => format!("took longer than {} s and was killed", limit.as_secs_f64()),
        Err(why) => why.to_string(),
    };
    Err(if words.is_empty() {
        why
    } else {
        format!("{why}: {words}")
    })
}

/// The end of what a check said, from both its pipes as it came.
type Words = Arc<Mutex<Vec<u8>>>;

fn listen(mut pipe: impl Read + Send + 'static, words: &Words) -> JoinHandle<()> {
    let words = Arc::clone(words);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let count = match pipe.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => count,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            if let Ok(mut words) = words.lock() {
                words.extend_from_slice(buffer.get(..count).unwrap_or_default());
                let surplus = words.len().saturating_sub(KEPT);
                words.drain(..surplus);
            }
        }
    })
}

/// The last words on one line.
fn shown(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let text = lines.join(", ");
    let surplus = text.chars().count().saturating_sub(SHOWN);
    if surplus == 0 {
        return text;
    }
    let end: String = text.chars().skip(surplus).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::build::Place;

    fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn area(dir: &Path) -> Area {
        Area::new(&Place {
            build: dir.to_owned(),
        })
    }

    #[test]
    fn they_run_in_order_and_say_why() {
        let dir = tempfile::tempdir().unwrap();
        script(
            dir.path(),
            "20-second",
            "echo the sky is grey; sleep 0.1; echo falling >&2; exit 3",
        );
        script(
            dir.path(),
            "10-first",
            "test \"$1\" = /g && test \"$OP_DBUS_GOLDEN\" = /g && test \"$OP_DBUS_BUILD\" = \"$(dirname \"$0\")\"",
        );
        fs::write(dir.path().join("15-not-executable"), "").unwrap();
        script(dir.path(), "16-backup~", "exit 1");
        let mut findings = Findings::default();
        run(
            dir.path(),
            Path::new("/g"),
            &area(dir.path()),
            &mut findings,
        );
        let texts: Vec<_> = findings
            .list()
            .iter()
            .map(|found| found.found.as_str())
            .collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].starts_with("10-first: passed"), "{texts:?}");
        assert_eq!(
            texts[1],
            "20-second: exit status: 3: the sky is grey, falling"
        );
    }

    #[test]
    fn no_directory_is_no_checks() {
        let mut findings = Findings::default();
        let dir = Path::new("/nonexistent");
        run(dir, Path::new("/g"), &area(dir), &mut findings);
        assert!(findings.list().is_empty());
    }

    #[test]
    fn one_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("child");
        let text = format!(
            "sleep 1000 & echo $! > {}; echo waiting; wait",
            file.display()
        );
        let program = script(dir.path(), "hang", &text);
        let began = Instant::now();
        let why = run_one(
            &program,
            dir.path(),
            &area(dir.path()),
            Duration::from_millis(700),
        )
        .unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(20));
        assert!(
            why.contains("took longer") && why.contains("waiting"),
            "{why}"
        );
        let child = fs::read_to_string(file).unwrap();
        let state = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    #[test]
    fn what_a_check_leaves_behind_delays_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let program = script(dir.path(), "daemon", "sleep 1000 & exit 0");
        let began = Instant::now();
        run_one(&program, dir.path(), &area(dir.path()), LIMIT).unwrap();
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn endless_talk_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let program = script(dir.path(), "talk", "yes no | head -c 3000000; exit 1");
        let why = run_one(&program, dir.path(), &area(dir.path()), LIMIT).unwrap_err();
        assert!(why.chars().count() < 400 && why.contains("no, no"), "{why}");
    }
}
