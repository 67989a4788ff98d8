//! The configuration: what everything else goes by.

use op_dbus_activator::config::{Config, MAX_LEN};

use op_dbus_health::settings::Settings as Health;

use crate::commands::check::host::Host;
use crate::error::Exit;
use crate::findings::Findings;
use crate::settings::Settings;
use crate::settings::audit::Audit;
use crate::settings::metrics::Metrics;

const SUBJECT: &str = "configuration";

/// What the file says; of a file with mistakes, what a boot would take from it.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// What every program reads.
    pub(crate) config: Config,
    /// What only this one does.
    pub(crate) settings: Settings,
    /// The file's text.
    pub(crate) text: String,
}

/// `[audit]`. Until it is corrected, the log goes by the defaults.
fn audit(host: &Host, text: &str, findings: &mut Findings) {
    if let (Err(why), true) = (Audit::parse(text), Settings::parse(text).is_ok()) {
        let why = format!("{}: {why}", host.context.config_path().display());
        findings.error(Exit::Configuration, SUBJECT, why, "correct the file");
    }
}

/// `[metrics]`, and whether its file can be there.
fn metrics(host: &Host, text: &str, findings: &mut Findings) {
    let textfile = match Metrics::parse(text) {
        Ok(metrics) => metrics.textfile,
        // What no section can be read of has been told.
        Err(_) if Settings::parse(text).is_err() => return,
        Err(why) => {
            let why = format!("{}: {why}", host.context.config_path().display());
            return findings.error(Exit::Configuration, SUBJECT, why, "correct the file");
        }
    };
    let dir = textfile.as_deref().and_then(std::path::Path::parent);
    if let Some(dir) = dir.filter(|dir| !host.context.layout.host(dir).is_dir()) {
        findings.warning(
            SUBJECT,
            format!("{}, where [metrics] writes, is no directory", dir.display()),
            "make it, or install prometheus-node-exporter",
        );
    }
}

/// Reads it. None: nothing can be told of anything else.
pub(crate) fn check(host: &Host, findings: &mut Findings) -> Option<Said> {
    let path = host.context.config_path();
    let shown = path.display();
    // Not by Config::load, which would wait for a FIFO's writer.
    let is_file = path.metadata().map(|found| found.is_file());
    if let Ok(false) = is_file {
        findings.error(
            Exit::Configuration,
            SUBJECT,
            format!("{shown} is not a regular file"),
            "move it away, then: op-dbus-stage prepare",
        );
        return None;
    }
    let text = op_dbus_activator::files::read_text(path, MAX_LEN).unwrap_or_default();
    let config = match host.context.config() {
        Ok(config) => config,
        Err(why) => {
            findings.error(
                Exit::Configuration,
                SUBJECT,
                format!("{}: {}", why.what, why.why),
                why.remedy,
            );
            Config::load_for_boot(path).ok()?.0
        }
    };
    // What the activator leaves to op-dbus-agent. A mistake that it found itself
    // has been told.
    let health = Health::parse(&text);
    if let (Err(why), true) = (&health, Config::parse(&text).is_ok()) {
        findings.error(
            Exit::Configuration,
            SUBJECT,
            format!("{shown}: {why}; until it is corrected, no version is judged"),
            "correct the file, then: op-dbus-agent health --check-config",
        );
    }
    let settings = match Settings::parse(&text) {
        Ok(settings) => settings,
        Err(why) => {
            findings.error(
                Exit::Configuration,
                SUBJECT,
                format!("{shown}: {why}"),
                "correct the file",
            );
            Settings::default()
        }
    };
    metrics(host, &text, findings);
    audit(host, &text, findings);
    if findings.problems().next().is_none() {
        findings.ok(SUBJECT, format!("{shown} is valid"));
        if health.is_ok_and(|health| health.checks.is_empty()) {
            findings.warning(
                SUBJECT,
                "[health] names neither units nor bus names nor checks: every version that starts is judged healthy",
                format!("name what must run in [health] of {shown}"),
            );
        }
    }
    Some(Said {
        config,
        settings,
        text,
    })
}
