//! Whether an early failure ends in another boot: `panic=` and
//! `rd.emergency=reboot` on the kernel command line, of this boot and, where the
//! boot loader's configuration is one we know, of the next.

use op_dbus_activator::config::Way;
use op_dbus_bootstate::cmdline::CommandLine;

use crate::commands::check::host::Host;
use crate::commands::check::root::Root;
use crate::error::Exit;
use crate::findings::Findings;

const SUBJECT: &str = "command line";
/// Longest command line and longest configuration that are read, in bytes.
const LINE_MAX: usize = 64 * 1024;
const FILE_MAX: usize = 1 << 20;
/// Boot entries that are looked at.
const ENTRIES_MAX: usize = 64;

/// What is missing, and what that means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Missing {
    word: &'static str,
    means: &'static str,
}

const PANIC: Missing = Missing {
    word: "panic=10",
    means: "a kernel panic would leave the device hanging, and the boot uncounted as bad",
};
const EMERGENCY: Missing = Missing {
    word: "rd.emergency=reboot",
    means: "a failing initramfs would wait for a hand",
};

/// Looks at this boot and at the next one.
pub(crate) fn check(host: &Host, way: Way, findings: &mut Findings) {
    let next = next(&host.root);
    if host.is_running {
        match host.proc.text("cmdline", LINE_MAX) {
            Ok(line) => this_boot(&line, way, next.first(), findings),
            Err(why) => findings.warning(SUBJECT, format!("/proc/cmdline: {why}"), "mount /proc"),
        }
    }
    next_boot(&next, way, &host.root, findings);
}

fn this_boot(line: &str, way: Way, next: Option<&Next>, findings: &mut Findings) {
    let missing = missing(line, way);
    let will_be_right = next.is_some_and(|next| {
        next.lines
            .iter()
            .all(|line| self::missing(line, way).is_empty())
    });
    if missing.is_empty() {
        findings.ok(SUBJECT, "this boot ends by itself when it fails early");
    } else if will_be_right {
        findings.warning(
            SUBJECT,
            format!("this boot has no {}", words(&missing)),
            "reboot: the next boot has it",
        );
    } else {
        findings.warning(
            SUBJECT,
            format!("this boot has no {}: {}", words(&missing), means(&missing)),
            "add it to the boot loader's configuration, then reboot",
        );
    }
    let says = CommandLine::parse(line);
    if says.off || says.select.is_some() {
        let word = if says.off {
            "op-dbus=off"
        } else {
            "op-dbus.select="
        };
        findings.warning(
            SUBJECT,
            format!("this boot was started with {word}: it is neither counted nor blessed"),
            "reboot without it",
        );
    }
    for word in says.unknown {
        findings.warning(
            SUBJECT,
            format!("{word} means nothing"),
            "see docs/RECOVERY.md for the words there are",
        );
    }
}

fn next_boot(next: &[Next], way: Way, root: &Root, findings: &mut Findings) {
    if next.is_empty() {
        findings.info(
            SUBJECT,
            "the next boot's can't be told: no boot loader configuration that is known here",
        );
    }
    for Next { path, lines } in next {
        let missing: Vec<Missing> = [PANIC, EMERGENCY]
            .into_iter()
            .filter(|one| {
                lines
                    .iter()
                    .any(|line| self::missing(line, way).contains(one))
            })
            .collect();
        if missing.is_empty() {
            findings.ok(
                SUBJECT,
                format!("{path}: the next boot ends by itself when it fails early"),
            );
        } else {
            findings.warning(
                SUBJECT,
                format!("{path}: the next boot has no {}", words(&missing)),
                remedy(path, &missing, way, root),
            );
        }
        if lines.iter().any(|line| CommandLine::parse(line).off) {
            findings.error(
                Exit::Configuration,
                SUBJECT,
                format!("{path}: op-dbus=off: no boot activates a version"),
                "take it out",
            );
        } else if lines
            .iter()
            .any(|line| CommandLine::parse(line).select.is_some())
        {
            findings.error(
                Exit::Configuration,
                SUBJECT,
                format!("{path}: op-dbus.select= in every boot: no trial runs, nothing is blessed"),
                "take it out; it is for one boot, at the boot loader's prompt",
            );
        }
    }
}

fn words(missing: &[Missing]) -> String {
    let words: Vec<_> = missing.iter().map(|one| one.word).collect();
    words.join(" and no ")
}

