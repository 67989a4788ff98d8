//! Manifests and whose signature is under them.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use op_dbus_activator::files;
use op_dbus_release::manifest::{self, Manifest};
use op_dbus_trust::{Keyring, MAX_SIGNATURE, Signer, TrustError};

use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::settings::Settings;

/// A manifest that a trusted key has signed.
#[derive(Debug)]
pub(crate) struct Signed {
    /// What it says.
    pub(crate) manifest: Manifest,
    /// Its bytes, which are what is signed.
    pub(crate) bytes: Vec<u8>,
    /// The signature as it was found.
    pub(crate) signature: Vec<u8>,
    /// Whose it is.
    pub(crate) signer: Signer,
}

/// Reads the keys that may sign releases.
pub(crate) fn keyring(context: &Context, settings: &Settings) -> Result<Keyring> {
    let dir = context.layout.host(&settings.keys);
    let keyring = Keyring::load(&dir).map_err(|why| match why {
        TrustError::NoKeys { ref problems, .. } if problems.is_empty() => no_keys(&dir),
        TrustError::Io { ref source, .. } if source.kind() == io::ErrorKind::NotFound => {
            no_keys(&dir)
        }
        why => said(Exit::Configuration, &dir, &why),
    })?;
    for problem in keyring.problems() {
        context.warn(problem.to_string());
    }
    Ok(keyring)
}

fn no_keys(dir: &Path) -> Failure {
    Failure::new(
        Exit::Configuration,
        dir.display(),
        "holds no release key, so no release can be trusted",
        "add one: op-dbus-stage prepare --key FILE",
    )
}

/// An error of the trust library, whose text holds both why and remedy.
pub(crate) fn said(kind: Exit, what: &Path, why: &TrustError) -> Failure {
    let text = why.to_string();
    let (why, remedy) = text
        .split_once("; ")
        .unwrap_or((&text, "see docs/RECOVERY.md"));
    // It may name the file already.
    let what = what.display().to_string();
    let why = why.strip_prefix(&format!("{what}: ")).unwrap_or(why);
    Failure::new(kind, what, why, remedy)
}

/// Where a manifest's signature is.
pub(crate) fn signature_path(manifest: &Path) -> PathBuf {
    let mut path = OsString::from(manifest);
    path.push(".asc");
    path.into()
}

impl Signed {
    /// Reads a manifest and the signature beside it. Nothing of the manifest is
    /// looked at before the signature over its bytes was found good.
    pub(crate) fn read(path: &Path, keyring: &Keyring) -> Result<Self> {
        let bytes =
            files::read_bounded(path, manifest::MAX_LEN).map_err(|why| unread(path, why))?;
        let beside = signature_path(path);
        let signature = match files::read_bounded(&beside, MAX_SIGNATURE) {
            Ok(signature) => signature,
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::new(
                    Exit::Verification,
                    path.display(),
                    format_args!("is not signed: there is no {}", beside.display()),
                    "fetch the signature too, or have the release signed",
                ));
            }
            Err(why) => return Err(unread(&beside, why)),
        };
        let signer = keyring
            .verify(&bytes, &signature)
            .map_err(|why| said(Exit::Verification, &beside, &why))?;
        let manifest = Manifest::parse(&bytes).map_err(|why| {
            Failure::new(
                Exit::Verification,
                path.display(),
                why,
                "the release is signed but can't be used; have it made again",
            )
        })?;
        Ok(Self {
            manifest,
            bytes,
            signature,
            signer,
        })
    }
}

impl Signed {
    /// The signer as people know them.
    pub(crate) fn signer_name(&self) -> &str {
        let signer = &self.signer;
        signer.user_id.as_ref().unwrap_or(&signer.fingerprint)
    }
}

fn unread(path: &Path, why: io::Error) -> Failure {
    if why.kind() == io::ErrorKind::FileTooLarge {
        let remedy = "this is no file of a release";
        return Failure::new(Exit::Verification, path.display(), why, remedy);
    }
    Failure::io(format_args!("{}: read", path.display()), why)
}

#[cfg(test)]
mod tests;
