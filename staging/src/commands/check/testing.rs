//! For tests: a host in a directory.

use std::fs;
use std::path::{Path, PathBuf};

use super::host::Host;
use super::root::Root;
use crate::cli::Global;
use crate::context::Context;
use crate::findings::{Findings, Severity};

/// A host whose `/`, `/proc`, `/sys` and `/run` are directories below one, and
/// which counts as the running one.
pub(crate) fn host(dir: &Path) -> Host {
    let global = Global {
        for_uid: None,
        json: false,
        config: None,
        store: None,
        sysroot: dir.join("root"),
        run: dir.join("run"),
        boot_id: dir.join("proc/sys/kernel/random/boot_id"),
    };
    let context = Context::new(&global);
    Host {
        root: Root::new(dir.join("root")),
        proc: Root::new(dir.join("proc")),
        sys: Root::new(dir.join("sys")),
        is_running: true,
        context,
    }
}

/// Writes a file and the directories above it.
pub(crate) fn put(dir: &Path, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

/// Severity and text of what a part found.
pub(crate) fn found(part: impl FnOnce(&mut Findings)) -> Vec<(Severity, String)> {
    let mut findings = Findings::default();
    part(&mut findings);
    let list = findings.list().iter();
    list.map(|one| {
        let needs_remedy = one.severity >= Severity::Warning;
        assert_eq!(one.remedy.is_some(), needs_remedy, "{one:?}");
        (one.severity, one.found.clone())
    })
    .collect()
}

/// What is worse than information.
pub(crate) fn bad(part: impl FnOnce(&mut Findings)) -> Vec<(Severity, String)> {
    let mut all = found(part);
    all.retain(|(severity, _)| *severity >= Severity::Warning);
    all
}
