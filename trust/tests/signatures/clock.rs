//! The device's clock has no say: not in 1970, not in 2100, not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use op_dbus_trust::{Keyring, TrustError};

use crate::gpg::{Gpg, MESSAGE, Y2020, Y2021, Y2022, Y2023, Y2099, keyring, reason, refused};

/// Takes the place of the C library's clock, and ends the program when it is asked.
const TRAP: &str = r#"
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static void asked(void) {
    static const char text[] = "THE CLOCK WAS ASKED\n";
    (void)!write(2, text, sizeof text - 1);
    _exit(99);
}
int clock_gettime(clockid_t id, struct timespec *now) {
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_TAI) asked();
    return (int)syscall(SYS_clock_gettime, id, now);
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) { (void)now; (void)zone; asked(); return -1; }
time_t time(time_t *now) { (void)now; asked(); return -1; }
"#;

/// Where the child finds its files.
const CASES: &str = "OP_DBUS_TRUST_CASES";

/// Runs one of the ignored tests below in a process of its own, in the trap.
fn in_the_trap(test: &str, dir: &Path) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test])
        .env("LD_PRELOAD", dir.join("trap.so"))
        .env(CASES, dir)
        .output()
        .unwrap()
}

#[test]
fn the_clock_is_never_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    fs::write(path.join("trap.c"), TRAP).unwrap();
    let built = Command::new("gcc")
        .args(["-shared", "-fPIC", "-o", "trap.so", "trap.c"])
        .current_dir(path)
        .status();
    if !built.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no gcc to build the clock's trap with");
        return;
    }
    if in_the_trap("clock::asks", path).status.code() != Some(99) {
        eprintln!("SKIPPED: a static test program can't be trapped");
        return;
    }

    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "2022-06-01");
    let put = |name: &str, bytes: &[u8]| fs::write(path.join(name), bytes).unwrap();
    put("good.sig", &gpg.sign(Y2021, &[&key], MESSAGE));
    put("retired.sig", &gpg.sign(Y2022, &[&key], MESSAGE));
    let certificate = gpg.export(&key);
    let extend = ["--batch", "--quick-set-expire", &key, "never"];
    gpg.run(Y2022, &extend, b"");
    put("expired.sig", &gpg.sign(Y2023, &[&key], MESSAGE));
    put("future.sig", &gpg.sign(Y2099, &[&key], MESSAGE));
    put("plain.asc", &certificate);
    let since = "20210601T000000";
    let retired = gpg.revocation(since, &key, reason::RETIRED);
    put("retired.asc", &[&certificate[..], &retired].concat());

    let ended = in_the_trap("clock::judges", path);
    let told = String::from_utf8_lossy(&ended.stdout);
    let asked = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{told}{asked}");
    assert!(told.contains("1 passed"), "{told}");
}

#[test]
#[ignore = "run in the trap by the_clock_is_never_asked"]
fn asks() {
    assert_ne!(SystemTime::now(), SystemTime::UNIX_EPOCH);
}

#[test]
#[ignore = "run in the trap by the_clock_is_never_asked"]
fn judges() {
    let Some(dir) = std::env::var_os(CASES).map(PathBuf::from) else {
        return;
    };
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    let plain = keyring(&read("plain.asc"));
    let check = |name: &str| plain.verify(MESSAGE, &read(name));
    check("good.sig").unwrap();
    check("retired.sig").unwrap();
    refused!(check("expired.sig"), TrustError::Expired { .. });
    refused!(check("future.sig"), TrustError::Expired { .. });
    let mut bad = read("good.sig");
    bad.truncate(bad.len() / 2);
    plain.verify(MESSAGE, &bad).unwrap_err();
    plain.verify(b"other", &read("good.sig")).unwrap_err();

    let retired = Keyring::load(&dir).unwrap();
    let check = |name: &str| retired.verify(MESSAGE, &read(name));
    check("good.sig").unwrap();
    refused!(check("retired.sig"), TrustError::Revoked { .. });
}
