//! Whether the version that runs is all there: its mounts, and what of it the host took.

use std::os::fd::AsFd as _;
use std::path::Path;

use op_dbus_activator::identity::{self, Check};
use op_dbus_activator::overlay::{self, word};
use op_dbus_integration::report::Report;

use super::{Case, services, verdict};
use crate::commands::check::host::Host;
use crate::error::Exit;
use crate::findings::Findings;
use crate::mountinfo::{self, Mount};

const REBOOT: &str = "reboot; why it came so, tells: journalctl -b -g op-dbus";
/// Refusals of the import that are shown.
const SHOWN_MAX: usize = 8;

/// Looks at all of it.
pub(super) fn check(host: &Host, case: &Case, findings: &mut Findings) {
    let Some(activation) = &case.activation else {
        return;
    };
    lower(host, case, findings);
    upper(host, case, findings);
    for word in &activation.degraded {
        degraded(word, findings);
    }
    imported(host, findings);
    services::check(host, case, findings);
    verdict::check(
        host,
        activation,
        &case.deployment,
        case.record.as_ref(),
        findings,
    );
}

/// The version, read-only.
fn lower(host: &Host, case: &Case, findings: &mut Findings) {
    let point = &case.config.mounts.lower;
    let path = host.context.layout.host(point);
    let shown = point.display();
    match identity::check(&path, &case.deployment.identity) {
        Check::Intact => {}
        Check::Missing(_) => {
            return findings.error(
                Exit::Failure,
                "mount",
                format!("{shown} is not there"),
                REBOOT,
            );
        }
        Check::Altered(why) => {
            return findings.error(
                Exit::Failure,
                "mount",
                format!("{shown} is not {}: {why}", case.deployment.version),
                format!("is something mounted over it (findmnt {shown})? Else {REBOOT}"),
            );
        }
        Check::Unreadable(why) => {
            return findings.error(
                Exit::Failure,
                "mount",
                why,
                "check the medium: journalctl -k",
            );
        }
    }
    let mount = mount_at(host, &path);
    for (flag, word) in [
        ("ro", "read-only"),
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
    ] {
        let has = mount
            .as_ref()
            .is_none_or(|mount| mount.options.split(',').any(|option| option == flag));
        if !has {
            findings.warning(
                "mount",
                format!("{shown} is mounted without {word}"),
                REBOOT,
            );
        }
    }
    findings.ok("mount", format!("{shown} is {}", case.deployment.version));
}

/// The same under the overlay.
fn upper(host: &Host, case: &Case, findings: &mut Findings) {
    let point = &case.config.mounts.overlay;
    let path = host.context.layout.host(point);
    let shown = point.display();
    let version = &case.deployment.version;
    let Some(mount) = mount_at(host, &path) else {
        return findings.error(
            Exit::Failure,
            "overlay",
            format!("nothing is mounted at {shown}"),
            REBOOT,
        );
    };
    if mount.kind != "overlay" {
        // What boots without an overlay have there is told as degraded.
        return findings.info(
            "overlay",
            format!("{shown} has none: the version as published"),
        );
    }
    if !is_over(&mount, version.as_str()) {
        return findings.error(
            Exit::Failure,
            "overlay",
            format!("the overlay at {shown} is not over {version}"),
            format!("is something mounted over it (findmnt {shown})? Else {REBOOT}"),
        );
    }
    let open = |path: &Path| op_dbus_btrfs::open_dir(path).map_err(|why| why.source);
    let probed = open(&path).and_then(|root| {
        let deployment = open(&host.context.layout.deployment(version))?;
        Ok(overlay::probe(root.as_fd(), deployment.as_fd()))
    });
    match probed {
        Ok(None) => findings.ok("overlay", format!("{shown} takes writes")),
        Ok(Some(found)) => findings.error(
            Exit::Failure,
            "overlay",
            format!("{shown} takes no writes: {}", found.why),
            "free space (op-dbus-stage prune) or look at the medium (journalctl -k), then reboot",
        ),
        Err(why) => findings.error(Exit::Failure, "overlay", format!("{shown}: {why}"), REBOOT),
    }
}

