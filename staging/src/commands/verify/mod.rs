//! `verify [VERSION|FILE]`: whether what is here is what was signed.
//!
//! Of the store's versions: identity, receipt, the manifest that was kept, its
//! signature by the keys of today, and that all agree; with `--deep` the tree's
//! digest, read from the disk. Of a release's file: the signature, and every
//! stream that is there, chunk by chunk and command by command. Reads only, and
//! takes no lock.

mod file;
mod stored;

use std::path::Path;

use op_dbus_bootstate::Version;
use serde::Serialize;

use crate::cli::device as cli;
use crate::context::{Context, Report};
use crate::deployments;
use crate::error::{Exit, Failure, Result};
use crate::settings::Settings;
use crate::signed;

/// What was found of one thing.
#[derive(Debug, Serialize)]
struct Finding {
    /// A version, or a file.
    name: String,
    /// What kind of thing it is.
    kind: &'static str,
    /// Its content digest, in short.
    digest: String,
    /// Who signed it.
    signer: Option<String>,
    /// What was looked at, in words.
    checked: String,
    /// What is wrong with it; nothing if it is sound.
    problems: Vec<String>,
}

impl Finding {
    fn new(name: impl Into<String>, kind: &'static str) -> Self {
        Self {
            name: name.into(),
            kind,
            digest: String::new(),
            signer: None,
            checked: String::new(),
            problems: Vec::new(),
        }
    }

    /// Its line in the table, whose first column is so wide.
    fn line(&self, width: usize) -> String {
        let state = if self.problems.is_empty() {
            "sound"
        } else {
            "NOT SOUND"
        };
        let signer = self
            .signer
            .as_ref()
            .map_or_else(String::new, |signer| format!(", signed by {signer}"));
        let (name, digest, checked) = (&self.name, &self.digest, &self.checked);
        format!("{name:<width$}  {digest:<12}  {state:<9}  {checked}{signer}")
            .trim_end()
            .to_owned()
    }
}

/// What is wrong with a version of the store, by receipt, manifest and signature,
/// and with `deep` by its content; and what was looked at, in words.
pub(crate) fn version(
    context: &Context,
    version: &Version,
    deep: bool,
) -> Result<(Vec<String>, String)> {
    let settings = Settings::load(context)?;
    let keyring = signed::keyring(context, &settings)?;
    let finding = stored::one(context, &keyring, version, deep)?;
    let signer = finding
        .signer
        .map_or_else(String::new, |signer| format!(", signed by {signer}"));
    Ok((finding.problems, format!("{}{signer}", finding.checked)))
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &cli::Verify) -> Result<Exit> {
    let settings = Settings::load(context)?;
    let keyring = signed::keyring(context, &settings)?;
    let findings = match &args.what {
        None => {
            Context::require_root()?;
            context.require_store()?;
            stored::all(context, &keyring, args.deep)?
        }
        Some(what) => match named(context, what) {
            Named::Version(version) => {
                Context::require_root()?;
                context.require_store()?;
                vec![stored::one(context, &keyring, &version, args.deep)?]
            }
            Named::File(path) => file::check(context, &keyring, path)?,
        },
    };
    let unsound = findings
        .iter()
        .filter(|finding| !finding.problems.is_empty())
        .count();
    let result = if unsound == 0 { "sound" } else { "not-sound" };
    let mut report = Report::new("verify", result)
        .field("deep", args.deep)
        .object("findings", &findings);
    let names = findings.iter().map(|finding| finding.name.chars().count());
    let width = names.max().unwrap_or_default();
    for finding in &findings {
        report = report.line(finding.line(width));
        for problem in &finding.problems {
            report = report.line(format!("  - {problem}"));
        }
    }
    if findings.is_empty() {
        report = report.line("No version is in the store.");
    }
    context.print(&report)?;
    let Some(first) = findings
        .iter()
        .find_map(|finding| Some((&finding.name, finding.problems.first()?)))
    else {
        return Ok(Exit::Done);
    };
    let (name, problem) = first;
    Err(Failure::new(
        Exit::Verification,
        name,
        format_args!("{problem} ({unsound} of {} not sound)", findings.len()),
        "receive or fetch it again",
    ))
}

enum Named<'a> {
    Version(Version),
    File(&'a Path),
}

/// A path with a slash is a file; so is any other name that is no version's in
/// the store, if there is such a file.
fn named<'a>(context: &Context, what: &'a Path) -> Named<'a> {
    let text = what.to_str().filter(|text| !text.contains('/'));
    let Some(version) = text.and_then(|text| text.parse::<Version>().ok()) else {
        return Named::File(what);
    };
    let is_known = deployments::read_receipt(&context.layout, &version)
        .map_or(true, |receipt| receipt.is_some());
    if !is_known && what.exists() {
        return Named::File(what);
    }
    Named::Version(version)
}
