//! Prepared machines: v1.0.0 has run on them, is blessed, and they are switched
//! off. Scenarios start from copies of these.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::bench::{Bench, Make};
use crate::cache::{Cache, Entry, Key};
use crate::debian::disk::{self, FIRST, Machine};
use crate::debian::profile::{Profile, Suite};
use crate::error::{Context, Result};
use crate::expect::Expect;
use crate::guest::Ending;
use crate::light::{self, Light};
use crate::player::{Player, Progress};
use crate::programs::Programs;
use crate::release::Releases;
use crate::scenario::{Boot, Run, Step};

/// Raise it when the recipe below changes in a way its inputs don't show.
const RECIPE: &str = "1";

/// A light guest and the store disk its scenarios start with.
#[derive(Debug)]
pub struct PreparedLight {
    /// Kernel and initramfs.
    pub light: Light,
    disk: Entry,
}

impl PreparedLight {
    /// The disk.
    pub fn disk(&self) -> PathBuf {
        self.disk.file("store.img")
    }
}

/// The machine of `profile` on which v1.0.0 is good; one boot when it is not
/// cached. `tell` hears of that boot.
pub fn debian(
    cache: &Cache,
    profile: Profile,
    programs: &Programs,
    releases: &Releases,
    tell: impl FnMut(Progress<'_>),
) -> Result<Machine> {
    let fresh = Machine::fresh(cache, profile, programs, releases)?;
    let key = Key::default()
        .text(RECIPE)
        .text(&fresh.entry().path().to_string_lossy());
    let entry = cache.entry(&format!("prepared-{profile}"), &key, |directory| {
        let run = directory.join("run");
        let bench = Bench::new(Make::Debian(&fresh), &run, &releases.image())?;
        let mut player = Player::new(&format!("prepare {profile}"), bench, tell);
        player.play(&[
            Step::Settled(true),
            Step::Expect(good(FIRST)),
            Step::Leave(Ending::PowerOff),
        ])?;
        for name in disk::images(profile.layout) {
            disk::flatten(
                &run.join(name).with_extension("qcow2"),
                &directory.join(name),
            )?;
        }
        for (from, name) in [(fresh.kernel(), "vmlinuz"), (fresh.initrd(), "initrd")] {
            fs::copy(&from, directory.join(name)).at("copy", &from)?;
        }
        player.bench().remove_disks()
    })?;
    Ok(Machine::prepared(profile, entry))
}

/// The light guest of `suite` with a store in which v1.0.0 is good; two boots
/// when it is not cached.
pub fn light(
    cache: &Cache,
    suite: Suite,
    programs: &Programs,
    releases: &Releases,
    tell: impl FnMut(Progress<'_>),
) -> Result<PreparedLight> {
    let light = Light::build(cache, suite, programs, releases.keys())?;
    let key = Key::default()
        .text(RECIPE)
        .text(&light.initrd().to_string_lossy())
        .file(&releases.image())?;
    let disk = cache.entry(
        &format!("prepared-light-{}", suite.name()),
        &key,
        |directory| {
            let empty = directory.join("empty.img");
            light::empty_disk(&empty)?;
            play_light(&light, &empty, directory, releases, tell)?;
            fs::remove_file(&empty).at("remove", &empty)
        },
    )?;
    Ok(PreparedLight { light, disk })
}

fn play_light(
    light: &Light,
    empty: &Path,
    directory: &Path,
    releases: &Releases,
    tell: impl FnMut(Progress<'_>),
) -> Result<()> {
    let make = Make::Light { light, disk: empty };
    let bench = Bench::new(make, &directory.join("run"), &releases.image())?;
    let mut player = Player::new("prepare light", bench, tell);
    let stage = |command: &str| {
        Step::Run(Run {
            argv: vec!["op-dbus-stage".into(), command.into()],
            code: 0,
            says: None,
        })
    };
    player.play(&[
        Step::Boot(Boot {
            options: op_dbus_vm_guest::init::NO_ACTIVATION.into(),
            ..Boot::default()
        }),
        stage("prepare"),
        Step::Stage(FIRST.into()),
        Step::Leave(Ending::Reboot),
        stage("bless"),
        Step::Expect(good(FIRST)),
        Step::Leave(Ending::PowerOff),
    ])?;
    player.bench().export_store(&directory.join("store.img"))?;
    player.bench().remove_disks()
}

fn good(version: &str) -> Expect {
    Expect {
        activation: [("/version".to_owned(), json!(version))].into(),
        status: [
            ("/good/version".to_owned(), json!(version)),
            ("/trial".to_owned(), json!(null)),
        ]
        .into(),
        ..Expect::default()
    }
}
