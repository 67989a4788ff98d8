//! A build system as a user has it: the installed `op-dbus-stage`, a Btrfs file
//! system with the golden subvolume, and somebody who signs.

use std::path::{Path, PathBuf};

use super::signer::Signer;
use crate::error::Result;
use crate::tool::Tool;

/// The build system.
pub(super) struct BuildSystem {
    program: PathBuf,
    build: PathBuf,
    signer: Signer,
}

impl BuildSystem {
    /// With an empty golden subvolume in `build`, a directory on Btrfs.
    pub(super) fn new(program: PathBuf, build: &Path, signer: Signer) -> Result<Self> {
        let system = Self {
            program,
            build: build.to_owned(),
            signer,
        };
        Tool::new("btrfs")
            .args(["-q", "subvolume", "create"])
            .arg(system.golden())
            .run()?;
        Ok(system)
    }

    /// The tree that is worked on.
    pub(super) fn golden(&self) -> PathBuf {
        self.build.join("golden")
    }

    /// Makes `version` of the golden tree as it is now.
    pub(super) fn snapshot(&self, version: &str) -> Result<()> {
        self.run("snapshot", version, &[])
    }

    /// Writes manifest and streams of `version` to `output`.
    pub(super) fn send(&self, version: &str, output: &Path, options: &[&str]) -> Result<()> {
        let output = output.to_string_lossy();
        let mut all = vec!["--output", &output];
        all.extend(options);
        self.run("send", version, &all)
    }

    /// Signs a manifest.
    pub(super) fn sign(&self, manifest: &Path) -> Result<()> {
        self.sign_as(&self.signer, manifest)
    }

    /// Signs a manifest as somebody else.
    pub(super) fn sign_as(&self, signer: &Signer, manifest: &Path) -> Result<()> {
        signer
            .as_me(Tool::new(&self.program))
            .arg("sign")
            .arg(manifest)
            .run()
            .map(drop)
    }

    /// Writes the certificate of who signs here.
    pub(super) fn export_certificate(&self, path: &Path) -> Result<()> {
        self.signer.export(path)
    }

    fn run(&self, command: &str, version: &str, options: &[&str]) -> Result<()> {
        Tool::new(&self.program)
            .args([command, version, "--build"])
            .arg(&self.build)
            .args(options)
            .run()
            .map(drop)
    }
}
