//! A certificate and a signature of `gpg`, where it is installed.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Corpus;

fn gpg(home: &Path, args: &[&str]) -> io::Result<Vec<u8>> {
    let output = Command::new("gpg")
        .arg("--homedir")
        .arg(home)
        .args(["--batch", "--quiet", "--yes", "--passphrase", ""])
        .args(["--pinentry-mode", "loopback"])
        .args(args)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(why))
}

fn write(corpus: &Corpus, home: &Path) -> io::Result<()> {
    let message = home.join("message");
    std::fs::write(&message, "message\n")?;
    let message = message.to_string_lossy().into_owned();
    for algorithm in ["ed25519", "nistp256", "rsa2048"] {
        let user = format!("{algorithm} <{algorithm}@example.org>");
        gpg(
            home,
            &["--quick-generate-key", &user, algorithm, "sign", "never"],
        )?;
        for (form, flag) in [("armored", "--armor"), ("binary", "--no-armor")] {
            let certificate = gpg(home, &[flag, "--export", &user])?;
            let sign = [
                flag,
                "--local-user",
                &user,
                "--output",
                "-",
                "--detach-sign",
                &message,
            ];
            let signature = gpg(home, &sign)?;
            let length = u16::try_from(certificate.len()).unwrap_or(u16::MAX);
            let seed = [&length.to_le_bytes()[..], &certificate, &signature].concat();
            corpus.add("trust", &format!("{algorithm}-{form}"), &seed)?;
        }
    }
    Ok(())
}

/// Without `gpg` the target begins with nothing.
pub(crate) fn signatures(corpus: &Corpus) -> io::Result<()> {
    if corpus.0.join("trust").exists() {
        return Ok(());
    }
    let home = std::env::temp_dir().join(format!("op-dbus-fuzz-{}", std::process::id()));
    std::fs::create_dir(&home)?;
    let written = write(corpus, &home);
    let _ = Command::new("gpgconf")
        .arg("--homedir")
        .arg(&home)
        .args(["--kill", "all"])
        .status();
    std::fs::remove_dir_all(&home)?;
    if let Err(why) = written {
        eprintln!("seeds: none for trust: {why}");
    }
    Ok(())
}
