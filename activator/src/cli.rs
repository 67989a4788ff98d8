//! The command line of `op-dbus-activate`: few options, so no parser library in
//! a program that has to be small.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::activation::{Activation, Outcome};
use crate::boot;
use crate::config::Config;
use crate::device::Devices;
use crate::kmsg;
use crate::layout::Layout;
use crate::links;
use crate::store_rw;

/// Printed with `--help` and after a mistake.
const USAGE: &str = "\
Usage: op-dbus-activate [ROLE] [OPTIONS]

Roles:
  boot       select, count and mount a version (the default)
  store-rw   make the store writable again after systemd-remount-fs
  links      bring the configured links in line

Options:
  --sysroot DIR   the host's root [default: /]
  --config FILE   [default: <sysroot>/etc/op-dbus/deploy.toml]
  --run DIR       [default: /run]
  --cmdline FILE  [default: /proc/cmdline]
  --boot-id FILE  [default: /proc/sys/kernel/random/boot_id]
  --dry-run       boot: print what the next boot would select, change nothing
  --json          with --dry-run: as JSON
  --help, --version

Exit codes: 0 the boot may go on, whatever was activated; 2 wrong usage.
";

/// Exit code for wrong usage.
const WRONG_USAGE: u8 = 2;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Boot,
    StoreRw,
    Links,
}

/// The parsed command line.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    role: Role,
    sysroot: PathBuf,
    config: Option<PathBuf>,
    run: PathBuf,
    cmdline: PathBuf,
    boot_id: Option<PathBuf>,
    dry_run: bool,
    json: bool,
}

/// What a command line can be.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Run(Arguments),
    Help,
    Version,
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, String> {
    let mut parsed = Arguments {
        role: Role::Boot,
        sysroot: PathBuf::from("/"),
        config: None,
        run: PathBuf::from("/run"),
        cmdline: PathBuf::from("/proc/cmdline"),
        boot_id: None,
        dry_run: false,
        json: false,
    };
    let mut role_given = false;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        let role = match text.as_str() {
            "boot" => Some(Role::Boot),
            "store-rw" => Some(Role::StoreRw),
            "links" => Some(Role::Links),
            _ => None,
        };
        if let Some(role) = role {
            if role_given {
                return Err("more than one role".to_owned());
            }
            role_given = true;
            parsed.role = role;
            continue;
        }
        let mut value = || {
            let value = arguments.next().filter(|value| !value.is_empty());
            value
                .map(PathBuf::from)
                .ok_or(format!("{text} needs a value"))
        };
        match text.as_str() {
            "--sysroot" => parsed.sysroot = value()?,
            "--config" => parsed.config = Some(value()?),
            "--run" => parsed.run = value()?,
            "--cmdline" => parsed.cmdline = value()?,
            "--boot-id" => parsed.boot_id = Some(value()?),
            "--dry-run" => parsed.dry_run = true,
            "--json" => parsed.json = true,
            "--help" | "-h" => return Ok(Parsed::Help),
            "--version" | "-V" => return Ok(Parsed::Version),
            _ => return Err(format!("{text:?} means nothing here")),
        }
    }
    if parsed.json && !parsed.dry_run {
        return Err("--json goes with --dry-run".to_owned());
    }
    if parsed.dry_run && parsed.role != Role::Boot {
        return Err("--dry-run goes with the boot role".to_owned());
    }
    Ok(Parsed::Run(parsed))
}

