//! Whether the version that runs is all there: mounts, services, names, verdict.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

use op_dbus_activator::activation::{Activation, Source};
use op_dbus_activator::identity::{self, Check};
use op_dbus_activator::overlay::{self, word};
use op_dbus_bootstate::record::Next;
use op_dbus_bootstate::{Deployment, Record, Slot};
use op_dbus_integration::report::Report;
use op_dbus_integration::units;

use super::Case;
use crate::commands::check::host::Host;
use crate::commands::check::target::systemd::{self, PATIENCE, Unit};
use crate::error::Exit;
use crate::findings::Findings;
use crate::limited;
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
    if host.has_systemd() {
        services(host, case, findings);
        names(&case.config.health.bus_names, findings);
    } else {
        findings.info(
            "services",
            "systemd does not run here: units and names are not looked at",
        );
    }
    verdict(
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

/// The version's units, and those that decide over health.
fn services(host: &Host, case: &Case, findings: &mut Findings) {
    let sysroot = &host.context.layout.sysroot;
    // What is refused was told above.
    let brought = units::read(sysroot, &case.config.mounts.lower, &mut Vec::new());
    let wanted = &case.config.health.units;
    let mut names = wanted.clone();
    for unit in &brought.units {
        let is_template = unit.name.contains("@.");
        if !is_template && !names.contains(&unit.name) {
            names.push(unit.name.clone());
        }
    }
    if names.is_empty() {
        return;
    }
    match systemd::units(&names) {
        Ok(units) => judge(&units, &names, wanted, findings),
        Err(why) => findings.warning(
            "services",
            format!("systemctl {why}"),
            "is systemd alive? journalctl -b",
        ),
    }
}

fn judge(units: &[Unit], names: &[String], wanted: &[String], findings: &mut Findings) {
    let mut active = 0;
    for (name, unit) in names.iter().zip(units) {
        let counts = wanted.contains(name);
        let log = format!("journalctl -b -u {name}");
        match (unit.load.as_str(), unit.active.as_str()) {
            (_, "active") => active += 1,
            ("masked", _) => findings.warning(
                "services",
                format!("{name} is masked"),
                format!("systemctl unmask {name}, then: systemctl start {name}"),
            ),
            ("not-found", _) if counts => findings.error(
                Exit::Configuration,
                "services",
                format!("{name} decides over health, and there is no such unit"),
                "correct [health] units of the configuration, or take a release that brings it",
            ),
            (_, "activating" | "reloading") => {
                findings.warning("services", format!("{name} is still starting"), log);
            }
            (_, "failed") => {
                findings.error(Exit::Failure, "services", format!("{name} has failed"), log);
            }
            (_, state) if counts => findings.error(
                Exit::Failure,
                "services",
                format!("{name} is {state}, and decides over health"),
                format!("systemctl start {name}; why it is not, tells: {log}"),
            ),
            // Units that do something once, and what nothing has asked for yet.
            _ => {}
        }
    }
    if active > 0 {
        findings.ok(
            "services",
            format!("{active} of {} active", super::counted(names.len(), "unit")),
        );
    }
}

/// Names that must be owned on the system bus.
fn names(wanted: &[String], findings: &mut Findings) {
    if wanted.is_empty() {
        return;
    }
    let mut command = Command::new("busctl");
    command.args([
        "--system",
        "--no-pager",
        "--no-legend",
        "--acquired",
        "list",
    ]);
    let said = match limited::said(&mut command, PATIENCE) {
        Ok(said) if said.status.success() => said.text,
        Ok(_) => {
            return findings.error(
                Exit::Failure,
                "names",
                "the system bus does not answer",
                "systemctl status dbus",
            );
        }
        Err(why) => {
            return findings.info("names", format!("not looked at: busctl {why}"));
        }
    };
    owned(&said, wanted, findings);
}

/// Lines begin with a name.
fn owned(list: &str, wanted: &[String], findings: &mut Findings) {
    let owned: Vec<_> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    for name in wanted {
        if owned.contains(&name.as_str()) {
            findings.ok("names", format!("{name} is owned"));
        } else {
            findings.error(
                Exit::Failure,
                "names",
                format!("{name} is owned by nobody on the system bus"),
                "does its service run, and does the policy let it? journalctl -b -u dbus",
            );
        }
    }
}

/// Whether it is blessed, or what that waits for.
fn verdict(
    host: &Host,
    activation: &Activation,
    deployment: &Deployment,
    record: Option<&Record>,
    findings: &mut Findings,
) {
    if activation.source == Source::CommandLine || !activation.counted {
        return findings.info(
            "blessed",
            "this boot is not counted: it is neither blessed nor condemned",
        );
    }
    let Some(record) = record else { return };
    let judged = record
        .last_boot
        .as_ref()
        .filter(|last| Some(last.boot_id) == activation.boot_id)
        .and_then(|last| last.verdict);
    match judged {
        Some(Next::Reboot) => {
            return findings.error(
                Exit::Failure,
                "blessed",
                "it was judged unhealthy in this boot",
                "reboot: another choice is next. Why: op-dbus-stage audit log -n 3",
            );
        }
        Some(Next::StayUp) => {
            return findings.error(
                Exit::Failure,
                "blessed",
                "it was judged unhealthy, and nothing better is left",
                "receive and stage a version that works. Why: op-dbus-stage audit log -n 3",
            );
        }
        None => {}
    }
    let is_good = record
        .good
        .as_ref()
        .is_some_and(|good| good.digest == deployment.digest);
    if is_good && record.good_unblessed == 0 {
        return findings.ok(
            "blessed",
            "it is the good version, and this boot is blessed",
        );
    }
    let waits_for = if host.has_systemd() {
        systemd::units(&WAITS).map_or_else(|why| format!("systemctl {why}"), |units| waits(&units))
    } else {
        "systemd does not run here, so nothing blesses it by itself".to_owned()
    };
    let role = match activation.slot {
        Some(Slot::Trial) => "it is on trial and not blessed yet",
        _ => "this boot is not blessed yet",
    };
    findings.warning(
        "blessed",
        format!("{role}: {waits_for}"),
        "wait, and check again; by hand: op-dbus-stage bless, or op-dbus-stage condemn --reboot",
    );
}

/// What stands between a boot and its bless, in order.
const WAITS: [&str; 4] = [
    "op-dbus.target",
    "op-dbus-health.service",
    "boot-complete.target",
    "op-dbus-bless.service",
];

fn waits(units: &[Unit]) -> String {
    match units.iter().find(|unit| unit.active != "active") {
        Some(unit) => format!(
            "waits for {}, which is {} ({})",
            unit.id, unit.active, unit.sub
        ),
        None => "everything it waits for is done".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::{bad, found};
    use crate::findings::Severity;

    fn unit(id: &str, load: &str, active: &str) -> Unit {
        Unit {
            id: id.to_owned(),
            load: load.to_owned(),
            active: active.to_owned(),
            sub: "x".to_owned(),
        }
    }

    #[test]
    fn units_are_judged_by_whether_they_decide() {
        for (load, active, decides, expected) in [
            ("loaded", "active", true, None),
            ("loaded", "activating", true, Some(Severity::Warning)),
            ("loaded", "failed", false, Some(Severity::Error)),
            ("loaded", "inactive", false, None),
            ("loaded", "inactive", true, Some(Severity::Error)),
            ("not-found", "inactive", true, Some(Severity::Error)),
            ("masked", "inactive", false, Some(Severity::Warning)),
        ] {
            let name = ["a.service".to_owned()];
            let wanted = if decides { &name[..] } else { &[] };
            let told =
                bad(|findings| judge(&[unit("a.service", load, active)], &name, wanted, findings));
            let severity = told.first().map(|(severity, _)| *severity);
            assert_eq!(severity, expected, "{load} {active} {decides}");
        }
    }

    #[test]
    fn names_are_owned_or_not() {
        let list = "org.a 1 app root :1.2 app.service - -\n:1.2 1 app\n";
        let wanted = ["org.a".to_owned(), "org.b".to_owned()];
        let told = found(|findings| owned(list, &wanted, findings));
        let severities: Vec<_> = told.iter().map(|(severity, _)| *severity).collect();
        assert_eq!(severities, [Severity::Ok, Severity::Error]);
    }

    #[test]
    fn what_a_bless_waits_for_is_the_first_thing_missing() {
        let units = [
            unit("a", "loaded", "active"),
            unit("b", "loaded", "activating"),
            unit("c", "loaded", "inactive"),
        ];
        assert_eq!(waits(&units), "waits for b, which is activating (x)");
        assert!(waits(&units[..1]).contains("is done"));
    }

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
