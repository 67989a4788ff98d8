//! The kernels of a host: new enough, and with the file systems we mount.

use crate::commands::check::host::Host;
use crate::commands::check::root::Root;
use crate::error::Exit;
use crate::findings::Findings;

const SUBJECT: &str = "kernel";
/// What activation needs: `mount_setattr(2)` came with 5.12, everything else it
/// calls earlier (see `op_dbus_activator::mount`).
const OLDEST: (u32, u32) = (5, 12);
/// The file systems a version is mounted with, and their modules' names.
pub(crate) const FILE_SYSTEMS: [&str; 2] = ["btrfs", "overlay"];
/// Longest list of modules that is read, in bytes.
const LIST_MAX: usize = 8 << 20;
/// Kernels that are looked at.
pub(crate) const KERNELS_MAX: usize = 64;

/// The kernels whose modules are installed, the newest first.
pub(crate) fn installed(root: &Root) -> Vec<String> {
    let mut kernels: Vec<String> = ["/lib/modules", "/usr/lib/modules"]
        .iter()
        .find_map(|dir| {
            let names = root.names(dir, KERNELS_MAX).ok()?;
            let is_kernel = |name: &String| root.is_file(format!("{dir}/{name}/modules.dep"));
            Some(names.into_iter().filter(is_kernel).collect())
        })
        .unwrap_or_default();
    kernels.sort_by_key(|release| std::cmp::Reverse(numbers(release)));
    kernels
}

/// The running kernel's release.
pub(crate) fn running(host: &Host) -> Option<String> {
    let text = host.proc.text("sys/kernel/osrelease", 256).ok()?;
    host.is_running.then(|| text.trim().to_owned())
}

/// Looks at all of them.
pub(crate) fn check(host: &Host, findings: &mut Findings) {
    let running = running(host);
    let installed = installed(&host.root);
    // Old kernels that are only kept are no reason to call a device unfit.
    let newest = installed.first();
    if let Some(release) = &running {
        version(release, "running", true, findings);
        let list = host.proc.text("filesystems", 64 * 1024).unwrap_or_default();
        for name in FILE_SYSTEMS {
            // A module that was not needed yet is not in the list.
            if !is_registered(&list, name) && !can_load(&host.root, release, name) {
                lacks(release, name, true, findings);
            }
        }
    }
    for release in installed
        .iter()
        .filter(|release| Some(*release) != running.as_ref())
    {
        let is_likely = Some(release) == newest;
        version(release, "installed", is_likely, findings);
        for name in FILE_SYSTEMS {
            if !can_load(&host.root, release, name) {
                lacks(release, name, is_likely, findings);
            }
        }
    }
    if installed.is_empty() && running.is_none() {
        findings.info(SUBJECT, "no kernel with modules is installed in this image");
    }
}

fn version(release: &str, which: &str, is_likely: bool, findings: &mut Findings) {
    let numbers = numbers(release);
    let (major, minor) = OLDEST;
    if numbers.as_slice() >= [major, minor].as_slice() {
        return findings.ok(SUBJECT, format!("{release} ({which})"));
    }
    bad(
        is_likely,
        format!("{release} ({which}) is older than {major}.{minor}: it can't mount a version"),
        "install a newer kernel".to_owned(),
        findings,
    );
}

fn lacks(release: &str, name: &str, is_likely: bool, findings: &mut Findings) {
    bad(
        is_likely,
        format!("{release} has no {name} file system"),
        format!("install the kernel's {name} module, or a kernel that has it"),
        findings,
    );
}

/// In the way only of a kernel that a boot without a hand is likely to take.
fn bad(is_likely: bool, found: String, remedy: String, findings: &mut Findings) {
    if is_likely {
        findings.error(Exit::Failure, SUBJECT, found, remedy);
    } else {
        findings.warning(SUBJECT, found, remedy);
    }
}

/// The numbers a release begins with.
fn numbers(release: &str) -> Vec<u32> {
    let plain = release.split(|c: char| !c.is_ascii_digit() && c != '.');
    let first = plain.into_iter().next().unwrap_or_default();
    let mut numbers: Vec<u32> = first
        .split('.')
        .map_while(|word| word.parse().ok())
        .collect();
    // Of Debian's releases of one kernel, 6.1.0-9 and 6.1.0-10.
    let rest = release.get(first.len()..).unwrap_or_default();
    let after = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    let digits = after.split(|c: char| !c.is_ascii_digit()).next();
    numbers.resize(3, 0);
    numbers.extend(digits.and_then(|digits| digits.parse::<u32>().ok()));
    numbers
}

fn is_registered(filesystems: &str, name: &str) -> bool {
    filesystems
        .lines()
        .any(|line| line.split_whitespace().next_back() == Some(name))
}

/// Whether a kernel has a file system built in.
pub(crate) fn is_built_in(root: &Root, release: &str, name: &str) -> bool {
    is_listed(root, release, "modules.builtin", name)
}

fn can_load(root: &Root, release: &str, name: &str) -> bool {
    is_built_in(root, release, name) || is_listed(root, release, "modules.dep", name)
}

/// Lines are `kernel/fs/btrfs/btrfs.ko.xz: …`, or only the path.
fn is_listed(root: &Root, release: &str, list: &str, name: &str) -> bool {
    let path = format!("/lib/modules/{release}/{list}");
    let text = root.text(path, LIST_MAX).unwrap_or_default();
    let wanted = format!("/{name}.ko");
    text.lines()
        .filter_map(|line| line.split(':').next())
        .any(|path| path.contains(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::{bad, found, host, put};
    use crate::findings::Severity;

    #[test]
    fn releases_are_compared_as_numbers() {
        let mut releases = ["6.1.0-9-amd64", "6.1.0-10-amd64", "5.10", "6.12.3+x", "x"];
        releases.sort_by_key(|release| std::cmp::Reverse(numbers(release)));
        let sorted = ["6.12.3+x", "6.1.0-10-amd64", "6.1.0-9-amd64", "5.10", "x"];
        assert_eq!(releases, sorted);
    }

    #[test]
    fn a_kernel_is_new_enough_and_has_what_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        let at = dir.path();
        put(at, "proc/sys/kernel/osrelease", "6.1.0-9-amd64\n");
        put(
            at,
            "proc/filesystems",
            "nodev\tsysfs\n\tbtrfs\nnodev\toverlay\n",
        );
        assert_eq!(
            found(|findings| check(&host, findings)),
            [(Severity::Ok, "6.1.0-9-amd64 (running)".to_owned())]
        );
        // Not loaded yet, but there; and a second kernel without.
        put(at, "proc/filesystems", "nodev\tsysfs\n");
        let modules = "root/lib/modules/6.1.0-9-amd64/";
        put(
            at,
            &format!("{modules}modules.builtin"),
            "kernel/fs/btrfs/btrfs.ko\n",
        );
        put(
            at,
            &format!("{modules}modules.dep"),
            "kernel/fs/overlayfs/overlay.ko.xz: x\n",
        );
        assert!(bad(|findings| check(&host, findings)).is_empty());
        put(
            at,
            "root/lib/modules/5.10.0/modules.dep",
            "kernel/fs/btrfs/btrfs.ko: a/overlay.ko\n",
        );
        let told = bad(|findings| check(&host, findings));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].1.contains("5.10.0 (installed) is older than 5.12"));
        assert_eq!(told[1].1, "5.10.0 has no overlay file system");
    }
}
