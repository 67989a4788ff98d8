//! The certificates whose signatures count.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sequoia_openpgp::packet::Signature;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::{Cert, KeyHandle};

use crate::certificate::{Certificate, Collection, describe};
use crate::{TrustError, directory, judge, policy, signature};

/// The certificates whose signatures count.
#[derive(Debug)]
pub struct Keyring {
    policy: StandardPolicy<'static>,
    certs: Vec<Cert>,
    described: Vec<Certificate>,
    problems: Vec<Problem>,
}

/// A file that could not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Why, and what to do: `<why>; <remedy>`.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.why)
    }
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Fingerprint of the certificate, in upper-case hexadecimal.
    pub fingerprint: String,
    /// Fingerprint of the key that signed: the same, or a subkey's.
    pub key: String,
    /// A user id of the certificate, if it has one that is not revoked.
    pub user_id: Option<String>,
    /// When the signature says it was made: a claim of the signer.
    pub signed_at: SystemTime,
}

impl Keyring {
    /// Reads every `*.asc`, `*.pgp` and `*.gpg` file of a directory; hidden
    /// files and other names are left alone.
    ///
    /// A file that can't be used is one of [`Keyring::problems`]; the others
    /// count. It is an error when the directory can't be read, is not only its
    /// owner's to change, or has no usable certificate.
    pub fn load(dir: &Path) -> Result<Self, TrustError> {
        let mut collection = Collection::default();
        let mut problems = Vec::new();
        for (file, read) in directory::read(dir)? {
            if let Err(why) = read.and_then(|bytes| collection.add(&file, &bytes)) {
                problems.push(Problem { file, why });
            }
        }
        Self::new(dir, collection, problems)
    }

    /// A keyring of the certificates in these bytes, armored or binary, such
    /// as `gpg --export` prints. `name` is what messages call them.
    pub fn from_bytes(bytes: &[u8], name: &Path) -> Result<Self, TrustError> {
        let mut collection = Collection::default();
        let problems = match collection.add(name, bytes) {
            Ok(()) => Vec::new(),
            Err(why) => vec![Problem {
                file: name.to_owned(),
                why,
            }],
        };
        Self::new(name, collection, problems)
    }

    fn new(
        place: &Path,
        collection: Collection,
        mut problems: Vec<Problem>,
    ) -> Result<Self, TrustError> {
        let policy = policy::pinned();
        let (held, mut more) = collection.finish();
        problems.append(&mut more);
        let mut certs = Vec::with_capacity(held.len());
        let mut described = Vec::with_capacity(held.len());
        for (cert, files) in held {
            let (certificate, useless) = describe(&policy, &cert, files);
            if let (Some(why), Some(file)) = (useless, certificate.files.first()) {
                problems.push(Problem {
                    file: file.clone(),
                    why: format!(
                        "certificate {}: {why}; no release can be signed with it",
                        certificate.fingerprint
                    ),
                });
            }
            certs.push(cert);
            described.push(certificate);
        }
        if certs.is_empty() {
            return Err(TrustError::NoKeys {
                place: place.to_owned(),
                problems,
            });
        }
        Ok(Self {
            policy,
            certs,
            described,
            problems,
        })
    }

    /// Who signed exactly these bytes. Among several signatures one good one
    /// is enough; if none is, the error says why not, for each.
    ///
    /// `signature` is a detached signature, armored or binary, or several.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<Signer, TrustError> {
        let mut reasons = Vec::new();
        for signature in signature::parse(signature)? {
            match self.verify_one(message, &signature) {
                Ok(signer) => return Ok(signer),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(one_of(reasons))
    }

    fn verify_one(&self, message: &[u8], signature: &Signature) -> Result<Signer, TrustError> {
        let at = judge::form(&self.policy, signature)?;
        let issuers = signature.get_issuers();
        let mut reasons = Vec::new();
        for cert in &self.certs {
            for key in cert.keys() {
                let handle = key.key().key_handle();
                if !issuers.iter().any(|issuer| issuer.aliases(&handle)) {
                    continue;
                }
                let judged = judge::fits(signature, key.key(), message, at)
                    .and_then(|()| judge::key(&self.policy, cert, &key, at));
                match judged {
                    Ok(signer) => return Ok(signer),
                    Err(reason) => reasons.push(reason),
                }
            }
        }
        if reasons.is_empty() {
            let keyid = issuers
                .first()
                .map_or("nobody".to_owned(), KeyHandle::to_string);
            return Err(TrustError::UnknownKey { keyid });
        }
        Err(one_of(reasons))
    }

    /// The certificates, by fingerprint.
    pub fn certificates(&self) -> &[Certificate] {
        &self.described
    }

    /// Files that could not be used, and certificates that never can sign.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// The one reason, or all of them.
fn one_of(mut reasons: Vec<TrustError>) -> TrustError {
    match (reasons.pop(), reasons.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            reasons.extend(last);
            TrustError::Several(reasons)
        }
    }
}