fn means(missing: &[Missing]) -> String {
    let means: Vec<_> = missing.iter().map(|one| one.means).collect();
    means.join("; ")
}

/// What a command line lacks. `panic=0`, and no number at all, is waiting for ever.
fn missing(line: &str, way: Way) -> Vec<Missing> {
    // The kernel and systemd take the last of several.
    let value = |key: &str| {
        let words = line.split_ascii_whitespace();
        words.filter_map(|word| word.strip_prefix(key)).next_back()
    };
    let mut missing = Vec::new();
    // Less than zero: at once.
    let panics_on = value("panic=").and_then(|seconds| seconds.parse::<i64>().ok());
    if panics_on.is_none_or(|seconds| seconds == 0) {
        missing.push(PANIC);
    }
    if way == Way::Initrd && value("rd.emergency=") != Some("reboot") {
        missing.push(EMERGENCY);
    }
    missing
}

/// What a boot loader will hand over.
#[derive(Debug, PartialEq, Eq)]
struct Next {
    path: String,
    lines: Vec<String>,
}

/// Configurations of boot loaders, and how a command line stands in one of their lines.
const BOOT_LOADERS: [(&str, &str); 8] = [
    ("/boot/grub/grub.cfg", "linux"),
    ("/boot/grub2/grub.cfg", "linux"),
    ("/boot/extlinux/extlinux.conf", "append"),
    ("/boot/syslinux/syslinux.cfg", "append"),
    ("/boot/firmware/cmdline.txt", ""),
    ("/boot/cmdline.txt", ""),
    ("/boot/loader/entries", "options"),
    ("/boot/efi/loader/entries", "options"),
];

/// Everything that tells something of the next boot.
fn next(root: &Root) -> Vec<Next> {
    let mut found = Vec::new();
    for (path, key) in BOOT_LOADERS {
        let mut lines = Vec::new();
        if root.is_dir(path) {
            for part in root.parts(path, ".conf", ENTRIES_MAX) {
                let text = root.text(part, FILE_MAX).unwrap_or_default();
                lines.extend(command_lines(&text, key));
            }
        } else if let Ok(text) = root.text(path, FILE_MAX) {
            lines = command_lines(&text, key);
        }
        if !lines.is_empty() {
            found.push(Next {
                path: path.to_owned(),
                lines,
            });
        }
    }
    found
}

/// The command lines of a configuration: what stands behind the key. Entries of
/// a rescue mode and of memory tests are nobody's next boot; of one with
/// variables nothing is known.
fn command_lines(text: &str, key: &str) -> Vec<String> {
    let is_plain = |line: &&str| {
        let mut words = line.split_ascii_whitespace();
        !line.contains("$kernelopts")
            && !line.contains("memtest")
            && !words.any(|word| matches!(word, "single" | "recovery" | "1" | "rescue"))
    };
    let behind = |line: &str| {
        let line = line.trim();
        if key.is_empty() {
            return (!line.is_empty() && !line.starts_with('#')).then(|| line.to_owned());
        }
        let (word, rest) = line.split_once(|c: char| c.is_ascii_whitespace())?;
        // GRUB has linux, linux16 and linuxefi.
        let is_key = word.eq_ignore_ascii_case(key)
            || (key == "linux" && matches!(word, "linux16" | "linuxefi"));
        is_key.then(|| rest.to_owned())
    };
    let lines: Vec<String> = text.lines().filter_map(behind).take(ENTRIES_MAX).collect();
    lines
        .into_iter()
        .filter(|line| is_plain(&line.as_str()))
        .collect()
}

fn remedy(path: &str, missing: &[Missing], way: Way, root: &Root) -> String {
    let words: Vec<_> = missing.iter().map(|one| one.word).collect();
    let words = words.join(" ");
    if path.contains("grub") {
        let is_there = grub_default(root).is_some_and(|line| self::missing(&line, way).is_empty());
        let command = if path.contains("grub2") {
            "grub2-mkconfig -o /boot/grub2/grub.cfg"
        } else {
            "update-grub"
        };
        return if is_there {
            format!("/etc/default/grub has it already: {command}")
        } else {
            format!("add {words} to GRUB_CMDLINE_LINUX in /etc/default/grub, then: {command}")
        };
    }
    if path.contains("loader/entries") {
        return format!(
            "add {words} to the entries' options, and to /etc/kernel/cmdline for the next kernels"
        );
    }
    format!("add {words} there")
}

