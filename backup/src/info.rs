//! What a backup says of itself.

use serde::{Deserialize, Serialize};

use crate::error::{BackupError, Result};
use crate::name::is_plain;

/// Schema of [`Info`].
pub const SCHEMA: u32 = 1;
/// Most streams and keys.
const MANY: usize = 4096;
/// Longest free text, in bytes.
const TEXT_MAX: usize = 4096;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// When its snapshots were taken, RFC 3339, by the device's clock.
    pub created: String,
    /// The program that made it, with its version.
    pub program: String,
    /// The device's name.
    pub host: String,
    /// The send streams, in the order they are in.
    pub streams: Vec<Stream>,
    /// Certificates that might sign releases for the device.
    pub keys: Vec<Key>,
}

/// A subvolume of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Its stream's name, without the pieces' numbers.
    pub member: String,
    /// Where it was in the store: `overlays/…` or `shared/…`.
    pub place: String,
}

/// A certificate's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The member that holds it.
    pub member: String,
    /// Its name in the keys' directory.
    pub file: String,
    /// Whose it is, as far as it could be read.
    pub fingerprints: Vec<String>,
}

impl Info {
    /// Parses and checks it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            schema: u32,
        }
        let fail = |why: serde_json::Error| BackupError::damaged(format!("BACKUP.json: {why}"));
        let Versioned { schema } = serde_json::from_slice(bytes).map_err(fail)?;
        if schema != SCHEMA {
            return Err(BackupError::Foreign(format!(
                "is a backup of schema {schema}, and this program reads schema {SCHEMA}"
            )));
        }
        let info: Self = serde_json::from_slice(bytes).map_err(fail)?;
        info.check()
            .map_err(|why| BackupError::damaged(format!("BACKUP.json: {why}")))?;
        Ok(info)
    }

    /// As it is written.
    pub fn encode(&self) -> Result<Vec<u8>> {
        self.check()
            .map_err(|why| BackupError::Unwritable(why.to_owned()))?;
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|why| BackupError::Unwritable(why.to_string()))?;
        text.push(b'\n');
        Ok(text)
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        let is_text = |text: &String| text.len() <= TEXT_MAX && !text.chars().any(char::is_control);
        if ![&self.created, &self.program, &self.host]
            .into_iter()
            .all(is_text)
        {
            return Err("a text is too long or has control characters");
        }
        if self.streams.len() > MANY || self.keys.len() > MANY {
            return Err("it lists too much");
        }
        let is_stream = |stream: &Stream| {
            let same = |dir: &str| stream.member.starts_with(dir) && stream.place.starts_with(dir);
            is_plain(&stream.member)
                && (same("overlays/") || same("shared/"))
                && is_place(&stream.place)
        };
        if !self.streams.iter().all(is_stream) {
            return Err("a stream's place is none in a store");
        }
        let is_key = |key: &Key| {
            key.member.starts_with("device/keys/")
                && is_plain(&key.member)
                && is_text(&key.file)
                && is_name(&key.file)
                && key.fingerprints.len() <= MANY
                && key.fingerprints.iter().all(is_text)
        };
        if !self.keys.iter().all(is_key) {
            return Err("a key's name is none of a file");
        }
        Ok(())
    }
}

/// A directory of the store, and a name in it.
fn is_place(place: &str) -> bool {
    place.split_once('/').is_some_and(|(_, name)| is_name(name))
}

/// A name of one component, not hidden.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains('/')
        && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> Info {
        Info {
            schema: SCHEMA,
            created: "2026-11-23T09:00:00Z".to_owned(),
            program: "op-dbus-stage 0.1.0".to_owned(),
            host: "gate-7".to_owned(),
            streams: vec![
                Stream {
                    member: "overlays/v1.0.0".to_owned(),
                    place: "overlays/v1.0.0".to_owned(),
                },
                Stream {
                    member: "shared/0000".to_owned(),
                    place: "shared/var-lib\\x2ddb".to_owned(),
                },
            ],
            keys: vec![Key {
                member: "device/keys/0000".to_owned(),
                file: "release.asc".to_owned(),
                fingerprints: vec!["AB".to_owned()],
            }],
        }
    }

    #[test]
    fn it_reads_as_written() {
        let bytes = info().encode().unwrap();
        assert_eq!(Info::parse(&bytes).unwrap(), info());
        let later = String::from_utf8(bytes).unwrap();
        let later = later.replace("\"schema\": 1", "\"new\": 1, \"schema\": 2");
        let why = Info::parse(later.as_bytes()).unwrap_err().to_string();
        assert!(why.contains("schema 2"), "{why}");
    }

    #[test]
    fn places_outside_a_store_are_refused() {
        let changes: [fn(&mut Info); 9] = [
            |info| info.streams[0].place = "overlays/../deploy".to_owned(),
            |info| info.streams[0].place = "overlays/".to_owned(),
            |info| info.streams[0].place = "overlays/..".to_owned(),
            |info| info.streams[0].place = "/etc/x".to_owned(),
            |info| info.streams[0].place = "shared/x".to_owned(),
            |info| info.streams[1].member = "device/boot".to_owned(),
            |info| info.keys[0].file = "../release.asc".to_owned(),
            |info| info.keys[0].member = "overlays/x".to_owned(),
            |info| info.host = "a\nb".to_owned(),
        ];
        for change in changes {
            let mut info = info();
            change(&mut info);
            let bytes = serde_json::to_vec(&info).unwrap();
            assert!(Info::parse(&bytes).is_err(), "{info:?}");
            assert!(info.encode().is_err());
        }
    }
}
