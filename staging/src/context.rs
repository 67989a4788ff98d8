//! What a command was called with, and how it speaks.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use op_dbus_activator::activation::{Activation, ActivationError};
use op_dbus_activator::config::{Config, ConfigError};
use op_dbus_activator::files;
use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::BootId;
use serde_json::{Map, Value};

use crate::auditlog::Author;
use crate::cli::Global;
use crate::error::{Exit, Failure, Result};

/// The program's name, in front of every line on stderr.
pub(crate) const NAME: &str = "op-dbus-stage";

/// Paths, output form, and the warnings so far.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// Where everything is.
    pub(crate) layout: Layout,
    /// Whether results are JSON.
    pub(crate) json: bool,
    config: PathBuf,
    boot_id: PathBuf,
    for_uid: Option<u32>,
    warnings: RefCell<Vec<String>>,
}

impl Context {
    /// From the global options.
    pub(crate) fn new(global: &Global) -> Self {
        let mut layout = Layout::new(&global.run, &global.sysroot);
        if let Some(store) = &global.store {
            layout = layout.with_store(store);
        }
        Self {
            config: global.config.clone().unwrap_or_else(|| layout.config()),
            layout,
            json: global.json,
            boot_id: global.boot_id.clone(),
            for_uid: global.for_uid,
            warnings: RefCell::default(),
        }
    }

    /// The same with the store at another place, and warnings of its own.
    #[must_use]
    pub(crate) fn with_store(&self, store: &Path) -> Self {
        Self {
            layout: self.layout.clone().with_store(store),
            json: self.json,
            config: self.config.clone(),
            boot_id: self.boot_id.clone(),
            for_uid: self.for_uid,
            warnings: RefCell::default(),
        }
    }

    /// The same with another configuration, and warnings of its own.
    #[must_use]
    pub(crate) fn with_config(&self, config: &Path) -> Self {
        Self {
            layout: self.layout.clone(),
            json: self.json,
            config: config.to_owned(),
            boot_id: self.boot_id.clone(),
            for_uid: self.for_uid,
            warnings: RefCell::default(),
        }
    }

    /// Takes the warnings of another one over, for the result.
    pub(crate) fn take_warnings(&self, other: &Self) {
        self.warnings
            .borrow_mut()
            .append(&mut other.warnings.borrow_mut());
    }

    /// The configuration file's path.
    pub(crate) fn config_path(&self) -> &Path {
        &self.config
    }

    /// Reads the configuration.
    pub(crate) fn config(&self) -> Result<Config> {
        Config::load(&self.config).map_err(|why| match why {
            ConfigError::Missing { path } => Failure::new(
                Exit::Configuration,
                path.display(),
                "does not exist",
                "make it with: op-dbus-stage prepare",
            ),
            ConfigError::Unreadable { path, source } => Failure::new(
                Exit::Configuration,
                format_args!("{}: read", path.display()),
                source,
                "it must be a readable text file",
            ),
            ConfigError::Invalid { path, why } => {
                Failure::new(Exit::Configuration, path.display(), why, "correct the file")
            }
        })
    }

    /// The kernel's id of this boot.
    pub(crate) fn boot_id(&self) -> Result<BootId> {
        let text = files::read_text(&self.boot_id, 128)
            .map_err(|why| Failure::io(format_args!("{}: read", self.boot_id.display()), why))?;
        text.parse().map_err(|why| {
            Failure::new(
                Exit::Failure,
                self.boot_id.display(),
                why,
                "is /proc mounted?",
            )
        })
    }

    /// What this boot activated; none if the activator has not run.
    pub(crate) fn activation(&self) -> Result<Option<Activation>> {
        Activation::read(&self.layout).map_err(|why| match why {
            ActivationError::Io {
                path,
                operation,
                source,
            } => Failure::io(format_args!("{}: {operation}", path.display()), source),
            ActivationError::Malformed { path, why } => Failure::new(
                Exit::Failure,
                path.display(),
                why,
                "boot again to have it written anew",
            ),
        })
    }

    /// Who writes to the audit log.
    pub(crate) fn author(&self) -> Author {
        // The login uid outlives sudo and su; the kernel shows -1 where there was no login.
        let login = files::read_text(Path::new("/proc/self/loginuid"), 32).unwrap_or_default();
        let login = match login.trim() {
            "" | "4294967295" => String::new(),
            uid => format!(" login {uid}"),
        };
        // Whoever runs as root may say anything here, as in any line they write.
        let asked = self.for_uid.map(|uid| format!(" for uid {uid}"));
        let asked = asked.unwrap_or_default();
        let uid = rustix::process::getuid().as_raw();
        Author {
            actor: format!(
                "{NAME} {} uid {uid}{login}{asked}",
                env!("CARGO_PKG_VERSION")
            ),
            boot: self.boot_id().ok(),
            up_ms: up_ms(),
        }
    }

