//! What this host lacks for upgrades that need no hand: of what `check target`
//! looks at, that which preparing can't make right by itself.

use op_dbus_activator::config::Config;

use crate::commands::check::host::Host;
use crate::commands::check::target::{command_line, installed, kernel, keys};
use crate::context::Context;
use crate::findings::{Findings, Severity};
use crate::settings::Settings;

/// Warns about everything found.
pub(crate) fn warn(context: &Context, config: &Config) {
    let host = Host::new(context);
    let mut findings = Findings::default();
    let way = config.activation.way;
    installed::dracut(&host.root, way, &mut findings);
    kernel::check(&host, &mut findings);
    command_line::check(&host, way, &mut findings);
    tell(context, &findings);
}

/// Warns if no release could be received.
pub(crate) fn warn_of_keys(context: &Context, settings: &Settings) {
    let mut findings = Findings::default();
    keys::check(&Host::new(context), settings, &mut findings);
    tell(context, &findings);
}

fn tell(context: &Context, findings: &Findings) {
    for found in findings.list() {
        let Some(remedy) = &found.remedy else {
            continue;
        };
        if found.severity >= Severity::Warning {
            context.warn(format!("{}; {remedy}", found.found));
        }
    }
}
