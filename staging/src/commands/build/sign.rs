//! `sign MANIFEST`: a detached signature over a manifest's bytes, made by gpg.
//!
//! gpg reads the very bytes that were parsed, and is otherwise left alone with
//! the terminal: agent, pinentry and hardware keys work as they do by hand.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use op_dbus_activator::files::{self, Durable};
use op_dbus_release::manifest::{self, Manifest};

use super::output::Output;
use crate::cli::build::Sign;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};

/// Where a signature is, beside its manifest.
const SUFFIX: &str = "asc";

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Sign) -> Result<Exit> {
    let path = &args.manifest;
    let (bytes, manifest) = read(path)?;
    let target = target(path)?;
    if target.symlink_metadata().is_ok() && !args.replace {
        return Err(taken(&target));
    }
    let signature = gpg(args, bytes)?;
    write(&target, &signature, args.replace)?;
    let report = Report::new("sign", "signed")
        .field("manifest", path.to_string_lossy())
        .field("signature", target.to_string_lossy())
        .object("version", &manifest.version)
        .line(format!("{} is signed: {}", manifest.version, target.display()));
    context.print(&report)?;
    Ok(Exit::Done)
}

/// The manifest's bytes. One that no device would read must not be signed.
fn read(path: &Path) -> Result<(Vec<u8>, Manifest)> {
    let bytes = files::read_bounded(path, manifest::MAX_LEN).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::Failure,
            path.display(),
            why,
            "name a manifest written by: op-dbus-stage send",
        ),
        _ => Failure::io(format_args!("{}: read", path.display()), why),
    })?;
    let manifest = Manifest::parse(&bytes).map_err(|why| {
        Failure::new(
            Exit::Verification,
            path.display(),
            why,
            "sign the file that op-dbus-stage send wrote, as it is",
        )
    })?;
    Ok((bytes, manifest))
}

fn target(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        Failure::new(Exit::Usage, path.display(), "is not a file", "name the manifest")
    })?;
    let mut name = name.to_owned();
    name.push(".");
    name.push(SUFFIX);
    Ok(path.with_file_name(name))
}

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
