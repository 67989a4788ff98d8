//! What `verify` and `audit verify` look at, looked at without them: on every
//! state there is no time for two more programs. Of manifest and signature every
//! byte is compared with the release's own, which says more than a signature.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use op_dbus_bootstate::Identity;
use op_dbus_bootstate::audit::{AuditHead, OPEN, Segment, Verifier};
use op_dbus_bootstate::receipt::Receipt;

use super::observe::{if_any, names};

const RECEIPT: &str = ".deployment.json";
/// What a release's manifest and its signature are called, behind the version.
const SIGNED: [&str; 2] = [".json", ".json.asc"];

/// Manifest and signature of each version, as they were released.
pub type Signed = BTreeMap<String, [Vec<u8>; 2]>;

/// Reads them from the directory of the releases.
pub(crate) fn signed<'a>(
    releases: &Path,
    versions: impl Iterator<Item = &'a String>,
) -> io::Result<Signed> {
    versions
        .map(|version| {
            let [manifest, signature] =
                SIGNED.map(|suffix| fs::read(releases.join(format!("{version}{suffix}"))));
            Ok((version.clone(), [manifest?, signature?]))
        })
        .collect()
}

/// Versions in the store that are not what was released, and why. A version is
/// one that has a subvolume, or a receipt.
pub(super) fn unsound(store: &Path, signed: &Signed) -> io::Result<BTreeMap<String, String>> {
    let mut versions: BTreeSet<_> = names(&store.join("deploy"))?.into_iter().collect();
    for name in if_any(names(&store.join("manifests")))? {
        versions.extend(name.strip_suffix(RECEIPT).map(str::to_owned));
    }
    let mut found = BTreeMap::new();
    for version in versions {
        if let Err(why) = check(store, &version, signed) {
            found.insert(version, why);
        }
    }
    Ok(found)
}

fn check(store: &Path, version: &str, signed: &Signed) -> Result<(), String> {
    let read = |suffix: &str| {
        let name = format!("manifests/{version}{suffix}");
        fs::read(store.join(&name)).map_err(|why| format!("{name}: {why}"))
    };
    let receipt = Receipt::parse(&read(RECEIPT)?)?.deployment;
    if receipt.version.as_str() != version {
        return Err(format!("the receipt is one of {}", receipt.version));
    }
    let released = signed.get(version).ok_or("no such release")?;
    for (suffix, released) in SIGNED.iter().zip(released) {
        if read(suffix)? != *released {
            return Err(format!("{version}{suffix} is not the release's"));
        }
    }
    if is_known(&store.join("deploy").join(version), &receipt.identity) {
        return Ok(());
    }
    Err("another subvolume than the receipt's".to_owned())
}

/// Whether a subvolume is the one that was published.
pub(super) fn is_known(path: &Path, known: &Identity) -> bool {
    op_dbus_btrfs::info_of(path).is_ok_and(|info| {
        info.is_read_only()
            && info.uuid == known.uuid.0
            && info.received_uuid == known.received_uuid.0
            && info.ctransid == known.ctransid
    })
}

/// The files of the audit log, in their order.
pub(super) fn files(audit: &Path) -> io::Result<Vec<String>> {
    let mut names = if_any(names(audit))?;
    names.retain(|name| name == OPEN || Segment::parse(name).is_some());
    // Digits sort before letters: the open one is the last.
    names.sort();
    Ok(names)
}

/// Why the audit log is not whole, or does not hold what the record knows of it.
pub(super) fn broken_chain(store: &Path, anchor: Option<AuditHead>) -> io::Result<Option<String>> {
    let audit = store.join("audit");
    let aside = if_any(names(&audit))?
        .into_iter()
        .find(|name| name.starts_with("log.set-aside"));
    if let Some(aside) = aside {
        return Ok(Some(format!("{aside} was set aside")));
    }
    let mut verifier = Verifier::new(anchor);
    for name in files(&audit)? {
        let segment = Segment::parse(&name);
        if let Some(Err(why)) = segment.map(|segment| verifier.begin(&segment)) {
            return Ok(Some(why.to_string()));
        }
        for line in fs::read(audit.join(&name))?.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n").map(|line| verifier.line(line)) {
                Some(Ok(_)) => {}
                Some(Err(why)) => return Ok(Some(why.to_string())),
                None if segment.is_some() => return Ok(Some(format!("{name} has a torn line"))),
                // The last one may be torn.
                None => break,
            }
        }
        if let Some(Err(why)) = segment.map(|segment| verifier.end_of(&segment)) {
            return Ok(Some(why.to_string()));
        }
    }
    Ok(verifier.end().err().map(|why| why.to_string()))
}

#[cfg(test)]
mod tests {
    use op_dbus_bootstate::audit::{Event, Kind, Stamp, append};

    use super::*;

    fn log(lines: usize) -> (String, AuditHead) {
        let (mut text, mut head) = (String::new(), AuditHead::default());
        for number in 0..lines {
            let event = Event::general(Kind::Prepared, number.to_string());
            let (line, next) = append(head, event, &Stamp::default()).unwrap();
            text.push_str(&line);
            text.push('\n');
            head = next;
        }
        (text, head)
    }

    #[test]
    fn a_log_is_whole_or_not() {
        let store = tempfile::tempdir().unwrap();
        fs::create_dir(store.path().join("audit")).unwrap();
        let path = store.path().join("audit/log.jsonl");
        let (text, head) = log(3);
        let broken = |text: &str| {
            fs::write(&path, text).unwrap();
            broken_chain(store.path(), Some(head)).unwrap().is_some()
        };
        assert!(!broken(&text));
        assert!(!broken(&format!("{text}{{\"torn")));
        assert!(broken(&text.replace("\"1\"", "\"7\"")));
        assert!(broken(&log(2).0));
        assert!(broken(""));
        let aside = store.path().join("audit/log.set-aside.1");
        fs::write(aside, "").unwrap();
        assert!(broken(&text));
    }
}
