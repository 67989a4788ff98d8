//! `sign FILE`: a detached signature over a manifest's bytes, or over those of an
//! audit log's head, made by gpg.
//!
//! gpg reads the very bytes that were parsed, and is otherwise left alone with
//! the terminal: agent, pinentry and hardware keys work as they do by hand.

use std::fmt;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use op_dbus_activator::files::{self, Durable};
use op_dbus_bootstate::Version;
use op_dbus_release::manifest::{self, Manifest};
use op_dbus_trust::{Keyring, Signer};

use super::output::Output;
use crate::cli::build::Sign;
use crate::commands::audit::head::Head;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};

/// Where a signature is, beside its manifest.
const SUFFIX: &str = "asc";

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Sign) -> Result<Exit> {
    let path = &args.manifest;
    let (bytes, subject) = read(path)?;
    let target = target(path)?;
    if target.symlink_metadata().is_ok() && !args.replace {
        return Err(taken(&target));
    }
    let signature = gpg(args, bytes.clone())?;
    let issuers = inspected(&signature)?;
    let signer = accepted(context, args, &issuers, &bytes, &signature)?;
    write(&target, &signature, args.replace)?;
    report(context, path, &target, &subject, &issuers, signer.as_ref())
}

/// What is signed.
enum Subject {
    /// A release.
    Release(Version),
    /// Where a device's audit log ended.
    Head(Head),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(version) => version.fmt(f),
            Self::Head(head) => write!(
                f,
                "The head of store {}'s audit log, line {},",
                head.store, head.length
            ),
        }
    }
}

fn report(
    context: &Context,
    path: &Path,
    target: &Path,
    subject: &Subject,
    issuers: &[String],
    signer: Option<&Signer>,
) -> Result<Exit> {
    let key = signer.map_or_else(|| issuers.join(" "), |signer| signer.fingerprint.clone());
    let name = signer.and_then(|signer| signer.user_id.as_deref());
    let mut report = Report::new("sign", "signed")
        .field("manifest", path.to_string_lossy())
        .field("signature", target.to_string_lossy())
        .field("issuers", issuers)
        .field(
            "fingerprint",
            signer.map(|signer| signer.fingerprint.as_str()),
        )
        .line(format!("{subject} is signed: {}", target.display()))
        .line(format!("By {key} {}", name.unwrap_or_default()).trim_end())
        .line(format!(
            "Check it: gpg --verify {} {}",
            target.display(),
            path.display()
        ));
    report = match subject {
        Subject::Release(version) => report.object("version", version).line(format!(
            "The certificate for devices: gpg --export --armor {key} > release.asc"
        )),
        Subject::Head(head) => report.object("head", head).line(format!(
            "Hold a log against it: op-dbus-stage audit verify --head {} --key CERTIFICATE",
            path.display()
        )),
    };
    context.print(&report)?;
    Ok(Exit::Done)
}

/// The bytes to sign. A manifest that no device would read must not be signed.
fn read(path: &Path) -> Result<(Vec<u8>, Subject)> {
    let bytes = files::read_bounded(path, manifest::MAX_LEN).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::Failure,
            path.display(),
            why,
            "name a manifest written by: op-dbus-stage send",
        ),
        _ => Failure::io(format_args!("{}: read", path.display()), why),
    })?;
    if let Ok(head) = Head::parse(&bytes) {
        return Ok((bytes, Subject::Head(head)));
    }
    let manifest = Manifest::parse(&bytes).map_err(|why| {
        Failure::new(
            Exit::Verification,
            path.display(),
            why,
            "sign the file that op-dbus-stage send wrote, as it is",
        )
    })?;
    Ok((bytes, Subject::Release(manifest.version)))
}

fn target(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            path.display(),
            "is not a file",
            "name the manifest",
        )
    })?;
    let mut name = name.to_owned();
    name.push(".");
    name.push(SUFFIX);
    Ok(path.with_file_name(name))
}

