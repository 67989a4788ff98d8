//! A backup, in each of the forms its target takes.

use std::io::{self, Read as _, Write as _};

use op_dbus_backup::{BackupError, INFO, Info, Key, SCHEMA, Stream, Writer};

use crate::Corpus;

fn info() -> Info {
    Info {
        schema: SCHEMA,
        created: "2026-11-23T09:00:00Z".to_owned(),
        program: "op-dbus-stage 0.1.0".to_owned(),
        host: "gate-7".to_owned(),
        streams: vec![Stream {
            member: "shared/0000".to_owned(),
            place: "shared/var-lib-db".to_owned(),
        }],
        keys: vec![Key {
            member: "device/keys/0000".to_owned(),
            file: "release.asc".to_owned(),
            fingerprints: vec!["AB".repeat(20)],
        }],
    }
}

fn file() -> op_dbus_backup::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new())?;
    writer.file(INFO, &info().encode()?)?;
    writer.file("device/boot/record.0", &[7; 600])?;
    writer.file("device/pins/v1.0.0", b"")?;
    for name in ["overlays/v1.0.0", "shared/0000"] {
        let mut stream = writer.stream(name)?;
        stream.write_all(b"a stream").map_err(BackupError::Io)?;
        stream.finish()?;
    }
    Ok(writer.finish()?.0)
}

/// All of them.
pub(crate) fn all(corpus: &Corpus) -> io::Result<()> {
    let file = file().map_err(io::Error::other)?;
    let mut tar = Vec::new();
    zstd::stream::read::Decoder::new(&file[..])?
        .single_frame()
        .read_to_end(&mut tar)?;
    let mut members = Vec::new();
    for (name, content) in [
        ("device/audit/log.jsonl", &b"{}\n"[..]),
        ("overlays/v1.0.0/000000", b"stream"),
        ("overlays/v1.0.0.old/000000", b""),
    ] {
        members.push(u8::try_from(name.len()).map_err(io::Error::other)?);
        members.extend(name.as_bytes());
        let length = u16::try_from(content.len()).map_err(io::Error::other)?;
        members.extend(length.to_le_bytes());
        members.extend(content);
    }
    let info = info().encode().map_err(io::Error::other)?;
    for (kind, (name, bytes)) in [
        ("file", file),
        ("tar", tar),
        ("members", members),
        ("info", info),
    ]
    .into_iter()
    .enumerate()
    {
        let kind = u8::try_from(kind).map_err(io::Error::other)?;
        corpus.add("backup", name, &[&[kind][..], &bytes].concat())?;
    }
    Ok(())
}
