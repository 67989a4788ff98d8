//! The real gpg.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use op_dbus_trust::{Keyring, Signer, TrustError};
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::serialize::Serialize as _;
use sequoia_openpgp::types::SignatureType;
use sequoia_openpgp::{Cert, Packet};
use tempfile::TempDir;

/// What is signed.
pub(crate) const MESSAGE: &[u8] =
    b"{\n  \"schema\": 1,\n  \"product\": \"op-dbus\",\n  \"version\": \"v1.2.0\"\n}\n";

/// A home directory of gpg, with its agent.
pub(crate) struct Gpg {
    home: TempDir,
}

/// Reason codes as gpg asks for them.
pub(crate) mod reason {
    pub(crate) const NONE: &str = "0";
    pub(crate) const COMPROMISED: &str = "1";
    pub(crate) const SUPERSEDED: &str = "2";
    pub(crate) const RETIRED: &str = "3";
}

impl Gpg {
    pub(crate) fn new() -> Self {
        let private = Permissions::from_mode(0o700);
        let home = tempfile::Builder::new()
            .permissions(private)
            .tempdir()
            .unwrap();
        Self { home }
    }

    /// Runs gpg at a time such as `20200131T120000`.
    fn try_run(&self, at: &str, args: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new("gpg")
            .arg("--homedir")
            .arg(self.home.path())
            .args(["--no-tty", "--quiet", "--yes", "--status-fd", "2"])
            .args(["--pinentry-mode", "loopback", "--passphrase", ""])
            .arg(format!("--faked-system-time={at}!"))
            .args(args)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gpg is missing; install it: apt-get install gpg gpg-agent");
        let mut stdin = child.stdin.take().unwrap();
        // gpg may refuse before it reads.
        let _ = stdin.write_all(input);
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    pub(crate) fn run(&self, at: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.try_run(at, args, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {args:?}: {stderr}");
        output.stdout
    }

    /// Makes a primary key; returns its fingerprint.
    #[track_caller]
    pub(crate) fn key(&self, at: &str, name: &str, algo: &str, usage: &str, ends: &str) -> String {
        let args = ["--batch", "--quick-generate-key", name, algo, usage, ends];
        created(&self.try_run(at, &args, b""))
    }

    /// Adds a subkey; returns its fingerprint.
    #[track_caller]
    pub(crate) fn subkey(
        &self,
        at: &str,
        key: &str,
        algo: &str,
        usage: &str,
        ends: &str,
    ) -> String {
        self.run(
            at,
            &["--batch", "--quick-add-key", key, algo, usage, ends],
            b"",
        );
        let listing = self.run(at, &["--batch", "--list-keys", "--with-colons", key], b"");
        let listing = String::from_utf8(listing).unwrap();
        let last = listing.lines().rfind(|line| line.starts_with("fpr:"));
        last.unwrap().split(':').nth(9).unwrap().to_owned()
    }

    /// Exports a certificate, armored.
    #[track_caller]
    pub(crate) fn export(&self, key: &str) -> Vec<u8> {
        self.run(NOW, &["--batch", "--armor", "--export", key], b"")
    }

    /// As `gpg --detach-sign --armor` signs; `by` picks keys, each as `-u KEY`.
    #[track_caller]
    pub(crate) fn sign(&self, at: &str, by: &[&str], message: &[u8]) -> Vec<u8> {
        self.sign_with(at, by, &[], message)
    }

    /// As [`Self::sign`], with further options.
    #[track_caller]
    pub(crate) fn sign_with(
        &self,
        at: &str,
        by: &[&str],
        more: &[&str],
        message: &[u8],
    ) -> Vec<u8> {
        let mut args = vec!["--batch"];
        for key in by {
            args.extend(["--local-user", key]);
        }
        args.extend(more);
        args.extend(["--detach-sign", "--armor"]);
        self.run(at, &args, message)
    }

    /// A certificate with its secret keys, to sign what gpg would not.
    #[track_caller]
    pub(crate) fn secret(&self, key: &str) -> Cert {
        let exported = self.run(NOW, &["--batch", "--export-secret-keys", key], b"");
        Cert::from_bytes(&exported).unwrap()
    }

    /// Makes a revocation of a whole certificate, on its own.
    #[track_caller]
    pub(crate) fn revocation(&self, at: &str, key: &str, reason: &str) -> Vec<u8> {
        let answers = format!("y\n{reason}\n\ny\n");
        let args = ["--command-fd", "0", "--gen-revoke", key];
        self.run(at, &args, answers.as_bytes())
    }

    /// Revokes the last subkey of a certificate.
    #[track_caller]
    pub(crate) fn revoke_subkey(&self, at: &str, key: &str, subkey: &str, reason: &str) {
        let answers = format!("key {subkey}\nrevkey\ny\n{reason}\n\ny\nsave\n");
        let args = ["--command-fd", "0", "--edit-key", key];
        self.run(at, &args, answers.as_bytes());
    }

    /// The revocation that gpg made together with a key.
    #[track_caller]
    pub(crate) fn kept_revocation(&self, key: &str) -> String {
        let file = format!("openpgp-revocs.d/{key}.rev");
        std::fs::read_to_string(self.home.path().join(file)).unwrap()
    }

    #[track_caller]
    pub(crate) fn import(&self, at: &str, bytes: &[u8]) {
        self.run(at, &["--batch", "--import"], bytes);
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(self.home.path())
            .args(["--kill", "all"])
            .output();
    }
}

#[track_caller]
fn created(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let line = stderr.lines().find(|line| line.contains("KEY_CREATED"));
    line.unwrap().split(' ').nth(3).unwrap().to_owned()
}

/// Times at which the stories here happen.
pub(crate) const Y2020: &str = "20200101T000000";
pub(crate) const Y2021: &str = "20210101T000000";
pub(crate) const Y2022: &str = "20220101T000000";
pub(crate) const Y2023: &str = "20230101T000000";
pub(crate) const Y2099: &str = "20990101T000000";
/// When gpg only exports: after everything that happens here.
pub(crate) const NOW: &str = "20260101T000000";

/// The first second of a year.
pub(crate) fn year(year: u64) -> SystemTime {
    let days = (year - 1970) * 365 + (year - 1969) / 4;
    UNIX_EPOCH + Duration::from_secs(days * 86400)
}

/// A signature of [`MESSAGE`] by one of the keys of a certificate, as no gpg
/// would make it. Its creation time is in the builder.
#[track_caller]
pub(crate) fn craft(secret: &Cert, key: &str, builder: SignatureBuilder) -> Vec<u8> {
    let key = secret
        .keys()
        .find(|found| found.key().fingerprint().to_string() == key);
    let key = key.unwrap().key().clone().parts_into_secret().unwrap();
    let signature = builder
        .sign_message(&mut key.into_keypair().unwrap(), MESSAGE)
        .unwrap();
    let mut bytes = Vec::new();
    Packet::from(signature).serialize(&mut bytes).unwrap();
    bytes
}

/// The beginnings of a binary signature of a certain time.
pub(crate) fn of(at: SystemTime) -> SignatureBuilder {
    SignatureBuilder::new(SignatureType::Binary)
        .set_signature_creation_time(at)
        .unwrap()
}

/// A certificate as a keyring of its own.
#[track_caller]
pub(crate) fn keyring(certificate: &[u8]) -> Keyring {
    Keyring::from_bytes(certificate, Path::new("test.asc")).unwrap()
}

/// What a device that trusts this certificate says about a signature of [`MESSAGE`].
#[track_caller]
pub(crate) fn verify(certificate: &[u8], signature: &[u8]) -> Result<Signer, TrustError> {
    keyring(certificate).verify(MESSAGE, signature)
}

/// A certificate of 2020 with one key, and its signature of 2021.
pub(crate) struct Plain {
    pub(crate) fingerprint: String,
    pub(crate) certificate: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl Plain {
    fn new(algo: &str) -> Self {
        let gpg = Gpg::new();
        let name = format!("Release {algo} <release@example.org>");
        let fingerprint = gpg.key(Y2020, &name, algo, "sign", "never");
        Self {
            certificate: gpg.export(&fingerprint),
            signature: gpg.sign(Y2021, &[&fingerprint], MESSAGE),
            fingerprint,
        }
    }
}

pub(crate) static ED25519: LazyLock<Plain> = LazyLock::new(|| Plain::new("ed25519"));
pub(crate) static RSA3072: LazyLock<Plain> = LazyLock::new(|| Plain::new("rsa3072"));
pub(crate) static NISTP256: LazyLock<Plain> = LazyLock::new(|| Plain::new("nistp256"));

/// Asserts that a result is one kind of error.
macro_rules! refused {
    ($result:expr, $kind:pat) => {
        match $result {
            Err($kind) => {}
            other => panic!("{} expected, got {other:?}", stringify!($kind)),
        }
    };
}
pub(crate) use refused;