/// Lets gpg sign. Its words, and its questions, go to the terminal.
fn gpg(args: &Sign, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut command = Command::new(&args.gpg);
    command.args(["--detach-sign", "--armor"]);
    for key in &args.key {
        command.arg("--local-user").arg(key);
    }
    // A curses pinentry finds the terminal by this.
    if std::env::var_os("GPG_TTY").is_none() && io::stderr().is_terminal() {
        if let Ok(tty) = rustix::termios::ttyname(io::stderr(), Vec::new()) {
            command.env("GPG_TTY", std::ffi::OsStr::new(&*tty.to_string_lossy()));
        }
    }
    let mut child = command
        .args(["--output", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|why| not_run(&args.gpg, why))?;
    let feeder = child
        .stdin
        .take()
        .map(|mut pipe| thread::spawn(move || pipe.write_all(&bytes)));
    let mut signature = Vec::new();
    let read = child.stdout.take().map_or(Ok(0), |pipe| {
        pipe.take(op_dbus_trust::MAX_SIGNATURE as u64 + 1)
            .read_to_end(&mut signature)
    });
    let status = child.wait();
    let fed = feeder.map_or(Ok(Ok(())), thread::JoinHandle::join);
    let status = status.map_err(|why| Failure::io("gpg: wait", why))?;
    let is_fed = matches!(fed, Ok(Ok(())));
    if !status.success() || read.is_err() || !is_fed {
        return Err(Failure::new(
            Exit::Failure,
            args.gpg.display(),
            format_args!("made no signature ({status})"),
            "its own words are above; see: gpg --list-secret-keys",
        ));
    }
    Ok(signature)
}

/// Who made it, by its own words. What no device could use is not kept.
fn inspected(signature: &[u8]) -> Result<Vec<String>> {
    let refuse = |why: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Verification,
            "gpg's signature",
            why,
            "sign with plain gpg: gpg --detach-sign --armor",
        )
    };
    if signature.len() > op_dbus_trust::MAX_SIGNATURE {
        return Err(refuse(&"is longer than any device reads"));
    }
    let found = op_dbus_trust::inspect(signature).map_err(|why| refuse(&why))?;
    if found.is_empty() {
        return Err(refuse(&"holds no signature"));
    }
    if found.iter().any(|signature| !signature.binary) {
        return Err(refuse(&"is over text, not over the exact bytes"));
    }
    if found.iter().any(|signature| signature.expires) {
        return Err(refuse(
            &"expires, which no device takes; see default-sig-expire in gpg.conf",
        ));
    }
    let mut issuers: Vec<_> = found
        .into_iter()
        .flat_map(|signature| signature.issuers)
        .collect();
    issuers.sort_unstable();
    issuers.dedup();
    Ok(issuers)
}

/// Judges the signature as a device that has this certificate would. Without
/// the certificate, as where another program signs, nobody can; that is told.
fn accepted(
    context: &Context,
    args: &Sign,
    issuers: &[String],
    bytes: &[u8],
    signature: &[u8],
) -> Result<Option<Signer>> {
    let exported = Command::new(&args.gpg)
        .args(["--batch", "--export"])
        .args(issuers.iter().map(|issuer| format!("0x{issuer}")))
        .stdin(Stdio::null())
        .output();
    let certificates = match exported {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => output.stdout,
        _ => {
            context.warn("the certificate could not be exported, so the signature was not checked as a device would");
            return Ok(None);
        }
    };
    let refuse = |why: op_dbus_trust::TrustError| {
        Failure::new(
            Exit::Verification,
            "gpg's signature",
            format_args!("no device would accept it: {why}")
                .to_string()
                .replace("; ", ", "),
            "sign with another key: --key ID",
        )
    };
    Keyring::from_bytes(&certificates, Path::new("gpg --export"))
        .and_then(|keyring| keyring.verify(bytes, signature))
        .map(Some)
        .map_err(refuse)
}

fn write(target: &Path, signature: &[u8], replace: bool) -> Result<()> {
    let fail = |why| Failure::io(format_args!("{}: write", target.display()), why);
    if replace {
        return files::replace(target, signature, 0o644, Durable::Yes).map_err(fail);
    }
    let dir = match target.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    Output::existing(dir)?.publish_one(&name, signature)
}

fn not_run(path: &Path, why: io::Error) -> Failure {
    match why.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::Failure,
            path.display(),
            "the gpg program was not found",
            "install gnupg, or name it: --gpg PROGRAM",
        ),
        _ => Failure::io(format_args!("{}: run", path.display()), why),
    }
}

fn taken(path: &Path) -> Failure {
    Failure::new(
        Exit::Refused,
        path.display(),
        "is signed already",
        "replace the signature on purpose: --replace",
    )
}