/// Whether the lowest layer of an overlay is that version.
fn is_over(mount: &Mount, version: &str) -> bool {
    let layers = mount.super_option("lowerdir").unwrap_or_default();
    let lowest = layers.rsplit(':').next().unwrap_or_default();
    Path::new(lowest).ends_with(Path::new("deploy").join(version))
}

fn mount_at(host: &Host, path: &Path) -> Option<Mount> {
    let list = host.proc.text("self/mountinfo", mountinfo::MAX).ok()?;
    let path = path.canonicalize().ok()?;
    mountinfo::at(&list, &path)
}

/// The activator's words, and the operator's answers.
fn degraded(word: &str, findings: &mut Findings) {
    let (means, remedy) = match word {
        word::STORE_READ_ONLY => (
            "the store takes no writes: no boot is counted, no trial runs",
            "look at the medium: journalctl -k",
        ),
        word::OVERLAY_READ_ONLY | word::OVERLAY_NOT_WRITABLE => (
            "changes below the overlay are not kept",
            "free space (op-dbus-stage prune) or look at the medium (journalctl -k), then reboot",
        ),
        word::OVERLAY_MISSING => (
            "the version runs without its overlay",
            "journalctl -b -g op-dbus says why",
        ),
        word::SHARED_PATH_MISSING => (
            "a shared path is not mounted: the version's own is used",
            "op-dbus-stage prepare, then reboot",
        ),
        word::NOT_COUNTED => (
            "this boot could not be counted",
            "look at the medium: journalctl -k",
        ),
        word::CONFIG_INVALID => (
            "the configuration has a mistake: nothing is judged",
            "correct it (op-dbus-stage check target names the line), bring the initramfs up to date, reboot",
        ),
        _ => ("see the kernel's log", "journalctl -b -g op-dbus"),
    };
    findings.warning("degraded", format!("{word}: {means}"), remedy);
}

/// What of the version the host did not take.
fn imported(host: &Host, findings: &mut Findings) {
    let path = Report::path(&host.context.layout);
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return;
    }
    let report = match Report::read(&host.context.layout) {
        Ok(Some(report)) => report,
        Ok(None) => return,
        Err(why) => {
            return findings.warning(
                "brings",
                format!("{}: {why}", path.display()),
                "systemctl restart op-dbus-import",
            );
        }
    };
    let remedy = "a mistake of the release: have it corrected";
    for refused in report.refused.iter().take(SHOWN_MAX) {
        findings.warning("brings", refused, remedy);
    }
    let more = report.more + report.refused.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        findings.warning("brings", format!("{more} more are refused"), remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::bad;

    #[test]
    fn an_overlay_is_over_its_lowest_layer() {
        let mount = |lower: &str| {
            let line =
                format!("1 2 0:3 / /x rw - overlay op-dbus rw,lowerdir={lower},upperdir=/u\n");
            mountinfo::at(&line, Path::new("/x")).unwrap()
        };
        assert!(is_over(
            &mount("/run/op-dbus/store/deploy/v1.0.0"),
            "v1.0.0"
        ));
        assert!(is_over(
            &mount("/s/overlays/v1.0.0/upper:/s/deploy/v1.0.0"),
            "v1.0.0"
        ));
        assert!(!is_over(&mount("/run/op-dbus/store/deploy/v1.0.0"), "v1.0"));
        assert!(!is_over(&mount("/x"), "v1.0.0"));
    }

    #[test]
    fn every_degraded_word_has_a_remedy() {
        for word in [word::STORE_READ_ONLY, word::NOT_COUNTED, "something-new"] {
            assert_eq!(bad(|findings| degraded(word, findings)).len(), 1);
        }
    }
}