    /// Refuses anyone but root, before anything is touched.
    pub(crate) fn require_root() -> Result<()> {
        if rustix::process::geteuid().is_root() {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Permission,
            "permission",
            "only root may change the store",
            "run it as root",
        ))
    }

    /// Refuses a store that is not there or not on Btrfs.
    pub(crate) fn require_store(&self) -> Result<()> {
        let store = &self.layout.store;
        let fail = |why: &dyn std::fmt::Display| {
            Err(Failure::new(
                Exit::Store,
                store.display(),
                why,
                "mount the store there, or make one with: op-dbus-stage prepare",
            ))
        };
        match op_dbus_btrfs::is_subvolume(store) {
            Ok(true) if self.layout.boot_dir().is_dir() => Ok(()),
            Ok(true) => fail(&"no store: it has no boot directory"),
            Ok(false) if store.is_dir() => fail(&"not a Btrfs subvolume"),
            Ok(false) => fail(&"the store is not there"),
            Err(why) if why.source.kind() == io::ErrorKind::PermissionDenied => Err(why.into()),
            Err(why) => fail(&why.source),
        }
    }

    /// Something went wrong that does not stop the command.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        // One run may open the store several times, and finds the same each time.
        if self.warnings.borrow().contains(&text) {
            return;
        }
        if self.json {
            let object = serde_json::json!({ "warning": text });
            stderr(&object.to_string());
        } else {
            stderr(&format!("{NAME}: warning: {text}"));
        }
        self.warnings.borrow_mut().push(text);
    }

    /// The one error line.
    pub(crate) fn fail(&self, failure: &Failure) {
        fail_without_context(self.json, failure);
    }

    /// Prints a command's result.
    pub(crate) fn print(&self, report: &Report) -> Result<()> {
        Self::print_text(&self.render(report))
    }

    /// A command's result in the form that was asked for, lines with their ends.
    pub(crate) fn render(&self, report: &Report) -> String {
        if !self.json {
            return report.text.clone();
        }
        let mut object = report.fields.clone();
        object.insert(
            "warnings".to_owned(),
            Value::from(self.warnings.borrow().clone()),
        );
        format!("{}\n", Value::Object(object))
    }

    /// Prints text as it is.
    pub(crate) fn print_text(text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
        {
            // `op-dbus-stage status | head` is no error.
            Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|why| Failure::io("standard output: write", why)),
        }
    }
}

/// Milliseconds since this boot began, sleep included. None if the kernel's
/// answer makes no sense.
fn up_ms() -> Option<u64> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).ok()?;
    let rest = u64::try_from(now.tv_nsec).ok()? / 1_000_000;
    seconds.checked_mul(1000)?.checked_add(rest)
}

/// The one error line, for when not even the options could be read.
pub(crate) fn fail_without_context(json: bool, failure: &Failure) {
    if json {
        let object = serde_json::json!({ "error": {
            "code": failure.kind.code(),
            "kind": failure.kind,
            "what": failure.what,
            "why": failure.why,
            "remedy": failure.remedy,
            "message": failure.to_string(),
        }});
        stderr(&object.to_string());
    } else {
        stderr(&format!("{NAME}: {failure}"));
    }
}

/// A line on stderr that is neither warning nor error.
pub(crate) fn say(text: &str) {
    stderr(&format!("{NAME}: {text}"));
}

/// Likewise without the program's name: JSON, where standard output is taken.
pub(crate) fn say_plainly(text: &str) {
    stderr(text);
}

fn stderr(line: &str) {
    // Nobody is left to tell if stderr is gone.
    let _ = writeln!(io::stderr(), "{line}");
}

/// A command's result, for people and as JSON.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    text: String,
    fields: Map<String, Value>,
}

impl Report {
    /// An empty one; every JSON result says which command it is of, and how it came out.
    pub(crate) fn new(command: &str, result: &str) -> Self {
        Self::default()
            .field("command", command)
            .field("result", result)
    }

    /// One whose JSON fields are those of a struct.
    pub(crate) fn of(fields: &impl serde::Serialize) -> Self {
        // Only a map with keys that are no strings could fail; there are none.
        let fields = match serde_json::to_value(fields) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        Self {
            text: String::new(),
            fields,
        }
    }

    /// Adds a JSON field.
    #[must_use]
    pub(crate) fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a JSON field of anything that serialises.
    #[must_use]
    pub(crate) fn object(self, name: &str, value: &impl serde::Serialize) -> Self {
        // Only a map with keys that are no strings could fail; there are none.
        let value = serde_json::to_value(value).unwrap_or_default();
        self.field(name, value)
    }

    /// Adds a line for people.
    #[must_use]
    pub(crate) fn line(mut self, line: impl AsRef<str>) -> Self {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
        self
    }
}
