//! What a build system acknowledged survives a power cut, by the system calls
//! of the program itself ([`op_dbus_calls::Unsynced`]).

use std::path::Path;

use op_dbus_calls::{Call, Change, Unsynced, trace};

use crate::fixture::Site;

/// Runs a command that must succeed; below the build directory nothing may be
/// unsynced at its end, and no file may get its name before its content is durable.
#[track_caller]
fn durable(site: &Site, args: &[&str]) -> Vec<Call> {
    let traced = trace(&mut site.command(args));
    assert_eq!(traced.code, 0, "{args:?}: {}", traced.stderr);
    let mut unsynced = Unsynced::new(&site.path("b"));
    let mut faults = Vec::new();
    for call in &traced.calls {
        let early = |change: &&Change| **change == Change::Content(call.path.clone());
        if matches!(call.name, "rename" | "renameat" | "linkat") {
            faults.extend(
                unsynced
                    .below("")
                    .filter(early)
                    .map(|change| format!("{call}: {change}")),
            );
        }
        unsynced.follow(call);
    }
    // Locks, and the directories everything is in, say nothing.
    let top = site.path("b");
    let says = |change: &&Change| change.path().parent() != Some(&top);
    faults.extend(
        unsynced
            .below("")
            .filter(says)
            .map(|change| format!("the end: {change}")),
    );
    assert!(faults.is_empty(), "{args:?}: {faults:#?}");
    traced.calls
}

fn has(calls: &[Call], name: &str, path: &Path) -> bool {
    calls
        .iter()
        .any(|call| call.name == name && call.path.starts_with(path))
}

#[test]
fn a_release_is_durable_before_it_is_acknowledged() {
    let Some(site) = Site::new() else { return };
    let calls = durable(&site, &["snapshot", "v1.0.0"]);
    assert!(
        has(&calls, "BTRFS_IOC_SNAP_CREATE_V2", &site.path("b")),
        "{calls:#?}"
    );
    let calls = durable(&site, &["send", "v1.0.0"]);
    let begun = calls.iter().position(|call| call.name == "linkat");
    // What is about to get a name is noted, so that half of it can be taken back.
    let note = site.path("b/releases/.v1.0.0.unfinished");
    let noted = |call: &Call| call.other.as_deref() == Some(&note);
    let noted = calls.iter().position(noted);
    assert!(noted.is_some() && noted < begun, "{calls:#?}");
    let synced = calls.iter().position(|call| call.name == "syncfs");
    assert!(
        synced.is_some() && synced < begun,
        "golden is committed first: {calls:#?}"
    );

    site.key("release");
    let manifest = site.text("b/releases/v1.0.0.json");
    let calls = durable(&site, &["sign", &manifest]);
    assert!(has(&calls, "linkat", Path::new("/")), "{calls:#?}");
    durable(&site, &["sign", &manifest, "--replace"]);

    site.version("v1.1.0");
    site.version("v1.2.0");
    let calls = durable(&site, &["prune", "--source", "--keep", "1"]);
    let versions = site.path("b/versions");
    assert!(
        has(&calls, "BTRFS_IOC_SNAP_DESTROY", &versions),
        "{calls:#?}"
    );
}
