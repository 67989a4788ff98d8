//! Whether the build system has what a release takes.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::commands::build::area::Area;
use crate::commands::build::send::program::Program;
use crate::commands::build::size;
use crate::findings::Findings;

/// Whether it may do what is needed.
pub(crate) fn root(findings: &mut Findings) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        findings.ok("root", "running as root");
    } else {
        findings.problem(
            "root",
            "only root may freeze and send subvolumes, and see all of them",
            "run it as root",
        );
    }
    is_root
}

/// Whether the build directory is on Btrfs.
pub(crate) fn place(area: &Area, findings: &mut Findings) {
    match area.require() {
        Ok(()) => findings.ok("build", format!("{} is on Btrfs", area.root().display())),
        Err(why) => findings.problem("build", format!("{}: {}", why.what, why.why), why.remedy),
    }
}

/// Whether there is a program to send with.
pub(crate) fn btrfs(program: &Path, findings: &mut Findings) {
    match Program::find(program, false) {
        Ok(found) => {
            let version = first_line(program, &["--version"]).unwrap_or_default();
            findings.ok(
                "btrfs",
                format!(
                    "{version}, sends version {} of streams",
                    found.stream_version()
                ),
            );
        }
        Err(why) => findings.problem("btrfs", format!("{}: {}", why.what, why.why), why.remedy),
    }
}

/// Whether there is a program to sign with, and a key. Signing may well be done
/// on another machine.
pub(crate) fn gpg(program: &Path, findings: &mut Findings) {
    let version = match first_line(program, &["--version"]) {
        Ok(version) => version,
        Err(why) => {
            findings.warning(
                "gpg",
                format!("{}: {why}", program.display()),
                "install gnupg, or carry the manifest to where it is signed",
            );
            return;
        }
    };
    let keys = output(program, &["--batch", "--with-colons", "--list-secret-keys"]);
    if keys.unwrap_or_default().lines().any(can_sign) {
        findings.ok("gpg", format!("{version}, with a key to sign with"));
    } else {
        findings.warning(
            "gpg",
            format!("{version}, without a secret key that can sign"),
            "make or import one, plug it in, or sign on another machine",
        );
    }
}

/// Whether a line of gpg's listing is a secret key that is neither revoked nor
/// expired and can sign: fields 1, 2 and 12 of `GnuPG`'s doc/DETAILS. The capital
/// S on a primary key speaks for its subkeys too.
fn can_sign(line: &str) -> bool {
    let fields: Vec<_> = line.split(':').collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or_default();
    field(0) == "sec" && !matches!(field(1), "r" | "e" | "i" | "d") && field(11).contains('S')
}

/// Whether a full stream will fit, which needs at most about what the tree holds.
pub(crate) fn space(area: &Area, bytes: u64, findings: &mut Findings) {
    let releases = area.releases();
    let dir = if releases.is_dir() {
        releases.as_path()
    } else {
        area.root()
    };
    let free = match rustix::fs::statvfs(dir) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(why) => {
            findings.problem(
                "space",
                format!("{}: {why}", dir.display()),
                "make it readable",
            );
            return;
        }
    };
    let found = format!("{} free for releases of {}", size(free), size(bytes));
    let remedy = "free some space, prune old versions (op-dbus-stage prune --source), or send elsewhere: --output DIR";
    // zstd rarely makes programs smaller than a quarter.
    if free < bytes / 4 {
        findings.problem("space", found, remedy);
    } else if free < bytes {
        findings.warning(
            "space",
            format!("{found}: enough only if it compresses well"),
            remedy,
        );
    } else {
        findings.ok("space", found);
    }
}

fn output(program: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|why| match why.kind() {
            io::ErrorKind::NotFound => "is not installed".to_owned(),
            _ => why.to_string(),
        })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(output.status.to_string())
    }
}

fn first_line(program: &Path, args: &[&str]) -> Result<String, String> {
    let output = output(program, args)?;
    Ok(output.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_can_sign() {
        let usable = "sec:u:255:22:AAAAAAAAAAAAAAAA:1700000000:::u:::scSC:::+::ed25519:::0:";
        assert!(can_sign(usable));
        assert!(!can_sign(&usable.replace("sec:u", "sec:r")));
        assert!(!can_sign(&usable.replace("sec:u", "sec:e")));
        assert!(!can_sign(&usable.replace("sec:", "ssb:")));
        assert!(!can_sign(&usable.replace("scSC", "cC")));
        assert!(!can_sign(""));
    }
}
