//! Certificates: from the bytes of files to what the keyring holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::packet::Signature;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::SignatureType;
use sequoia_openpgp::{Cert, Fingerprint, Packet};

use crate::blocks::{self, Content};
use crate::text::{chain, printable};
use crate::{MAX_CERTIFICATE, MAX_CERTIFICATES, Problem, judge};

/// A certificate of the keyring, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Fingerprint of its primary key, in upper-case hexadecimal.
    pub fingerprint: String,
    /// Its user ids.
    pub user_ids: Vec<String>,
    /// The files it was read from.
    pub files: Vec<PathBuf>,
    /// When it ends, by its newest self-signature; none is never.
    pub expires: Option<SystemTime>,
    /// Why it was revoked, if it was, for whatever times.
    pub revoked: Option<String>,
    /// Whether a key of it is for signing, by its newest self-signature and
    /// strong enough; whether it has ended or was revoked is left aside.
    pub can_sign: bool,
}

/// A certificate and where it comes from.
#[derive(Debug)]
struct Held {
    cert: Cert,
    files: Vec<PathBuf>,
}

/// Certificates by fingerprint. What two files say of one is brought together:
/// a revocation counts whichever of them it is in.
#[derive(Debug, Default)]
pub(crate) struct Collection {
    held: BTreeMap<Fingerprint, Held>,
    /// Revocations on their own, to be put into their certificates at the end.
    loose: Vec<(PathBuf, Signature)>,
}

impl Collection {
    /// Takes a file, whole or not at all.
    pub(crate) fn add(&mut self, file: &Path, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() > MAX_CERTIFICATE {
            return Err(format!(
                "it is longer than {} KiB; it should hold one certificate",
                MAX_CERTIFICATE >> 10
            ));
        }
        let remedy = "export it again with: gpg --export --armor FINGERPRINT";
        let packets = blocks::packets(bytes, Content::Certificates)
            .map_err(|why| format!("{why}; {remedy}"))?;
        if packets.iter().any(is_secret) {
            return Err(
                "it holds a secret key, which is now exposed; revoke that key, \
                        put a public certificate here"
                    .to_owned(),
            );
        }
        let Some(first) = packets.first() else {
            return Err(format!("there is no certificate in it; {remedy}"));
        };
        if matches!(first, Packet::Signature(_)) {
            return self.add_revocations(file, packets);
        }
        let certs: Vec<Cert> = CertParser::from(packets)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{}; {remedy}", chain(error.as_ref())))?;
        let new = |cert: &&Cert| !self.held.contains_key(&cert.fingerprint());
        if self.held.len() + certs.iter().filter(new).count() > MAX_CERTIFICATES {
            return Err(format!(
                "there would be more than {MAX_CERTIFICATES} certificates; remove the ones no longer needed"
            ));
        }
        for cert in certs {
            self.merge(file, cert)
                .map_err(|why| format!("{why}; {remedy}"))?;
        }
        Ok(())
    }

    fn merge(&mut self, file: &Path, cert: Cert) -> Result<(), String> {
        let fingerprint = cert.fingerprint();
        let (cert, mut files) = match self.held.remove(&fingerprint) {
            Some(before) => {
                // Both have this fingerprint, the only thing that could differ.
                let merged = before.cert.merge_public(cert);
                (merged.map_err(|error| chain(error.as_ref()))?, before.files)
            }
            None => (cert, Vec::new()),
        };
        if !files.iter().any(|known| known == file) {
            files.push(file.to_owned());
        }
        self.held.insert(fingerprint, Held { cert, files });
        Ok(())
    }

    /// A file of revocations alone, as `gpg --gen-revoke` makes them.
    fn add_revocations(&mut self, file: &Path, packets: Vec<Packet>) -> Result<(), String> {
        let mut revocations = Vec::new();
        for packet in packets {
            match packet {
                Packet::Signature(signature) if signature.typ() == SignatureType::KeyRevocation => {
                    revocations.push((file.to_owned(), signature));
                }
                _ => {
                    return Err("it begins with a signature that revokes no key; \
                                put only certificates and revocations here"
                        .to_owned());
                }
            }
        }
        self.loose.append(&mut revocations);
        Ok(())
    }

    /// Applies the revocations; tells which of them fit no certificate here.
    pub(crate) fn finish(mut self) -> (Vec<(Cert, Vec<PathBuf>)>, Vec<Problem>) {
        let mut problems = Vec::new();
        for (file, revocation) in std::mem::take(&mut self.loose) {
            if !self.revoke(&file, &revocation) {
                problems.push(Problem {
                    file,
                    why: "it revokes no certificate that is here; remove it, \
                          or see that it is the right one"
                        .to_owned(),
                });
            }
        }
        let held = self.held.into_values();
        let certs = held.map(|held| (held.cert, held.files)).collect();
        (certs, problems)
    }

    /// Puts a revocation into the certificate it is of; whether there is one
    /// whose key made it.
    fn revoke(&mut self, file: &Path, revocation: &Signature) -> bool {
        let issuers = revocation.get_issuers();
        let mut fits = false;
        for held in self.held.values_mut() {
            let handle = held.cert.key_handle();
            if !issuers.iter().any(|issuer| issuer.aliases(&handle)) {
                continue;
            }
            let Ok((cert, _)) = held.cert.clone().insert_packets(vec![revocation.clone()]) else {
                continue;
            };
            let primary = cert.primary_key();
            if primary
                .self_revocations()
                .any(|known| known.normalized_eq(revocation))
            {
                held.cert = cert;
                held.files.push(file.to_owned());
                fits = true;
            }
        }
        fits
    }
}

fn is_secret(packet: &Packet) -> bool {
    matches!(packet, Packet::SecretKey(_) | Packet::SecretSubkey(_))
}

/// What a certificate says about itself as of its newest self-signature, and
/// why no key of it can ever sign a release, should that be so.
pub(crate) fn describe(
    policy: &StandardPolicy<'_>,
    cert: &Cert,
    files: Vec<PathBuf>,
) -> (Certificate, Option<String>) {
    let mut certificate = Certificate {
        fingerprint: cert.fingerprint().to_string(),
        user_ids: cert
            .userids()
            .map(|id| printable(id.userid().value()))
            .collect(),
        files,
        expires: None,
        revoked: judge::cert_revoked(policy, cert, None),
        can_sign: false,
    };
    let newest = cert
        .keys()
        .flat_map(|key| key.self_signatures())
        .chain(cert.userids().flat_map(|id| id.self_signatures()))
        .filter_map(|signature| signature.signature_creation_time())
        .max();
    let Some(newest) = newest else {
        return (
            certificate,
            Some("it has no valid self-signature".to_owned()),
        );
    };
    let whole = match cert.with_policy(policy, newest) {
        Ok(whole) => whole,
        Err(error) => return (certificate, Some(chain(error.as_ref()))),
    };
    certificate.expires = whole.primary_key().key_expiration_time();
    certificate.can_sign = whole.keys().for_signing().next().is_some();
    let why = (!certificate.can_sign).then(|| "no key of it is for signing".to_owned());
    (certificate, why)
}
