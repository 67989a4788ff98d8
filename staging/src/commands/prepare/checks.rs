//! What this host lacks for upgrades that need no hand.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use op_dbus_activator::config::{Config, Way};
use op_dbus_activator::files;

use crate::context::Context;
use crate::settings::Settings;
use crate::signed;

/// Warns about everything found.
pub(crate) fn warn(context: &Context, config: &Config) {
    let host = |path: &str| context.layout.host(path);
    if config.activation.way == Way::Initrd && !host("/usr/lib/dracut/modules.d/50op-dbus").is_dir()
    {
        context.warn("the dracut module 50op-dbus is not installed: without it no version is activated; install op-dbus completely, or use: way = \"generator\"");
    }
    for filesystem in ["btrfs", "overlay"] {
        if !has_filesystem(&host("/lib/modules"), filesystem) {
            context.warn(format!(
                "no kernel of this host seems to have the {filesystem} file system"
            ));
        }
    }
    // While an image is built, the command line is that of the building machine.
    if context.layout.sysroot != Path::new("/") || is_chroot() {
        return;
    }
    let cmdline = files::read_text(Path::new("/proc/cmdline"), 64 * 1024).unwrap_or_default();
    for warning in command_line(&cmdline, config.activation.way) {
        context.warn(warning);
    }
}

/// Warns if no release could be received.
pub(crate) fn warn_of_keys(context: &Context, settings: &Settings) {
    if let Err(why) = signed::keyring(context, settings) {
        context.warn(why.to_string());
    }
}

/// What the kernel command line should have besides.
fn command_line(cmdline: &str, way: Way) -> Vec<&'static str> {
    let value = |key: &str| {
        cmdline
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(key))
    };
    let mut missing = Vec::new();
    if value("panic=").is_none_or(|seconds| seconds == "0") {
        missing.push("panic= is not on the kernel command line: after a kernel panic the device would hang instead of trying again; add panic=10");
    }
    if way == Way::Initrd && value("rd.emergency=") != Some("reboot") {
        missing.push("rd.emergency=reboot is not on the kernel command line: a failing initramfs would wait for a hand; add it");
    }
    missing
}

/// Whether the running kernel has a file system, or any installed one has it
/// built in or as a module.
fn has_filesystem(modules: &Path, name: &str) -> bool {
    let running = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if running
        .lines()
        .any(|line| line.split_whitespace().next_back() == Some(name))
    {
        return true;
    }
    let Ok(kernels) = fs::read_dir(modules) else {
        return false;
    };
    kernels.flatten().any(|kernel| {
        ["modules.dep", "modules.builtin"].iter().any(|list| {
            let text = fs::read_to_string(kernel.path().join(list)).unwrap_or_default();
            text.contains(&format!("/{name}.ko"))
        })
    })
}

fn is_chroot() -> bool {
    let of = |path: &str| fs::metadata(path).map(|root| (root.dev(), root.ino()));
    match (of("/"), of("/proc/1/root/")) {
        (Ok(own), Ok(first)) => own != first,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_early_failure_needs_is_asked_for() {
        assert_eq!(command_line("ro quiet", Way::Initrd).len(), 2);
        assert_eq!(command_line("ro quiet", Way::Generator).len(), 1);
        assert_eq!(
            command_line("panic=10 rd.emergency=reboot", Way::Initrd).len(),
            0
        );
        assert_eq!(
            command_line("panic=0 rd.emergency=reboot", Way::Initrd).len(),
            1
        );
    }
}
