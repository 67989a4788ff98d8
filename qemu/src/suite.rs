//! Which scenarios are played on which machines, and how one such play is run.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::bench::{Bench, Make};
use crate::cache::Cache;
use crate::debian::profile::{Profile, Suite};
use crate::error::Result;
use crate::player::{Player, Progress};
use crate::programs::{Programs, workspace};
use crate::release::Releases;
use crate::timeline::Timeline;
use crate::{catalogue, prepared};

/// What every play needs, built once.
#[derive(Debug)]
pub struct Lab {
    cache: Cache,
    programs: Programs,
    releases: Releases,
    runs: PathBuf,
    building: Mutex<()>,
    /// Virtual processors of each guest: 1 where two guests share the host.
    pub processors: u32,
}

impl Lab {
    /// The user's cache, this workspace's programs and the demo's releases; run
    /// directories below the workspace's `target/vm`.
    pub fn open() -> Result<Self> {
        let cache = Cache::open()?;
        let programs = Programs::find()?;
        let releases = Releases::demo(&cache, &programs)?;
        Ok(Self {
            cache,
            programs,
            releases,
            runs: workspace().join("target/vm"),
            building: Mutex::new(()),
            processors: 1,
        })
    }

    /// As [`open`](Self::open), with a user's own send streams in place of the
    /// demo's. The first version of a machine stays the demo's v1.0.0.
    pub fn with_streams(mut self, streams: &[PathBuf]) -> Result<Self> {
        self.releases = Releases::own(streams)?;
        Ok(self)
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The programs under test.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The releases.
    pub fn releases(&self) -> &Releases {
        &self.releases
    }

    /// Where runs leave their logs.
    pub fn runs(&self) -> &Path {
        &self.runs
    }

    /// Plays `scenarios` one after the other on a prepared Debian machine of
    /// `profile`. The timeline comes back also after a failure.
    pub fn play_debian(
        &self,
        profile: Profile,
        scenarios: &[&str],
        mut tell: impl FnMut(Progress<'_>),
    ) -> (Timeline, Result<()>) {
        let name = format!("{profile}: {}", scenarios.join(" + "));
        let mut timeline = Timeline::default();
        let result = (|| {
            let demo = Releases::demo(&self.cache, &self.programs)?;
            let machine = {
                // One preparation at a time: two would only wait for each other.
                let _one = self.building.lock();
                prepared::debian(&self.cache, profile, &self.programs, &demo, &mut tell)?
            };
            let directory = self.runs.join(format!("{profile}.{}", scenarios.join("+")));
            let bench = Bench::new(Make::Debian(&machine), &directory, &self.releases.image())?;
            let bench = bench.with_processors(self.processors);
            let mut player = Player::new(&name, bench, &mut tell);
            let outcome = play_all(&mut player, scenarios, None);
            timeline = player.timeline().clone();
            outcome
        })();
        (timeline, result)
    }

    /// Plays one case of a scenario on a light guest with the kernel of
    /// `suite`.
    pub fn play_light(
        &self,
        suite: Suite,
        scenario: &str,
        case: Option<&str>,
        mut tell: impl FnMut(Progress<'_>),
    ) -> (Timeline, Result<()>) {
        let mut name = format!("light-{}: {scenario}", suite.name());
        if let Some(case) = case {
            name = format!("{name}/{case}");
        }
        let mut timeline = Timeline::default();
        let result = (|| {
            let guest = {
                let _one = self.building.lock();
                prepared::light(
                    &self.cache,
                    suite,
                    &self.programs,
                    &self.releases,
                    &mut tell,
                )?
            };
            let directory = self.runs.join(name.replace(": ", ".").replace('/', "."));
            let make = Make::Light {
                light: &guest.light,
                disk: &guest.disk(),
            };
            let bench = Bench::new(make, &directory, &self.releases.image())?;
            let mut player = Player::new(&name, bench, &mut tell);
            let outcome = play_all(&mut player, &[scenario], case);
            timeline = player.timeline().clone();
            outcome
        })();
        (timeline, result)
    }
}

fn play_all(player: &mut Player<'_>, scenarios: &[&str], case: Option<&str>) -> Result<()> {
    for name in scenarios {
        let scenario = catalogue::find(name)?;
        let steps = scenario.steps(case, &std::collections::BTreeMap::new())?;
        player.play(&steps)?;
    }
    player.finish()?;
    player.bench().remove_disks()
}
