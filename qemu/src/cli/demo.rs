//! `op-dbus-vm demo`: an upgrade, and one that fails, told as they happen.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::live;
use crate::debian::disk::Machine;
use crate::debian::profile::{Initramfs, Layout, Profile, Suite};
use crate::debian::root;
use crate::error::{Error, Result};
use crate::hardware::Accelerator;
use crate::player::Player;
use crate::suite::{Chosen, Lab};

const WITHIN: Duration = Duration::from_secs(240);

/// What the demo is played on.
const PROFILE: Profile = Profile {
    suite: Suite::Bookworm,
    initramfs: Initramfs::Dracut,
    layout: Layout::BtrfsRoot,
};

/// How long each part took.
#[derive(Default)]
struct Parts(Vec<(&'static str, f64)>);

impl Parts {
    fn time<T>(&mut self, what: &'static str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n== {what}");
        let start = Instant::now();
        let done = act();
        let seconds = start.elapsed().as_secs_f64();
        println!("   {seconds:.1} s");
        self.0.push((what, seconds));
        done
    }
}

pub(super) fn run(lab: &Lab) -> Result<()> {
    let mut parts = Parts::default();
    parts.time("Debian's packages into a root (cached)", || {
        root::base(lab.cache(), PROFILE.suite, PROFILE.initramfs)
    })?;
    parts.time(
        "A disk with op-dbus installed and prepared (cached)",
        || Machine::fresh(lab.cache(), PROFILE, lab.programs(), lab.releases()),
    )?;
    parts.time("Its first boot: v1.0.0 becomes good (cached)", || {
        lab.prepare(PROFILE, live::tell())
    })?;
    let chosen = [Chosen::find("upgrade")?, Chosen::find("service-dies")?];
    for one in &chosen {
        println!("\n{}: {}", one.name, one.scenario.summary);
    }
    let mut told = String::new();
    let timeline = parts.time("Both on a copy of that disk", || {
        let (timeline, result) = lab.play_debian(PROFILE, &chosen, live::tell(), |player| {
            told = ask(player, lab.accelerator)?;
            Ok(())
        });
        result.map(|()| timeline)
    })?;
    println!("\n== What happened\n{}", timeline.text());
    println!("{told}");
    println!("\n== Time");
    for (what, seconds) in &parts.0 {
        println!("{seconds:>8.1} s  {what}");
    }
    println!(
        "{:>8.1} s  in all",
        parts.0.iter().map(|(_, seconds)| seconds).sum::<f64>()
    );
    println!("Console logs: {}", lab.runs().display());
    Ok(())
}

/// The guest's own words on how it stands.
fn ask(player: &mut Player<'_>, accelerator: Accelerator) -> Result<String> {
    let guest = player.guest()?;
    let status = guest.check(&["op-dbus-stage", "status"], WITHIN)?;
    let activation = guest
        .read("/run/op-dbus/activation.json", WITHIN)?
        .ok_or_else(|| Error::Expectation("the guest has no activation.json".into()))?;
    Ok(format!(
        "== op-dbus-stage status\n{status}\n{}",
        steps(&activation, accelerator)
    ))
}

fn steps(activation: &str, accelerator: Accelerator) -> String {
    let value: Value = serde_json::from_str(activation).unwrap_or_default();
    let mark = match accelerator {
        Accelerator::Tcg => "emulated (TCG): many times slower than a real processor",
        Accelerator::Kvm => "under KVM",
    };
    let mut text = format!("== Steps of the last activation, {mark}\n");
    let list = value.get("steps_us").and_then(Value::as_array);
    for step in list.into_iter().flatten() {
        let name = step.get(0).and_then(Value::as_str).unwrap_or("?");
        let microseconds = step.get(1).and_then(Value::as_u64).unwrap_or(0);
        text.extend([format!("{microseconds:>10} us  {name}\n")]);
    }
    let total = value.get("total_us").and_then(Value::as_u64).unwrap_or(0);
    text + &format!("{total:>10} us  in all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_times_are_marked_as_emulated() {
        let text = steps(
            r#"{"steps_us":[["config",12],["store-mount",800]],"total_us":2900}"#,
            Accelerator::Tcg,
        );
        assert!(text.contains("emulated (TCG)"), "{text}");
        assert!(text.contains("       800 us  store-mount"), "{text}");
        assert!(text.ends_with("      2900 us  in all"), "{text}");
    }
}
