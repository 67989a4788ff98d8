//! A release's files, wherever they are.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use op_dbus_release::chunks::Verified;
use op_dbus_release::manifest::Stream;
use op_dbus_sendstream::{Begin, vet};
use op_dbus_trust::Keyring;

use super::Finding;
use crate::commands::receive::{
    agrees, beside, is_manifest, open, policy, read_first, stream_failure, unrecognised,
};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::progress::{Meter, Progress};
use crate::signed::Signed;

/// Checks a manifest and the streams beside it, or one stream.
pub(super) fn check(context: &Context, keyring: &Keyring, path: &Path) -> Result<Vec<Finding>> {
    if is_manifest(path) {
        return manifest(context, keyring, path);
    }
    let mut file = open(path)?;
    let manifest = beside(path)?;
    let signed = Signed::read(&manifest, keyring)?;
    let first = read_first(&mut file, signed.manifest.chunk_size)
        .map_err(|why| Failure::io(format_args!("{}: read", path.display()), why))?;
    let Some(found) = signed.manifest.stream_by_first_chunk(&first) else {
        return Err(unrecognised(path, &signed));
    };
    Ok(vec![stream(context, &signed, found, path, first, file)])
}

fn manifest(context: &Context, keyring: &Keyring, path: &Path) -> Result<Vec<Finding>> {
    let signed = Signed::read(path, keyring)?;
    let mut own = finding(&path.display().to_string(), "manifest", &signed);
    "signature, manifest".clone_into(&mut own.checked);
    let mut findings = vec![own];
    for found in &signed.manifest.streams {
        let beside = path.with_file_name(&found.file);
        findings.push(match open(&beside) {
            Ok(file) => stream(context, &signed, found, &beside, Vec::new(), file),
            Err(_) if beside.symlink_metadata().is_err() => {
                let mut absent = finding(&found.file, "stream", &signed);
                "nothing: it is not here".clone_into(&mut absent.checked);
                absent
            }
            Err(why) => {
                let mut bad = finding(&found.file, "stream", &signed);
                bad.problems.push(why.why);
                bad
            }
        });
    }
    Ok(findings)
}

fn finding(name: &str, kind: &'static str, signed: &Signed) -> Finding {
    let mut finding = Finding::new(name, kind);
    finding.digest = signed.manifest.tree.digest.short();
    finding.signer = Some(signed.signer.fingerprint.clone());
    finding
}

/// Every chunk, and every command in them, as a receive would have them.
fn stream(
    context: &Context,
    signed: &Signed,
    stream: &Stream,
    path: &Path,
    first: Vec<u8>,
    rest: File,
) -> Finding {
    let mut finding = finding(&stream.file, "stream", signed);
    "chunks, commands".clone_into(&mut finding.checked);
    let progress = Progress::new(context);
    let phase = progress.phase(format!("reading {}", stream.file), Some(stream.size));
    let source = Counted {
        source: io::Cursor::new(first).chain(rest),
        meter: phase.meter(),
    };
    let verified = Verified::new(source, stream, signed.manifest.chunk_size);
    match vet(verified, &policy(&signed.manifest.allow)) {
        Ok(summary) => {
            let begin = Begin {
                version: summary.version,
                name: summary.name,
                uuid: summary.uuid,
                ctransid: summary.ctransid,
                parent: summary.parent,
            };
            finding.problems.extend(agrees(&begin, stream).err());
        }
        Err(why) => finding.problems.push(stream_failure(path, &why).why),
    }
    finding
}

struct Counted<R> {
    source: R,
    meter: Meter,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.meter.add(count as u64);
        Ok(count)
    }
}
