//! `audit export`: the log, and a statement of where it ends, to be kept elsewhere.
//!
//! What is verified is what was written, not what it was copied from.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use op_dbus_bootstate::audit::AuditHead;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::head::Head;
use super::{anchor, broken};
use crate::auditlog::{self, AuditLog, State};
use crate::backup::output::Pending;
use crate::cli::device::Export;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};

/// The log's lines in an export.
pub(super) const LINES: &str = "log.jsonl";
/// The statement of where it ends.
pub(super) const HEAD: &str = "head.json";

/// Runs the command.
pub(super) fn run(context: &Context, log: &AuditLog, args: &Export) -> Result<Exit> {
    let output = &args.output;
    if output.symlink_metadata().is_ok() {
        return Err(taken(output));
    }
    let (anchor, missed) = {
        let anchor = anchor(context);
        (anchor, anchor.map(|head| head.missed))
    };
    let (head, path) = if args.head_only {
        let mut first = 0;
        let state = log.read(anchor, |line| {
            if first == 0 {
                first = line.n;
            }
        });
        let end = sound(log, state)?;
        let head = Head::new(context, first, end, missed)?;
        let pending = Pending::create(output)?;
        let written = encode(&head).and_then(|text| {
            pending
                .handle()?
                .write_all(&text)
                .map_err(|why| unwritten(output, why))
        });
        written?;
        pending.sync()?;
        pending.publish()?;
        (head, output.clone())
    } else {
        let area = Area::make(output)?;
        let (first, end) = area.copy(log, anchor)?;
        let head = Head::new(context, first, end, missed)?;
        area.write(HEAD, &encode(&head)?)?;
        area.publish()?;
        (head, output.join(HEAD))
    };
    let report = Report::new("audit-export", "exported")
        .field("output", output.to_string_lossy())
        .object("head", &head)
        .line(format!("Exported: {}", output.display()))
        .line(format!(
            "It ends at line {} of the log, SHA-256 {}.",
            head.length, head.sha256
        ))
        .line(format!(
            "Sign it where the key is: op-dbus-stage sign {}",
            path.display()
        ))
        .line(format!(
            "Hold the log against it one day: op-dbus-stage audit verify --head {}",
            path.display()
        ));
    context.print(&report)?;
    Ok(Exit::Done)
}

fn sound(log: &AuditLog, state: io::Result<State>) -> Result<AuditHead> {
    let path = log.path();
    let state = state.map_err(|why| Failure::io(format_args!("{}: read", path.display()), why))?;
    match state {
        State::Sound { head, .. } => Ok(head),
        State::Broken(why) => Err(broken(&path, &why)),
    }
}

fn encode(head: &Head) -> Result<Vec<u8>> {
    head.encode()
        .map_err(|why| Failure::io("head of the audit log: encode", why))
}

/// A directory that is being made, under a hidden name beside its own.
struct Area {
    output: PathBuf,
    hidden: PathBuf,
    is_published: bool,
}

impl Area {
    fn make(output: &Path) -> Result<Self> {
        let name = output.file_name().ok_or_else(|| {
            let remedy = "name a directory that is not there yet";
            Failure::new(
                Exit::Usage,
                output.display(),
                "is no directory's name",
                remedy,
            )
        })?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(".part");
        let hidden = output.with_file_name(hidden);
        match fs::DirBuilder::new().mode(0o700).create(&hidden) {
            Ok(()) => Ok(Self {
                output: output.to_owned(),
                hidden,
                is_published: false,
            }),
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Err(Failure::new(
                Exit::Locked,
                hidden.display(),
                "another run is writing it, or was cut short",
                "wait for it to end, or remove that directory",
            )),
            Err(why) => Err(unwritten(output, why)),
        }
    }

    fn create(&self, name: &str) -> Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(self.hidden.join(name));
        file.map_err(|why| unwritten(&self.output, why))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.create(name)?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|why| unwritten(&self.output, why))
    }

    /// Copies all segments into one file, and verifies that. Returns the number of
    /// its first line, and its head.
    fn copy(&self, log: &AuditLog, anchor: Option<AuditHead>) -> Result<(u64, AuditHead)> {
        let read = |why| Failure::io(format_args!("{}: read", log.path().display()), why);
        let fail = |why| unwritten(&self.output, why);
        let mut file = self.create(LINES)?;
        for (_, piece) in log.open().map_err(read)? {
            // Only what was there when it was opened: it may be written on.
            let length = piece.metadata().map_err(read)?.len();
            io::copy(&mut piece.take(length), &mut file).map_err(fail)?;
        }
        file.rewind().map_err(fail)?;
        let mut first = 0;
        let copied = file.try_clone().map_err(fail)?;
        let state = auditlog::read_file(copied, anchor, |line, _| {
            if first == 0 {
                first = line.n;
            }
        });
        match state.map_err(fail)? {
            State::Broken(why) => Err(broken(&log.path(), &why)),
            State::Sound { head, end } => {
                // A torn line was being written.
                file.set_len(end)
                    .and_then(|()| file.sync_all())
                    .map_err(fail)?;
                Ok((first, head))
            }
        }
    }

    /// Gives it its name, durably. Replaces nothing.
    fn publish(mut self) -> Result<()> {
        let fail = |why| unwritten(&self.output, why);
        auditlog::sync_directory(&self.hidden).map_err(fail)?;
        let (from, to) = (&self.hidden, &self.output);
        let named = match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // A rename over a directory that is not empty fails anywhere.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rustix::fs::rename(from, to),
            done => done,
        };
        match named {
            Ok(()) => {}
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => return Err(taken(to)),
            Err(why) => return Err(fail(why.into())),
        }
        let parent = match to.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        auditlog::sync_directory(parent).map_err(fail)?;
        self.is_published = true;
        Ok(())
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        for name in [LINES, HEAD] {
            let _ = fs::remove_file(self.hidden.join(name));
        }
        let _ = fs::remove_dir(&self.hidden);
    }
}

fn unwritten(path: &Path, why: io::Error) -> Failure {
    Failure::io(format_args!("{}: write", path.display()), why)
}

fn taken(path: &Path) -> Failure {
    Failure::new(
        Exit::Refused,
        path.display(),
        "is there already, and an export replaces nothing",
        "name another place, or remove it",
    )
}
