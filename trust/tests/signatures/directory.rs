//! The key directory: what is read, what is refused, and how it is said.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use op_dbus_trust::{Keyring, MAX_CERTIFICATE, MAX_FILES, TrustError};
use tempfile::TempDir;

use crate::gpg::{ED25519, Gpg, MESSAGE, NISTP256, RSA3072, Y2020, refused};

/// A directory with one good certificate, and what else is put there.
struct Keys(TempDir);

impl Keys {
    fn new() -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        keys.put("release.asc", &ED25519.certificate);
        keys
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }

    fn mode(&self, name: &str, mode: u32) {
        let path = self.path().join(name);
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[track_caller]
    fn load(&self) -> Keyring {
        Keyring::load(self.path()).unwrap()
    }

    /// The one problem there is; the good certificate counts all the same.
    #[track_caller]
    fn problem(&self) -> String {
        let ring = self.load();
        ring.verify(MESSAGE, &ED25519.signature).unwrap();
        let [problem] = ring.problems() else {
            panic!("one problem expected: {:?}", ring.problems());
        };
        let text = problem.to_string();
        assert!(text.contains("; "), "no remedy: {text}");
        text
    }
}

#[test]
fn armored_and_binary_certificates_under_every_name() {
    let keys = Keys::new();
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "binary", "ed25519", "sign", "never");
    let binary = gpg.run(Y2020, &["--batch", "--export", &key], b"");
    keys.put("binary.gpg", &binary);
    keys.put("rsa.pgp", &RSA3072.certificate);
    // Not read at all.
    keys.put("README", b"hello");
    keys.put(".hidden.asc", b"hello");
    keys.put("nist.asc.old", &NISTP256.certificate);
    let ring = keys.load();
    assert_eq!(ring.problems(), []);
    let mut expected = [&ED25519.fingerprint, &RSA3072.fingerprint, &key];
    expected.sort();
    let found: Vec<&String> = ring.certificates().iter().map(|c| &c.fingerprint).collect();
    assert_eq!(found, expected);
    assert!(ring.certificates().iter().all(|c| c.can_sign));
    ring.verify(MESSAGE, &RSA3072.signature).unwrap();
    let result = ring.verify(MESSAGE, &NISTP256.signature);
    refused!(result, TrustError::UnknownKey { .. });
}

#[test]
fn several_certificates_in_one_file() {
    let keys = Keys::new();
    let two = [
        &RSA3072.certificate[..],
        b"\nsome words\n",
        &NISTP256.certificate,
    ]
    .concat();
    keys.put("two.asc", &two);
    assert_eq!(keys.load().certificates().len(), 3);
    assert_eq!(keys.load().problems(), []);
}

#[test]
fn no_certificate_at_all() {
    let dir = tempfile::tempdir().unwrap();
    refused!(Keyring::load(dir.path()), TrustError::NoKeys { .. });
    fs::write(dir.path().join("bad.asc"), b"hello").unwrap();
    let error = Keyring::load(dir.path()).unwrap_err();
    assert!(error.to_string().contains("bad.asc"), "{error}");
    let missing = dir.path().join("missing");
    refused!(Keyring::load(&missing), TrustError::Io { .. });
    let file = dir.path().join("bad.asc");
    refused!(Keyring::load(&file), TrustError::Io { .. });
}

#[test]
fn files_that_are_no_certificate() {
    let half = &RSA3072.certificate[..RSA3072.certificate.len() / 2];
    for (bytes, word) in [
        (&b""[..], "no certificate"),
        (b"hello\n", "no certificate"),
        (b"\xff\xfe\xfd", "not OpenPGP"),
        (half, "cut short"),
        (&ED25519.signature, "no certificate"),
    ] {
        let keys = Keys::new();
        keys.put("a.asc", bytes);
        let problem = keys.problem();
        assert!(problem.contains(word), "{problem}");
        assert!(problem.contains("a.asc"), "{problem}");
    }
}

#[test]
fn a_secret_key_is_not_a_certificate() {
    let keys = Keys::new();
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let secret = gpg.run(Y2020, &["--batch", "--export-secret-keys", &key], b"");
    keys.put("a.gpg", &secret);
    assert!(keys.problem().contains("secret key"));
}

#[test]
fn links_pipes_and_directories() {
    let keys = Keys::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("real.asc");
    fs::write(&target, &RSA3072.certificate).unwrap();
    symlink(&target, keys.path().join("link.asc")).unwrap();
    assert!(keys.problem().contains("symbolic link"));
    fs::remove_file(keys.path().join("link.asc")).unwrap();

    fs::create_dir(keys.path().join("dir.asc")).unwrap();
    assert!(keys.problem().contains("not a regular file"));
    fs::remove_dir(keys.path().join("dir.asc")).unwrap();

    let pipe = keys.path().join("pipe.asc");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    assert!(keys.problem().contains("not a regular file"));
}

#[test]
fn what_anybody_may_write() {
    let keys = Keys::new();
    keys.put("open.asc", &RSA3072.certificate);
    keys.mode("open.asc", 0o646);
    assert!(keys.problem().contains("chmod it o-w"));
    keys.mode("open.asc", 0o644);
    assert_eq!(keys.load().problems(), []);

    // Also with the sticky bit: anybody could still add a certificate.
    for mode in [0o757, 0o1777] {
        keys.mode("", mode);
        let error = Keyring::load(keys.path()).unwrap_err();
        assert!(matches!(error, TrustError::Unsafe { .. }), "{error:?}");
        assert!(error.to_string().contains("chmod it o-w"), "{error}");
    }
}

#[test]
fn what_belongs_to_others() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root gives files away");
        return;
    }
    let keys = Keys::new();
    keys.put("theirs.asc", &RSA3072.certificate);
    let theirs = keys.path().join("theirs.asc");
    chown(&theirs, Some(1234), None).unwrap();
    assert!(keys.problem().contains("chown it to root"));

    // Root's, but writable by a group that is not root's.
    chown(&theirs, Some(0), Some(1234)).unwrap();
    keys.mode("theirs.asc", 0o664);
    assert!(keys.problem().contains("chmod it g-w"));
    keys.mode("theirs.asc", 0o644);
    assert_eq!(keys.load().problems(), []);

    chown(keys.path(), Some(1234), None).unwrap();
    refused!(Keyring::load(keys.path()), TrustError::Unsafe { .. });
}

#[test]
fn too_long_and_too_many() {
    let keys = Keys::new();
    let mut long = vec![b'\n'; MAX_CERTIFICATE];
    long.extend(&RSA3072.certificate);
    keys.put("long.asc", &long);
    assert!(keys.problem().contains("longer than 1024 KiB"));

    for index in 2..MAX_FILES {
        keys.put(&format!("{index}.asc"), &ED25519.certificate);
    }
    assert_eq!(keys.load().certificates().len(), 1);
    keys.put("more.asc", &ED25519.certificate);
    let error = Keyring::load(keys.path()).unwrap_err();
    assert!(error.to_string().contains("more than 64"), "{error}");
}
