//! Release keys: real ones, made and used with gpg.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A home of gpg with keys to sign releases with. Shared by all tests of a run:
/// an agent is started for each home.
pub(crate) struct Keys {
    home: PathBuf,
    /// Removes the home when this process ends, however it does: its input ends.
    _sweeper: Child,
}

/// The keys of this run.
pub(crate) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        // Short, because the path of the agent's socket is bounded.
        let home = tempfile::Builder::new().prefix("opk").tempdir().unwrap();
        let home = home.keep();
        let script = "cat > /dev/null; gpgconf --homedir \"$0\" --kill all; rm -rf \"$0\"";
        let sweeper = Command::new("sh")
            .args(["-c", script])
            .arg(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let keys = Keys {
            home,
            _sweeper: sweeper,
        };
        for user in ["release", "other", "revoked"] {
            keys.generate(user);
        }
        keys
    })
}

impl Keys {
    /// Where gpg finds them.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    fn gpg(&self, args: &[&str]) -> Command {
        let mut command = Command::new("gpg");
        command
            .args([
                "--batch",
                "--quiet",
                "--no-tty",
                "--yes",
                "--passphrase",
                "",
            ])
            .arg("--homedir")
            .arg(&self.home)
            .args(args);
        command
    }

    fn generate(&self, user: &str) {
        let status = self
            .gpg(&["--quick-generate-key", user, "ed25519", "sign", "never"])
            .stderr(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "gpg makes a key");
    }

    /// A key's certificate, armored.
    pub(crate) fn certificate(&self, user: &str) -> Vec<u8> {
        let output = self.gpg(&["--armor", "--export", user]).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty());
        output.stdout
    }

    /// A key's certificate in a file.
    pub(crate) fn export(&self, user: &str, path: &Path) -> String {
        std::fs::write(path, self.certificate(user)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The same once it has been revoked as compromised.
    pub(crate) fn revoked_certificate(&self, user: &str) -> Vec<u8> {
        let listed = self
            .gpg(&["--with-colons", "--list-keys", user])
            .output()
            .unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let fingerprint = listed
            .lines()
            .find_map(|line| line.strip_prefix("fpr:::::::::"))
            .unwrap()
            .trim_end_matches(':');
        let made = self
            .home
            .join(format!("openpgp-revocs.d/{fingerprint}.rev"));
        // It is made with the key, and has a colon against accidents.
        let text = std::fs::read_to_string(made).unwrap();
        let text = text.replace(":-----BEGIN", "-----BEGIN");
        let mut import = self
            .gpg(&["--import"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        import
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        assert!(import.wait().unwrap().success());
        self.certificate(user)
    }

    /// Signs a file, as anyone would.
    pub(crate) fn sign(&self, user: &str, path: &Path) {
        let mut signature = path.as_os_str().to_owned();
        signature.push(".asc");
        let output = self
            .gpg(&["--armor", "--detach-sign", "--local-user", user, "--output"])
            .arg(&signature)
            .arg(path)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg signs: {stderr}");
    }
}
