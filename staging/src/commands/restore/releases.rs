//! The signed releases versions come back from.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use op_dbus_bootstate::Version;
use op_dbus_trust::Keyring;

use super::names;
use super::plan::{self, Choice, Wanted};
use crate::backup::contents::Contents;
use crate::cli::backup::Restore;
use crate::commands::receive::free_name;
use crate::context::Context;
use crate::deployments::Deployments;
use crate::error::{Exit, Failure, Result};
use crate::settings::Settings;
use crate::signed::{self, Signed};

/// A release that can be received.
#[derive(Debug)]
pub(super) struct Release {
    /// Its manifest; signature and streams are beside it.
    pub(super) manifest: PathBuf,
    choice: Choice,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Releases, in the order they are to be received in.
    pub(super) in_order: Vec<Release>,
    /// Versions without one.
    pub(super) missing: Vec<Wanted>,
}

/// Finds a release for each version that is wanted. Where one is missing nothing
/// is restored, unless the operator takes what there is.
pub(super) fn find(
    context: &Context,
    args: &Restore,
    contents: &Contents,
    wanted: &[Wanted],
) -> Result<Found> {
    let settings = Settings::load(context)?;
    let keyring = signed::keyring(context, &settings).map_err(|why| offer_keys(why, contents))?;
    let present = present(context, wanted)?;
    let mut releases = Vec::new();
    let mut missing = Vec::new();
    for one in wanted {
        match find_one(args, contents, one, &keyring, &present)? {
            Ok(release) => releases.push(release),
            Err(why) => missing.push((one, why)),
        }
    }
    let choices: Vec<_> = releases.iter().map(|one| one.choice.clone()).collect();
    let (order, stuck) = plan::order(&choices, &present);
    for index in stuck {
        let version = choices.get(index).map(|choice| &choice.version);
        if let Some(one) = wanted.iter().find(|one| Some(&one.version) == version) {
            let why = format!(
                "what its stream builds on is neither here nor to be had, needs {}",
                needs(contents, &one.version)
            );
            missing.push((one, why));
        }
    }
    let is_enough = args.partial && !order.is_empty();
    if !missing.is_empty() && !is_enough {
        return Err(lacking(args, &missing));
    }
    for (one, why) in &missing {
        context.warn(format!(
            "{} ({}) is not restored: {why}",
            one.version,
            one.roles()
        ));
    }
    let mut releases: Vec<_> = releases.into_iter().map(Some).collect();
    let in_order = order
        .into_iter()
        .filter_map(|index| releases.get_mut(index).and_then(Option::take))
        .collect();
    let missing = missing.into_iter().map(|(one, _)| one.clone()).collect();
    Ok(Found { in_order, missing })
}

/// Without a key nothing can be received; which ones there were, a backup tells,
/// but not whether to trust them.
fn offer_keys(why: Failure, contents: &Contents) -> Failure {
    let held = contents.info.keys.iter();
    let held: Vec<_> = held
        .flat_map(|key| key.fingerprints.iter().map(String::as_str))
        .collect();
    if why.kind != Exit::Configuration || held.is_empty() {
        return why;
    }
    Failure {
        remedy: format!(
            "{}; or, if you know a fingerprint of the backup to be yours: restore --trust-key FINGERPRINT ({})",
            why.remedy,
            held.join(", ")
        ),
        ..why
    }
}

/// Versions that are in the store already and whole: of a run that was cut short,
/// or received by hand.
fn present(context: &Context, wanted: &[Wanted]) -> Result<BTreeSet<Version>> {
    let deployments = Deployments::read(&context.layout)?;
    let mut present = BTreeSet::new();
    for receipt in deployments.receipts() {
        let deployment = &receipt.deployment;
        let version = &deployment.version;
        if deployments.check(&context.layout, deployment).is_err() {
            continue;
        }
        let other = wanted.iter().find(|one| {
            one.version == *version && one.digest.is_some_and(|digest| digest != deployment.digest)
        });
        if other.is_some() {
            return Err(Failure::new(
                Exit::Refused,
                version,
                "another release of this name is in the store already",
                "restore on an empty store",
            ));
        }
        present.insert(version.clone());
    }
    Ok(present)
}

/// Looks for a version's release in all directories.
fn find_one(
    args: &Restore,
    contents: &Contents,
    wanted: &Wanted,
    keyring: &Keyring,
    present: &BTreeSet<Version>,
) -> Result<std::result::Result<Release, String>> {
    let version = &wanted.version;
    free_name(version)?;
    let mut why = format!("needs {}", needs(contents, version));
    for dir in &args.releases {
        let manifest = dir.join(format!("{version}.json"));
        let signed = match Signed::read(&manifest, keyring) {
            Ok(signed) => signed,
            Err(_) if !manifest.exists() => continue,
            Err(failure) => return Err(failure),
        };
        let tree = &signed.manifest.tree;
        if let Some(digest) = wanted.digest.filter(|digest| *digest != tree.digest) {
            why = format!(
                "{} is of another build (digest {}, the backup's is {})",
                manifest.display(),
                tree.digest.short(),
                digest.short()
            );
            continue;
        }
        let beside = |file: &str| is_file(&manifest.with_file_name(file));
        let streams = signed.manifest.streams.iter();
        let there: Vec<_> = streams.filter(|stream| beside(&stream.file)).collect();
        if there.is_empty() && !present.contains(version) {
            why = format!(
                "{} is there and no stream beside it, needs {}",
                manifest.display(),
                needs(contents, version)
            );
            continue;
        }
        let parent = |stream: &&op_dbus_release::manifest::Stream| {
            stream.parent.as_ref().map(|parent| parent.version.clone())
        };
        return Ok(Ok(Release {
            choice: Choice {
                version: version.clone(),
                parents: there.iter().map(parent).collect(),
            },
            manifest,
        }));
    }
    Ok(Err(why))
}

fn is_file(path: &Path) -> bool {
    let found: io::Result<_> = path.metadata();
    found.is_ok_and(|found| found.is_file())
}

/// The files that bring a version, by the backup's word.
fn needs(contents: &Contents, version: &Version) -> String {
    let files = contents.papers.get(version).map(|papers| &papers.files);
    let streams: Vec<String> = files
        .into_iter()
        .flatten()
        .map(|(file, parent)| match parent {
            Some(parent) => format!("{file} (on top of {parent})"),
            None => file.clone(),
        })
        .collect();
    let streams = if streams.is_empty() {
        "its stream".to_owned()
    } else {
        streams.join(" or ")
    };
    format!("{version}.json, {version}.json.asc and {streams}")
}

fn lacking(args: &Restore, missing: &[(&Wanted, String)]) -> Failure {
    let all: Vec<String> = missing
        .iter()
        .map(|(one, why)| format!("{} ({}): {why}", one.version, one.roles()))
        .collect();
    let wanted: Vec<_> = missing.iter().map(|(one, _)| *one).collect();
    let places: Vec<_> = args
        .releases
        .iter()
        .map(|dir| dir.display().to_string())
        .collect();
    let what = if places.is_empty() {
        "restore without --releases".to_owned()
    } else {
        format!("--releases {}", places.join(", "))
    };
    Failure::new(
        Exit::UnknownVersion,
        what,
        format_args!(
            "nothing was restored, because releases are missing: {}",
            all.join(" / ")
        ),
        format_args!(
            "fetch the release of {} into a directory and name it: --releases DIR; or take what there is: --partial",
            names(&wanted)
        ),
    )
}
