//! `op-dbus-agent notify` as a program: a log in a directory, hooks that are
//! shell scripts. Hooks must be root's, so without root there is nothing to test.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use op_dbus_calls::{Unsynced, trace};
use tempfile::TempDir;

/// `op-dbus-stage audit log` over the lines in a file.
const STAGE: &str = r#"#!/bin/sh
for argument; do case $argument in
    --after=*) after=${argument#*=};;
    --first=*) first=${argument#*=};;
    --last=1) last=1;;
esac; done
[ -e DIR/log-is-broken ] && { echo "broken" >&2; exit 5; }
exec 0<DIR/lines
awk -v after="${after:-0}" -v first="${first:-0}" -v last="${last:-0}" '
    { match($0, /[0-9]+/); n = substr($0, RSTART, RLENGTH) + 0 }
    n > after && (first == 0 || count < first) { found[++count] = $0 }
    END {
        printf "{\"schema\":1,\"lines\":["
        for (i = last && count ? count : 1; i <= count; i++)
            printf "%s%s", found[i], i < count ? "," : ""
        print "]}"
    }'
"#;

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

struct Host(TempDir);

impl Host {
    /// None without root.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let host = Self(TempDir::new().unwrap());
        for dir in ["store/audit", "hooks.d", "run/op-dbus"] {
            fs::create_dir_all(host.path(dir)).unwrap();
        }
        let dir = host.path("").display().to_string();
        host.executable("stage", &STAGE.replace("DIR", &dir));
        host.log(&[]);
        Some(host)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn executable(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A hook that writes down what it was told, then does `more`.
    fn hook(&self, name: &str, more: &str) {
        let text = format!(
            "#!/bin/sh\nread -r line\necho \"{name} $1 $line\" >>{}\n{more}\n",
            self.path("told").display()
        );
        self.executable(&format!("hooks.d/{name}"), &text);
    }

    /// The log is these lines: number, kind, detail, and the version's number.
    fn log(&self, lines: &[(u64, &str, &str)]) {
        self.log_of('a', lines);
    }

    /// The same of another history: the chain differs.
    fn log_of(&self, history: char, lines: &[(u64, &str, &str)]) {
        let mut text = String::new();
        let prev = ZEROS.replace('0', &history.to_string());
        for (n, event, detail) in lines {
            writeln!(
                text,
                r#"{{"n":{n},"time":"2026-11-23T12:00:00Z","actor":"test","event":"{event}","version":"v1.{n}.0","detail":"{detail}","prev":"{prev}"}}"#
            )
            .unwrap();
        }
        fs::write(self.path("lines"), text).unwrap();
    }

    fn command(&self, limit_ms: u32) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_op-dbus-agent"));
        command
            .args(["notify", "--no-refresh"])
            .arg(format!("--limit-ms={limit_ms}"))
            .arg("--store")
            .arg(self.path("store"))
            .arg("--run")
            .arg(self.path("run"))
            .arg("--hooks")
            .arg(self.path("hooks.d"))
            .arg("--stage")
            .arg(self.path("stage"));
        command
    }

    fn run(&self) -> Output {
        self.command(20_000).output().unwrap()
    }

    /// Runs it well; what it said on standard error.
    fn told(&self) -> String {
        let output = self.run();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }

    /// What hooks wrote down since last asked, without the JSON.
    fn heard(&self) -> Vec<String> {
        let path = self.path("told");
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::remove_file(&path).ok();
        let short = |line: &str| line.split(" {").next().unwrap().to_owned();
        text.lines().map(short).collect()
    }
}

const STAGED: (u64, &str, &str) = (2, "staged", "upgrade");
const BLESSED: (u64, &str, &str) = (3, "blessed", "was trial");
const FIRST: (u64, &str, &str) = (1, "prepared", "");

#[test]
fn history_is_no_news_and_what_comes_is_told_once() {
    let Some(host) = Host::new() else { return };
    host.hook("20-b", "");
    host.hook("10-a", "");
    host.log(&[FIRST, STAGED]);
    host.told();
    assert_eq!(host.heard(), [""; 0]);

    host.log(&[
        FIRST,
        STAGED,
        BLESSED,
        (4, "pruned", ""),
        (5, "staged", "rollback"),
    ]);
    host.told();
    assert_eq!(
        host.heard(),
        ["10-a blessed", "20-b blessed", "10-a staged", "20-b staged"]
    );
    host.told();
    assert_eq!(host.heard(), [""; 0]);
}

#[test]
fn an_empty_log_is_a_beginning() {
    let Some(host) = Host::new() else { return };
    host.hook("a", "");
    host.told();
    host.log(&[FIRST, STAGED]);
    host.told();
    assert_eq!(host.heard(), ["a staged"]);
}

