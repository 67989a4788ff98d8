//! Whether a deployment is what was published.

use std::path::Path;

use op_dbus_bootstate::{Identity, Uuid};
use op_dbus_btrfs::SubvolInfo;

/// What the kernel says of a subvolume, in the record's words.
pub fn of(info: &SubvolInfo) -> Identity {
    Identity {
        uuid: Uuid(info.uuid),
        received_uuid: Uuid(info.received_uuid),
        ctransid: info.ctransid,
        rtransid: info.rtransid,
    }
}

/// The outcome of comparing a subvolume with its recorded identity.
#[derive(Debug, Clone)]
pub enum Check {
    /// It is what was published.
    Intact,
    /// There is no such subvolume.
    Missing(String),
    /// It is another one, or was written to.
    Altered(String),
    /// The medium can't tell.
    Unreadable(String),
}

/// Compares a subvolume with its recorded identity. One ioctl.
pub fn check(path: &Path, expected: &Identity) -> Check {
    let at = path.display();
    match op_dbus_btrfs::is_subvolume(path) {
        Ok(true) => {}
        Ok(false) if path.symlink_metadata().is_ok() => {
            return Check::Altered(format!("{at} is not a subvolume"));
        }
        Ok(false) => return Check::Missing(format!("{at} does not exist")),
        Err(why) => return Check::Unreadable(why.to_string()),
    }
    let info = match op_dbus_btrfs::info_of(path) {
        Ok(info) => info,
        Err(why) => return Check::Unreadable(why.to_string()),
    };
    match difference(&info, expected) {
        None => Check::Intact,
        Some(what) => Check::Altered(format!("{at}: {what}")),
    }
}

/// In what a subvolume differs from its recorded identity.
pub fn difference(info: &SubvolInfo, expected: &Identity) -> Option<String> {
    let found = of(info);
    if found.uuid != expected.uuid {
        return Some(format!("UUID {} instead of {}", found.uuid, expected.uuid));
    }
    if !info.is_read_only() {
        return Some("no longer read-only".to_owned());
    }
    if found.ctransid != expected.ctransid {
        return Some(format!(
            "changed since it was published (transaction {} instead of {})",
            found.ctransid, expected.ctransid
        ));
    }
    if found.received_uuid != expected.received_uuid || found.rtransid != expected.rtransid {
        return Some("not the received one".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> SubvolInfo {
        SubvolInfo {
            id: 257,
            parent_id: 256,
            generation: 30,
            flags: 1,
            uuid: [1; 16],
            parent_uuid: [0; 16],
            received_uuid: [2; 16],
            ctransid: 20,
            otransid: 10,
            stransid: 5,
            rtransid: 19,
        }
    }

    #[test]
    fn each_field_of_the_identity_counts_and_generation_does_not() {
        let published = of(&info());
        assert_eq!(difference(&info(), &published), None);
        let mut balanced = info();
        balanced.generation = 99;
        assert_eq!(difference(&balanced, &published), None);

        let changes: [fn(&mut SubvolInfo); 5] = [
            |info| info.uuid = [9; 16],
            |info| info.flags = 0,
            |info| info.ctransid += 1,
            |info| info.received_uuid = [9; 16],
            |info| info.rtransid += 1,
        ];
        for change in changes {
            let mut altered = info();
            change(&mut altered);
            assert!(difference(&altered, &published).is_some(), "{altered:?}");
        }
    }
}