/// Runs the program; returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = match parse(arguments) {
        Ok(Parsed::Run(arguments)) => arguments,
        Ok(Parsed::Help) => {
            print(USAGE);
            return 0;
        }
        Ok(Parsed::Version) => {
            print(concat!(
                "op-dbus-activate ",
                env!("CARGO_PKG_VERSION"),
                "\n"
            ));
            return 0;
        }
        Err(why) => {
            use std::io::Write as _;
            let _ = write!(std::io::stderr(), "op-dbus-activate: {why}\n\n{USAGE}");
            return WRONG_USAGE;
        }
    };
    if arguments.dry_run {
        kmsg::init_stderr();
    } else {
        kmsg::init();
    }
    let layout = Layout::new(arguments.run.clone(), arguments.sysroot.clone());
    let config = arguments.config.clone().unwrap_or_else(|| layout.config());
    match arguments.role {
        Role::Boot => boot(&arguments, layout, config),
        Role::StoreRw => match Config::load_for_boot(&config) {
            Ok((config, _)) => store_rw::run(&layout, &config),
            Err(why) => log::error!("{why}"),
        },
        // Not with half a configuration: links that are wanted would be taken away.
        Role::Links => match Config::load(&config) {
            Ok(config) => links::run(&layout, &config),
            Err(why) => log::error!("{why}"),
        },
    }
    0
}

/// A reader that has gone away is no reason to fail a boot.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn boot(arguments: &Arguments, layout: Layout, config: PathBuf) {
    let this_boot = || PathBuf::from("/proc/sys/kernel/random/boot_id");
    let options = boot::Options {
        layout,
        config,
        cmdline: arguments.cmdline.clone(),
        boot_id: match &arguments.boot_id {
            None if arguments.dry_run => None,
            given => Some(given.clone().unwrap_or_else(this_boot)),
        },
        devices: Devices::default(),
        dry_run: arguments.dry_run,
    };
    let report = boot::run(&options);
    if arguments.dry_run {
        print(&decision(&report, arguments.json));
        return;
    }
    if let Err(why) = report.write(&options.layout) {
        log::error!("{why}");
    }
    announce(&report);
}

/// The last line of a boot.
fn announce(report: &Activation) {
    let reason = &report.reason;
    match (report.outcome, &report.version, report.slot) {
        (Outcome::Activated, Some(version), Some(slot)) => {
            log::info!("activated {version} ({slot}) in {} us", report.total_us);
        }
        (Outcome::Off, ..) => log::info!("off"),
        // For whoever reads the console, a broken host is rescue too.
        _ => log::error!("rescue: {reason}"),
    }
}

/// What a dry run prints.
fn decision(report: &Activation, json: bool) -> String {
    if json {
        let report = serde_json::to_string(report).unwrap_or_default();
        return format!("{{\"dry_run\":true,\"decision\":{report}}}\n");
    }
    let mut text = match (report.outcome, &report.version, report.slot) {
        (Outcome::Activated, Some(version), Some(slot)) => {
            let counted = if report.counted { "" } else { ", not counted" };
            format!(
                "the next boot would activate {version} ({slot}{counted}): {}\n",
                report.reason
            )
        }
        (Outcome::Off, ..) => format!("the next boot would do nothing: {}\n", report.reason),
        (Outcome::Failed, ..) => format!("the next boot can't be told: {}\n", report.reason),
        _ => format!("the next boot would activate nothing: {}\n", report.reason),
    };
    for failed in &report.failures {
        let (version, slot) = (&failed.version, failed.slot);
        let _ = writeln!(text, "  not {version} ({slot}): {}", failed.reason);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Parsed, String> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn roles_and_options_are_understood_in_any_order() {
        let Ok(Parsed::Run(links)) = parsed(&["--sysroot", "/x", "links"]) else {
            panic!("links");
        };
        assert_eq!(links.role, Role::Links);
        assert_eq!(links.sysroot, PathBuf::from("/x"));
        let Ok(Parsed::Run(boot)) = parsed(&["--dry-run", "--json"]) else {
            panic!("boot");
        };
        assert_eq!(boot.role, Role::Boot);
        assert!(boot.dry_run && boot.json);
        assert_eq!(parsed(&["--help"]), Ok(Parsed::Help));
    }

    #[test]
    fn mistakes_are_refused() {
        for words in [
            &["bot"][..],
            &["--sysroot"],
            &["--sysroot", ""],
            &["boot", "links"],
            &["--json"],
            &["links", "--dry-run"],
            &["--config=x"],
        ] {
            assert!(parsed(words).is_err(), "{words:?} was accepted");
        }
    }
}