#[test]
fn hooks_read_json_and_their_output_is_kept() {
    let Some(host) = Host::new() else { return };
    host.told();
    host.executable(
        "hooks.d/a",
        "#!/bin/sh\ncat\nprintf 'two\\033[31m words\\n' >&2\n",
    );
    host.log(&[FIRST, STAGED]);
    let said = host.told();
    let line = said.lines().next().unwrap().strip_prefix("a: ").unwrap();
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(event["schema"], 1);
    assert_eq!(event["event"], "staged");
    assert_eq!(event["version"], "v1.2.0");
    assert_eq!(event["n"], 2);
    assert!(said.contains("a: two[31m words\n"), "{said}");
}

#[test]
fn what_was_not_remembered_is_told_again() {
    let Some(host) = Host::new() else { return };
    host.hook("a", "");
    host.told();
    let cursor = host.path("store/audit/notified");
    let before = fs::read(&cursor).unwrap();
    host.log(&[FIRST, STAGED]);
    host.told();
    assert_eq!(host.heard(), ["a staged"]);
    // As after a power cut before the cursor was on the disk.
    fs::write(&cursor, before).unwrap();
    host.told();
    assert_eq!(host.heard(), ["a staged"]);
}

#[test]
fn a_power_cut_after_the_run_has_nothing_told_again() {
    let Some(host) = Host::new() else { return };
    host.told();
    host.log(&[FIRST, STAGED, (3, "pruned", "")]);
    let traced = trace(&mut host.command(20_000));
    assert_eq!(traced.code, 0, "{}", traced.stderr);
    let mut unsynced = Unsynced::new(&host.path("store"));
    let cursor = host.path("store/audit/notified");
    let mut written = 0;
    for call in &traced.calls {
        unsynced.follow(call);
        written += usize::from(call.other.as_ref() == Some(&cursor));
    }
    // Of the event, and of the end.
    assert_eq!(written, 2, "{:#?}", traced.calls);
    let rest: Vec<_> = unsynced.below("audit").collect();
    assert!(rest.is_empty(), "{rest:?}: {:#?}", traced.calls);
}

#[test]
fn the_cursor_moves_with_each_event() {
    let Some(host) = Host::new() else { return };
    host.told();
    // The hook of the second event ends the agent: a power cut, in small. Its
    // parent is the supervisor, whose parent is the agent.
    host.hook(
        "a",
        r#"[ $1 = blessed ] && [ ! -e "$0.cut" ] && : >"$0.cut" &&
           kill -9 $(awk '/^PPid/ {print $2}' /proc/$PPID/status)"#,
    );
    host.log(&[FIRST, STAGED, BLESSED]);
    assert!(!host.run().status.success());
    assert_eq!(host.heard(), ["a staged", "a blessed"]);
    fs::remove_file(host.path("hooks.d/a.cut")).ok();
    host.hook("a", "");
    host.told();
    assert_eq!(host.heard(), ["a blessed"]);
}

#[test]
fn a_log_that_begins_anew_is_followed() {
    let Some(host) = Host::new() else { return };
    host.hook("a", "");
    host.log(&[FIRST, (70, "prepared", "")]);
    host.told();
    // Set aside, or restored: the numbers begin again.
    host.log_of('b', &[(1, "repaired", ""), STAGED]);
    let said = host.told();
    assert!(said.contains("another one than before (line 70"), "{said}");
    assert_eq!(host.heard(), ["a staged"]);
    assert_eq!(host.told(), "");
}

#[test]
fn another_log_of_the_same_length_is_noticed_and_its_history_bounded() {
    let Some(host) = Host::new() else { return };
    host.hook("a", "");
    let mut lines = vec![(1, "staged", "long ago")];
    lines.extend((2..=100).map(|n| (n, "pruned", "")));
    host.log(&lines);
    host.told();
    lines[98].1 = "staged";
    host.log_of('b', &lines);
    assert!(host.told().contains("the lines after 68"));
    assert_eq!(host.heard(), ["a staged"]);
}

#[test]
fn more_than_one_batch_is_told() {
    let Some(host) = Host::new() else { return };
    host.hook("a", "");
    host.log(&[FIRST]);
    host.told();
    let mut lines = vec![FIRST];
    lines.extend((2..=600).map(|n| (n, "pruned", "")));
    lines.extend([(601, "staged", "late"), (602, "blessed", "was trial")]);
    host.log(&lines);
    host.told();
    assert_eq!(host.heard(), ["a staged", "a blessed"]);
}

#[test]
fn a_hook_that_fails_or_hangs_does_not_hold_up_the_others() {
    let Some(host) = Host::new() else { return };
    host.told();
    host.hook("1-fails", "echo why; exit 7");
    host.executable("hooks.d/2-hangs", "#!/bin/sh\ntrap '' TERM\nsleep 1000\n");
    host.hook("3-works", "");
    host.log(&[FIRST, STAGED, BLESSED, (4, "staged", "rollback")]);
    // Short for the one that hangs; the others need less even on a busy machine,
    // and what they wrote down is there before they end.
    let output = host.command(5000).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let told = host.heard();
    assert_eq!(told.len(), 6, "{told:?}");
    assert!(
        said.contains("1-fails: why\n1-fails: for staged: exit code 7\n"),
        "{said}"
    );
    assert_eq!(said.matches("2-hangs: for ").count(), 2, "{said}");
    assert!(
        said.contains("2-hangs: left out for staged: it hung 2 times"),
        "{said}"
    );
}

