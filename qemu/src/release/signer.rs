//! A signing key that lives as long as the run that needs it.

use std::path::Path;

use tempfile::TempDir;

use crate::error::{Context, Result};
use crate::tool::Tool;

/// Somebody who signs releases.
#[derive(Debug)]
pub(super) struct Signer {
    home: TempDir,
}

impl Signer {
    /// Makes a key for `name`, without a passphrase, in a home directory of its
    /// own, with which it goes.
    pub(super) fn new(name: &str) -> Result<Self> {
        // Below /tmp by intent: the agent's socket is in it, and the path of a
        // socket is short (unix(7)).
        let home = tempfile::Builder::new()
            .prefix("op-dbus-key.")
            .tempdir_in("/tmp")
            .context(|| "make a temporary directory".into())?;
        let signer = Self { home };
        signer
            .gpg()
            .args(["--pinentry-mode", "loopback", "--passphrase", ""])
            .arg("--quick-generate-key")
            .args([&format!("{name} <{name}@op-dbus.invalid>"), "ed25519"])
            .args(["sign", "never"])
            .run()?;
        Ok(signer)
    }

    /// Writes the certificate to `path`.
    pub(super) fn export(&self, path: &Path) -> Result<()> {
        self.gpg()
            .args(["--armor", "--output"])
            .arg(path)
            .arg("--export")
            .run()
            .map(drop)
    }

    /// `tool`, a program that calls gpg, as this signer.
    pub(super) fn as_me(&self, tool: Tool) -> Tool {
        tool.env("GNUPGHOME", self.home.path())
    }

    fn gpg(&self) -> Tool {
        self.as_me(Tool::new("gpg")).args(["--batch", "--quiet"])
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        // Else it ends by itself when it finds its home gone.
        let _ = self
            .as_me(Tool::new("gpgconf"))
            .args(["--kill", "all"])
            .run();
    }
}
