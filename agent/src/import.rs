//! Takes up what the active version brings beside units, at boot.

use std::error::Error;
use std::path::Path;

use op_dbus_activator::activation::{Activation, Outcome};
use op_dbus_activator::layout::Layout;
use op_dbus_integration::import;
use op_dbus_integration::report::Report;

/// What a run did.
#[derive(Debug)]
pub struct Imported {
    /// None: no version is active, so nothing of any is there now.
    pub report: Option<Report>,
    /// What was refused, a line each.
    pub refused: Vec<String>,
}

/// Imports from the version mounted at `lower`, if this boot activated one.
pub fn run(layout: &Layout, lower: &Path) -> Result<Imported, Box<dyn Error>> {
    let active = Activation::read(layout)?
        .filter(|activation| activation.outcome == Outcome::Activated)
        .and_then(|activation| activation.version);
    let Some(version) = active else {
        import::clear(layout)?;
        return Ok(Imported {
            report: None,
            refused: Vec::new(),
        });
    };
    let (report, refused) = import::import(layout, lower, version.as_str())?;
    Ok(Imported {
        report: Some(report),
        refused,
    })
}

/// The outcome in one line, or as one JSON object.
pub fn said(report: Option<&Report>, json: bool) -> String {
    match report {
        _ if json => serde_json::json!({ "import": report }).to_string(),
        None => "no version is active: nothing to import".to_owned(),
        Some(report) => format!(
            "imported from {}: {} sysusers and {} tmpfiles lines, {} D-Bus policies, {} activatable services; {} refused",
            report.version,
            report.sysusers,
            report.tmpfiles,
            report.policies,
            report.services,
            report.refused.len() + report.more,
        ),
    }
}