/// What `/etc/default/grub` and its parts will put on the command line.
fn grub_default(root: &Root) -> Option<String> {
    let mut text = root.text("/etc/default/grub", FILE_MAX).ok()?;
    for part in root.parts("/etc/default/grub.d", ".cfg", ENTRIES_MAX) {
        text.push('\n');
        text += &root.text(part, FILE_MAX).unwrap_or_default();
    }
    let mut line = String::new();
    for assignment in text.lines() {
        let value = ["GRUB_CMDLINE_LINUX=", "GRUB_CMDLINE_LINUX_DEFAULT="]
            .iter()
            .find_map(|key| assignment.trim().strip_prefix(key));
        if let Some(value) = value {
            line.push(' ');
            line += value.trim_matches(['"', '\'']);
        }
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::{bad, found, host, put};

    #[test]
    fn what_an_early_failure_needs_is_asked_for() {
        for (line, way, count) in [
            ("ro quiet", Way::Initrd, 2),
            ("ro quiet", Way::Generator, 1),
            ("panic=10 rd.emergency=reboot", Way::Initrd, 0),
            ("panic=0 rd.emergency=reboot", Way::Initrd, 1),
            ("panic=10 panic=0 rd.emergency=reboot", Way::Initrd, 1),
            ("panic=-1 rd.emergency=halt", Way::Initrd, 1),
            ("panic= ", Way::Generator, 1),
            ("xpanic=10", Way::Generator, 1),
        ] {
            assert_eq!(missing(line, way).len(), count, "{line}");
        }
    }

    #[test]
    fn command_lines_are_found_in_what_boot_loaders_read() {
        let grub = "set default=0\nmenuentry 'Debian' {\n\tlinux\t/vmlinuz-6.1 root=UUID=1 ro panic=10\n\
            \tinitrd /i\n}\nmenuentry 'recovery' {\n\tlinux /vmlinuz-6.1 root=UUID=1 ro single\n}\n\
            linux16 /memtest\nlinux /x $kernelopts\n";
        assert_eq!(
            command_lines(grub, "linux"),
            ["/vmlinuz-6.1 root=UUID=1 ro panic=10"]
        );
        let entry = "title x\nlinux /vmlinuz\noptions root=1 panic=5\n";
        assert_eq!(command_lines(entry, "options"), ["root=1 panic=5"]);
        assert_eq!(command_lines("  APPEND root=1\n", "append"), ["root=1"]);
        assert_eq!(command_lines("root=1 quiet\n\n", ""), ["root=1 quiet"]);
    }

    #[test]
    fn this_boot_and_the_next_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let host = host(at);
        let look = || bad(|findings| check(&host, Way::Initrd, findings));
        put(at, "proc/cmdline", "ro quiet");
        let told = look();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0]
                .1
                .contains("this boot has no panic=10 and no rd.emergency=reboot")
        );

        let grub = "root/boot/grub/grub.cfg";
        put(at, grub, "linux /vmlinuz ro panic=10\n");
        put(
            at,
            "root/etc/default/grub",
            "GRUB_CMDLINE_LINUX=\"panic=10 rd.emergency=reboot\"\n",
        );
        let mut findings = Findings::default();
        check(&host, Way::Initrd, &mut findings);
        let grub_s = findings
            .problems()
            .chain(findings.list())
            .find(|one| one.found.contains("grub.cfg"));
        assert_eq!(
            grub_s.unwrap().remedy.as_deref(),
            Some("/etc/default/grub has it already: update-grub")
        );
        put(at, grub, "linux /vmlinuz ro panic=10 rd.emergency=reboot\n");
        let told = look();
        assert_eq!(told.len(), 1, "{told:?}");
        put(at, "proc/cmdline", "ro panic=1 rd.emergency=reboot");
        assert!(look().is_empty());
        assert_eq!(
            found(|findings| check(&host, Way::Initrd, findings)).len(),
            2
        );
    }

    #[test]
    fn what_switches_off_for_good_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let host = host(at);
        put(at, "proc/cmdline", "panic=1 op-dbus=off");
        put(at, "root/boot/cmdline.txt", "panic=1 op-dbus=off\n");
        let told = bad(|findings| check(&host, Way::Generator, findings));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].1.contains("no boot activates"), "{told:?}");
    }
}
