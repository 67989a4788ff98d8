//! The versions of the store.

use op_dbus_activator::identity::{self, Check};
use op_dbus_bootstate::Version;
use op_dbus_bootstate::receipt::Receipt;
use op_dbus_release::tree::{self, Cache};
use op_dbus_trust::Keyring;

use super::Finding;
use crate::context::Context;
use crate::deployments::{Deployments, read_receipt};
use crate::error::{Exit, Failure, Result};
use crate::progress::Progress;
use crate::signed::Signed;

/// All of them, the newest first.
pub(super) fn all(context: &Context, keyring: &Keyring, deep: bool) -> Result<Vec<Finding>> {
    let deployments = Deployments::read(&context.layout)?;
    let mut findings: Vec<_> = deployments
        .receipts()
        .iter()
        .map(|receipt| check(context, keyring, receipt, deep))
        .collect();
    for problem in &deployments.problems {
        let mut finding = Finding::new("receipt", "version");
        finding.problems.push(problem.clone());
        findings.push(finding);
    }
    Ok(findings)
}

/// One of them.
pub(super) fn one(
    context: &Context,
    keyring: &Keyring,
    version: &Version,
    deep: bool,
) -> Result<Finding> {
    match read_receipt(&context.layout, version)? {
        Some(receipt) => Ok(check(context, keyring, &receipt, deep)),
        None => Err(Failure::new(
            Exit::UnknownVersion,
            version,
            "is not in the store",
            "see: op-dbus-stage status",
        )),
    }
}

fn check(context: &Context, keyring: &Keyring, receipt: &Receipt, deep: bool) -> Finding {
    let deployment = &receipt.deployment;
    let version = &deployment.version;
    let mut finding = Finding::new(version.as_str(), "version");
    finding.digest = deployment.digest.short();
    "identity, manifest, signature".clone_into(&mut finding.checked);
    let path = context.layout.deployment(version);
    let is_there = match identity::check(&path, &deployment.identity) {
        Check::Intact => true,
        Check::Altered(why) => {
            finding.problems.push(why);
            true
        }
        Check::Missing(why) | Check::Unreadable(why) => {
            finding.problems.push(why);
            false
        }
    };
    manifest(context, keyring, receipt, &mut finding);
    if deep && is_there {
        finding.checked.push_str(", content");
        let progress = Progress::new(context);
        let _phase = progress.phase(format!("reading {version} from the disk"), None);
        match tree::digest(&path, Cache::Drop) {
            Ok(found) if found.tree.digest == deployment.digest => {}
            Ok(found) => finding.problems.push(format!(
                "what the disk holds has digest {}",
                found.tree.digest.short()
            )),
            Err(why) => finding.problems.push(format!("can't be read: {why}")),
        }
    }
    finding
}

/// The manifest it was received by, and that it says what the receipt says.
fn manifest(context: &Context, keyring: &Keyring, receipt: &Receipt, finding: &mut Finding) {
    let deployment = &receipt.deployment;
    let path = context.layout.manifest(&deployment.version);
    let signed = match Signed::read(&path, keyring) {
        Ok(signed) => signed,
        Err(why) => return finding.problems.push(format!("{}: {}", why.what, why.why)),
    };
    finding.signer = Some(signed.signer.fingerprint.clone());
    let manifest = &signed.manifest;
    let differs = [
        ("version", manifest.version == deployment.version),
        ("digest", manifest.tree.digest == deployment.digest),
        ("security epoch", manifest.epoch == deployment.epoch),
    ];
    for (what, _) in differs.iter().filter(|(_, agrees)| !agrees) {
        finding.problems.push(format!(
            "{}: names another {what} than the receipt",
            path.display()
        ));
    }
}