#[test]
fn a_hook_that_others_may_change_is_not_run() {
    let Some(host) = Host::new() else { return };
    host.told();
    host.hook("a", "");
    let mode = fs::Permissions::from_mode(0o777);
    fs::set_permissions(host.path("hooks.d/a"), mode).unwrap();
    host.log(&[FIRST, STAGED]);
    let said = host.told();
    assert!(
        said.contains("not run: ") && said.contains("chmod go-w"),
        "{said}"
    );
    assert_eq!(host.heard(), [""; 0]);
}

#[test]
fn a_rescue_without_a_store_is_told_once() {
    let Some(host) = Host::new() else { return };
    fs::remove_dir_all(host.path("store")).unwrap();
    host.hook("a", "");
    let activation = r#"{"schema":1,"program":"test","record_formats":[1],
        "boot_id":"00000000-0000-0000-0000-000000000001","outcome":"rescue","slot":null,
        "version":null,"digest":null,"counted":false,"source":"record",
        "reason":"the store did not appear","degraded":[],"failures":[],
        "record":{"state":"unreadable","repaired":false},"steps_us":[],"total_us":1}"#;
    fs::write(host.path("run/op-dbus/activation.json"), activation).unwrap();
    host.told();
    assert_eq!(host.heard(), ["a rescue"]);
    host.told();
    assert_eq!(host.heard(), [""; 0]);
}

#[test]
fn a_log_that_cannot_be_read_is_an_error_and_loses_nothing() {
    let Some(host) = Host::new() else { return };
    host.hook("a", "");
    host.told();
    host.log(&[FIRST, STAGED]);
    fs::write(host.path("log-is-broken"), "").unwrap();
    let output = host.run();
    assert_eq!(output.status.code(), Some(1));
    fs::remove_file(host.path("log-is-broken")).unwrap();
    host.told();
    assert_eq!(host.heard(), ["a staged"]);
}

#[test]
fn a_bus_that_takes_a_connection_and_says_nothing_is_not_waited_for() {
    let Some(host) = Host::new() else { return };
    host.told();
    host.log(&[FIRST, STAGED]);
    let bus = host.path("bus");
    let _silent = UnixListener::bind(&bus).unwrap();
    let command = host.command(20_000);
    // One that hangs is to fail the test, not to hold it up.
    let status = Command::new("timeout")
        .args([OsStr::new("60"), command.get_program()])
        .args(command.get_args().filter(|arg| *arg != "--no-refresh"))
        .env(
            "DBUS_SYSTEM_BUS_ADDRESS",
            format!("unix:path={}", bus.display()),
        )
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_cursor_that_cannot_be_kept_ends_the_run() {
    let Some(host) = Host::new() else { return };
    host.hook("a", "");
    host.told();
    host.log(&[FIRST, STAGED, BLESSED]);
    // What it is written through is in the way.
    fs::create_dir_all(host.path("store/audit/.notified.new/x")).unwrap();
    let output = host.run();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("hooks will be told again"), "{said}");
    assert_eq!(host.heard(), ["a staged"]);
}

#[test]
fn a_cursor_that_is_none_is_said_and_begins_at_the_end() {
    let Some(host) = Host::new() else { return };
    host.hook("a", "");
    host.log(&[FIRST, STAGED]);
    fs::write(host.path("store/audit/notified"), "{").unwrap();
    let said = host.told();
    assert!(said.contains("from now on"), "{said}");
    host.log(&[FIRST, STAGED, BLESSED]);
    host.told();
    assert_eq!(host.heard(), ["a blessed"]);
}

/// A receive writes its line, and a stage the next one seconds later. systemd does
/// not watch the log meanwhile, and nobody else writes: it must be seen before the
/// program ends.
#[test]
fn a_line_written_after_the_last_look_is_told() {
    let Some(host) = Host::new() else { return };
    host.hook("a", "");
    host.told();
    host.log(&[FIRST, STAGED, BLESSED]);
    fs::rename(host.path("lines"), host.path("later")).unwrap();
    host.log(&[FIRST, STAGED]);
    let log = host.path("store/audit/log.jsonl");
    fs::write(&log, "").unwrap();
    fs::rename(host.path("stage"), host.path("asked")).unwrap();
    // The second look finds nothing new, and then there is.
    host.executable(
        "stage",
        &"#!/bin/sh\nDIR/asked \"$@\"\necho >>DIR/looks\n[ \"$(wc -l <DIR/looks)\" = 2 ] && mv DIR/later DIR/lines && echo >>DIR/store/audit/log.jsonl\nexit 0\n"
            .replace("DIR", &host.path("").display().to_string()),
    );
    host.told();
    assert_eq!(host.heard(), ["a staged", "a blessed"]);
    // A log that stays as it is is not looked at again.
    let looks = fs::read_to_string(host.path("looks")).unwrap();
    assert_eq!(looks.lines().count(), 4);
}
