//! The host's links into a version.

use std::path::Path;

use op_dbus_activator::config::{Config, Link, Mounts};

use super::Case;
use crate::commands::check::host::Host;
use crate::commands::check::root::Root;
use crate::error::Exit;
use crate::findings::Findings;

const SUBJECT: &str = "links";

/// What a link's place holds.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Nothing,
    Right,
    /// A link of ours to something else.
    Other,
    Foreign,
}

/// Whether the links would lead somewhere, and nothing stands in their way.
pub(super) fn of_coming(host: &Host, case: &Case, findings: &mut Findings) {
    let tree = Root::new(host.context.layout.deployment(&case.deployment.version));
    let mut are_fine = true;
    for link in &case.config.links {
        if !leads_somewhere(&tree, &link.target) {
            are_fine = false;
            findings.warning(
                SUBJECT,
                format!(
                    "{} would lead nowhere: the version has no {}",
                    link.path.display(),
                    link.target.display()
                ),
                "correct [[link]] in the configuration, or take a release that has it",
            );
        }
        are_fine &= not_foreign(&host.root, &case.config, link, findings) != Place::Foreign;
    }
    summary(are_fine, case.config.links.len(), findings);
}

/// Whether the links are right.
pub(super) fn of_running(host: &Host, case: &Case, findings: &mut Findings) {
    let tree = Root::new(host.context.layout.host(&case.config.mounts.overlay));
    let mut are_fine = true;
    for link in &case.config.links {
        let again = "make them again: systemctl restart op-dbus-links";
        let shown = link.path.display();
        match not_foreign(&host.root, &case.config, link, findings) {
            Place::Right if leads_somewhere(&tree, &link.target) => continue,
            Place::Right => findings.warning(
                SUBJECT,
                format!(
                    "{shown} leads nowhere: the version has no {}",
                    link.target.display()
                ),
                "correct [[link]] in the configuration, or take a release that has it",
            ),
            Place::Nothing => {
                findings.error(
                    Exit::Failure,
                    SUBJECT,
                    format!("{shown} is not there"),
                    again,
                );
            }
            Place::Other => findings.error(
                Exit::Failure,
                SUBJECT,
                format!(
                    "{shown} points to something else than {}",
                    case.config.link_target(link).display()
                ),
                again,
            ),
            Place::Foreign => {}
        }
        are_fine = false;
    }
    summary(are_fine, case.config.links.len(), findings);
}

fn summary(are_fine: bool, count: usize, findings: &mut Findings) {
    match count {
        0 => {}
        count if are_fine => {
            findings.ok(SUBJECT, format!("{} right", super::counted(count, "link")));
        }
        _ => {}
    }
}

/// Not followed to its end: a link within the version may name its place on the
/// running host.
fn leads_somewhere(tree: &Root, target: &Path) -> bool {
    tree.link(target).is_some() || tree.kind(target).is_ok()
}

fn not_foreign(root: &Root, config: &Config, link: &Link, findings: &mut Findings) -> Place {
    let place = look(root, &config.mounts, link, &config.link_target(link));
    if place == Place::Foreign {
        findings.warning(
            SUBJECT,
            format!(
                "{} is not a link of ours, and stays as it is",
                link.path.display()
            ),
            "move it away, then: systemctl restart op-dbus-links",
        );
    }
    place
}

fn look(root: &Root, mounts: &Mounts, link: &Link, target: &Path) -> Place {
    match root.link(&link.path) {
        Some(found) if found == target => Place::Right,
        Some(found) if found.starts_with(&mounts.lower) || found.starts_with(&mounts.overlay) => {
            Place::Other
        }
        Some(_) => Place::Foreign,
        None if root.kind(&link.path).is_ok() => Place::Foreign,
        None => Place::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::put;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_a_link_s_place_holds() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        let text =
            "[store]\ndevice = \"/dev/vda\"\n[[link]]\npath = \"/usr/bin/a\"\ntarget = \"bin/a\"\n";
        let config = Config::parse(text).unwrap();
        let link = &config.links[0];
        let look = || look(&root, &config.mounts, link, &config.link_target(link));
        assert_eq!(look(), Place::Nothing);
        let place = put(dir.path(), "usr/bin/a", "mine");
        assert_eq!(look(), Place::Foreign);
        for (target, expected) in [
            ("/usr/local/op-dbus/bin/a", Place::Right),
            ("/opt/op-dbus/bin/a", Place::Other),
            ("/usr/bin/b", Place::Foreign),
        ] {
            fs::remove_file(&place).unwrap();
            symlink(target, &place).unwrap();
            assert_eq!(look(), expected, "{target}");
        }
    }
}
