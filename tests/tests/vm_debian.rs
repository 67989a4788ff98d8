//! Upgrades on whole Debian machines. Each test is a chain of scenarios on one
//! machine, which goes on from where the one before left it.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use op_dbus_tests::{Boots, all};
use op_dbus_vm::suite::Chosen;

/// Most boots of Debian that `make test` may cost.
const LIMIT: usize = 25;

/// Machine, scenarios (`name` or `name/case`), and whether `make test` plays them
/// or only `make test-vm-all`.
const PLAYS: &[(&str, &[&str], bool)] = &[
    (
        "bookworm-dracut",
        &[
            "refused-releases",
            "upgrade",
            "service-dies",
            "kernel-panics",
        ],
        true,
    ),
    // Its busctl passes descriptors: what is received over D-Bus is received here.
    (
        "trixie-dracut",
        &["condemned/restarts", "over-the-bus"],
        true,
    ),
    // A root that is writable: users can be made.
    (
        "bookworm-dracut-ext4",
        &["condemned/unwell", "brings", "services"],
        true,
    ),
    ("bookworm-dracut", &["orderly-reboot"], true),
    // Its kernel has the driver of the watchdog.
    ("trixie-dracut", &["upgrade", "three-endings"], false),
    (
        "bookworm-dracut-ext4",
        &[
            "condemned/hangs",
            "condemned/flaps",
            "condemned/mute",
            "deadline-passes",
            "network-down",
        ],
        false,
    ),
    (
        "bookworm-initramfs-tools",
        &["condemned/unwell", "upgrade", "service-dies"],
        false,
    ),
    ("bookworm-initramfs-tools", &["brings"], false),
    ("bookworm-dracut", &["brings"], false),
    ("trixie-dracut", &["brings"], false),
    (
        "trixie-dracut",
        &["upgrade", "service-dies", "kernel-panics"],
        false,
    ),
    ("trixie-dracut", &["orderly-reboot"], false),
    (
        "bookworm-dracut-ext4",
        &["upgrade", "service-dies", "kernel-panics"],
        false,
    ),
];

fn main() -> ExitCode {
    let boots = Arc::new(Boots::default());
    let (conclusion, sound) = op_dbus_tests::run(|lab| {
        PLAYS
            .iter()
            .map(|(machine, scenarios, always)| {
                let boots = Arc::clone(&boots);
                let lab = lab.clone();
                let name = format!("{machine}: {}", scenarios.join(" + "));
                Trial::test(name, move || {
                    let lab = lab.ok_or_else(|| Failed::from("no lab"))?;
                    let profile = machine.parse()?;
                    let chosen = scenarios
                        .iter()
                        .map(|name| Chosen::find(name))
                        .collect::<Result<Vec<_>, _>>()?;
                    boots.play(|tell| lab.play_debian(profile, &chosen, tell, |_| Ok(())))
                })
                .with_ignored_flag(!always && !all())
            })
            .collect()
    });
    let (count, seconds) = boots.total();
    if count > 0 {
        println!("{count} boots of Debian, {seconds:.0} s of guest time (emulated)");
    }
    if count > LIMIT && !all() {
        println!("that is more than the {LIMIT} that make test may cost");
        return ExitCode::FAILURE;
    }
    op_dbus_tests::exit(&conclusion, sound)
}
