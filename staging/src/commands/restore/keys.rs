//! Certificates of a backup that the operator vouches for.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;

use op_dbus_activator::files::{self, Durable};
use op_dbus_trust::MAX_CERTIFICATE;

use crate::backup::contents::Contents;
use crate::backup::gather::fingerprints;
use crate::context::{self, Context};
use crate::error::{Exit, Failure, Result};
use crate::settings::Settings;

/// Suffixes a keyring's files have.
const SUFFIXES: [&str; 3] = [".asc", ".pgp", ".gpg"];

/// Copies the certificates with these fingerprints into the keys' directory.
/// Whoever made the backup chose what is in it, so the fingerprint is the
/// operator's word, and what a file holds beside is not taken along.
pub(super) fn trust(context: &Context, contents: &Contents, named: &[String]) -> Result<()> {
    let named: Vec<String> = named.iter().map(|name| plain(name)).collect();
    for name in &named {
        let mut found = false;
        for (key, bytes) in &contents.keys {
            let held = fingerprints(bytes, key.file.as_ref());
            if !held.contains(name) {
                continue;
            }
            if let Some(other) = held.iter().find(|held| !named.contains(held)) {
                return Err(Failure::new(
                    Exit::Refused,
                    &key.file,
                    format_args!("holds another certificate as well: {other}"),
                    "name that one too: --trust-key FINGERPRINT; or take the certificate from elsewhere",
                ));
            }
            install(context, &key.file, bytes)?;
            found = true;
        }
        if !found {
            let held: Vec<_> = contents
                .keys
                .iter()
                .flat_map(|(key, bytes)| fingerprints(bytes, key.file.as_ref()))
                .collect();
            return Err(Failure::new(
                Exit::Configuration,
                format_args!("--trust-key {name}"),
                format_args!("the backup's certificates are {}", held.join(", ")),
                "compare the whole fingerprint with what you know from elsewhere",
            ));
        }
    }
    Ok(())
}

/// A fingerprint as it is compared: people write it in groups.
fn plain(name: &str) -> String {
    let name = name.trim().trim_start_matches("0x");
    let kept = name.chars().filter(|c| !c.is_whitespace());
    kept.collect::<String>().to_ascii_uppercase()
}

fn install(context: &Context, file: &str, bytes: &[u8]) -> Result<()> {
    let dir = context.layout.host(&Settings::load(context)?.keys);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&dir)
        .map_err(|why| Failure::io(format_args!("{}: create directory", dir.display()), why))?;
    let suffix = if SUFFIXES.iter().any(|suffix| file.ends_with(suffix)) {
        ""
    } else {
        ".asc"
    };
    // What is there stays: it may be newer, or a revocation.
    for prefix in ["", "restored-"] {
        let path = dir.join(format!("{prefix}{file}{suffix}"));
        match files::read_bounded(&path, MAX_CERTIFICATE) {
            Ok(held) if held == bytes => return Ok(()),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                files::replace(&path, bytes, 0o644, Durable::Yes)
                    .map_err(|why| Failure::io(format_args!("{}: write", path.display()), why))?;
                context::say(&format!("trusting the certificate {}", path.display()));
                return Ok(());
            }
            _ => {}
        }
    }
    Err(Failure::new(
        Exit::Refused,
        dir.join(file).display(),
        "is there already, with other content",
        "put the certificate there by hand, under another name",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_compared_as_people_write_them() {
        assert_eq!(plain(" 0xabCD 1234\t"), "ABCD1234");
    }
}
