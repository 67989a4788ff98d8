//! Which scenarios are played on which machines, and how one such play is run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::bench::{self, Bench, Make};
use crate::cache::Cache;
use crate::cuts::run::{Parts, Run};
use crate::debian::disk::Machine;
use crate::debian::profile::{Profile, Suite};
use crate::error::{Context, Result};
use crate::hardware::Accelerator;
use crate::player::{self, Player, Progress};
use crate::prepared::PreparedLight;
use crate::programs::{Programs, workspace};
use crate::release::Releases;
use crate::scenario::Scenario;
use crate::template::Template;
use crate::timeline::Timeline;
use crate::{catalogue, cuts, light, prepared};

/// A scenario to play.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Its name, for titles.
    pub name: String,
    /// The scenario.
    pub scenario: Scenario,
    /// Which of its cases; `None` when it has none.
    pub case: Option<String>,
    /// Values that win over its own.
    pub values: BTreeMap<String, String>,
}

/// What every play needs, built once.
#[derive(Debug)]
pub struct Lab {
    cache: Cache,
    programs: Programs,
    releases: Releases,
    runs: PathBuf,
    building: Mutex<()>,
    templates: Mutex<BTreeMap<Suite, Arc<Template>>>,
    /// Virtual processors of each guest: 1 where two guests share the host.
    pub processors: u32,
    /// Emulation to use.
    pub accelerator: Accelerator,
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
            templates: Mutex::default(),
            processors: 1,
            accelerator: Accelerator::Tcg,
        })
    }

    /// As [`open`](Self::open), with a user's own releases in place of the
    /// demo's and `keys` to trust beside the demo's, which signed the v1.0.0
    /// that a machine starts with.
    pub fn with_releases(mut self, directory: &Path, keys: &[PathBuf]) -> Result<Self> {
        self.releases = Releases::own(directory, keys)?;
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

    /// Plays `chosen` one after the other on a prepared Debian machine of
    /// `profile`, then calls `finally` while the machine may still be on. The
    /// timeline comes back also after a failure.
    pub fn play_debian(
        &self,
        profile: Profile,
        chosen: &[Chosen],
        mut tell: impl FnMut(Progress<'_>),
        finally: impl FnOnce(&mut Player<'_>) -> Result<()>,
    ) -> (Timeline, Result<()>) {
        let mut timeline = Timeline::default();
        let result = (|| {
            let machine = self.prepare(profile, &mut tell)?;
            let name = title(&profile.to_string(), chosen);
            let make = Make::Debian(&machine);
            let bench = Bench::new(make, &self.directory(&name), &self.releases.image())?
                .with_processors(self.processors)
                .with_accelerator(self.accelerator);
            let mut player = Player::new(&name, bench, &mut tell);
            let outcome = play_all(&mut player, chosen, finally);
            timeline = player.timeline().clone();
            outcome
        })();
        (timeline, result)
    }

    /// The prepared Debian machine of `profile`.
    pub fn prepare(&self, profile: Profile, tell: impl FnMut(Progress<'_>)) -> Result<Machine> {
        // One preparation at a time: two would only wait for each other.
        let _one = self.building.lock();
        let first = self.first()?;
        prepared::debian(&self.cache, profile, &self.programs, &first, tell)
    }

    /// What a machine starts with: the demo's releases, and whom it trusts.
    fn first(&self) -> Result<Releases> {
        let demo = Releases::demo(&self.cache, &self.programs)?;
        Ok(demo.trusting(self.releases.keys()))
    }

    /// The prepared light guest with the kernel of `suite`.
    pub fn light(&self, suite: Suite, tell: impl FnMut(Progress<'_>)) -> Result<PreparedLight> {
        let _one = self.building.lock();
        let first = self.first()?;
        prepared::light(&self.cache, suite, &self.programs, &first, tell)
    }

    /// The machine of which `guest`'s boots with the kernel of `suite` are copies;
    /// made once.
    fn template(&self, suite: Suite, guest: &PreparedLight) -> Result<Arc<Template>> {
        let mut templates = self
            .templates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(template) = templates.get(&suite) {
            return Ok(Arc::clone(template));
        }
        let releases = self.releases.image();
        let hardware = guest
            .light
            .hardware(&guest.disk(), &releases, self.accelerator);
        let template = Arc::new(Template::make(hardware, &self.runs)?);
        templates.insert(suite, Arc::clone(&template));
        Ok(template)
    }

    /// Cuts the power of a light guest until a run that goes on from `state` in
    /// `directory` has made `count` cuts. `tell` hears of each.
    pub fn cut_power(
        &self,
        state: cuts::state::State,
        directory: &Path,
        count: u32,
        tell: impl FnMut(&str),
    ) -> Result<cuts::state::State> {
        let suite = Suite::find(&state.suite)?;
        let mut state = state;
        if state.machine.as_os_str().is_empty() {
            let guest = self.light(suite, |_| ())?;
            std::fs::create_dir_all(directory).at("make", directory)?;
            let machine = directory
                .canonicalize()
                .at("open", directory)?
                .join("machine");
            std::fs::create_dir_all(&machine).at("make", &machine)?;
            for (from, name) in [
                (guest.light.kernel(), "vmlinuz"),
                (guest.light.initrd(), "initrd"),
                (guest.disk(), "store.img"),
                (self.releases.image(), "releases.img"),
            ] {
                bench::copy_sparse(&from, &machine.join(name))?;
            }
            state.machine = machine;
        }
        let file = |name: &str| state.machine.join(name);
        let (prepared, releases) = (file("store.img"), file("releases.img"));
        let hardware = light::hardware(
            file("vmlinuz"),
            file("initrd"),
            &prepared,
            &releases,
            self.accelerator,
        );
        let parts = Parts {
            template: Arc::new(Template::make(hardware, directory)?),
            prepared,
            releases,
            patience: player::patience(),
        };
        let mut run = Run::new(state, directory, parts, tell);
        run.go(count)?;
        Ok(run.state)
    }

    /// Plays one scenario on a light guest with the kernel of `suite`.
    pub fn play_light(
        &self,
        suite: Suite,
        chosen: &Chosen,
        mut tell: impl FnMut(Progress<'_>),
    ) -> (Timeline, Result<()>) {
        let mut timeline = Timeline::default();
        let result = (|| {
            let guest = self.light(suite, &mut tell)?;
            let chosen = std::slice::from_ref(chosen);
            let name = title(&format!("light-{}", suite.name()), chosen);
            let make = Make::Light {
                light: &guest.light,
                disk: &guest.disk(),
            };
            let bench = Bench::new(make, &self.directory(&name), &self.releases.image())?
                .with_accelerator(self.accelerator)
                .with_template(self.template(suite, &guest)?);
            let mut player = Player::new(&name, bench, &mut tell);
            let outcome = play_all(&mut player, chosen, |_| Ok(()));
            timeline = player.timeline().clone();
            outcome
        })();
        (timeline, result)
    }

    /// The run directory of what is called `name`.
    pub fn directory(&self, name: &str) -> PathBuf {
        // No space, slash or colon: console logs are named in messages.
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || "-+_.".contains(c) {
                c
            } else {
                '.'
            }
        };
        self.runs
            .join(name.replace(' ', "").chars().map(safe).collect::<String>())
    }
}

impl Chosen {
    /// A scenario of the catalogue, `upgrade`, or one case of it,
    /// `cut-stage/first-copy-flushed`; any other `name` with a slash is a file's.
    pub fn find(name: &str) -> Result<Self> {
        let case = name
            .split_once('/')
            .filter(|(scenario, _)| catalogue::names().any(|known| known == *scenario));
        let (short, scenario) = match case {
            Some((scenario, _)) => (scenario, catalogue::find(scenario)?),
            None if name.contains('/') => {
                let path = Path::new(name);
                let text = std::fs::read_to_string(path).at("read", path)?;
                let short = path.file_stem().and_then(|stem| stem.to_str());
                (short.unwrap_or_default(), Scenario::parse(name, &text)?)
            }
            None => (name, catalogue::find(name)?),
        };
        Ok(Self {
            name: short.to_owned(),
            scenario,
            case: case.map(|(_, case)| case.to_owned()),
            values: BTreeMap::new(),
        })
    }

    /// Each of its cases; itself when it has none, or is one.
    pub fn cases(&self) -> Vec<Self> {
        if self.case.is_some() {
            return vec![self.clone()];
        }
        let with = |case: Option<&str>| Self {
            case: case.map(str::to_owned),
            ..self.clone()
        };
        self.scenario.case_names().into_iter().map(with).collect()
    }

    /// `upgrade`, or `cut-stage/first-copy-flushed`.
    pub fn title(&self) -> String {
        match &self.case {
            Some(case) => format!("{}/{case}", self.name),
            None => self.name.clone(),
        }
    }
}

fn title(machine: &str, chosen: &[Chosen]) -> String {
    let titles: Vec<String> = chosen.iter().map(Chosen::title).collect();
    format!("{machine}: {}", titles.join(" + "))
}

fn play_all(
    player: &mut Player<'_>,
    chosen: &[Chosen],
    finally: impl FnOnce(&mut Player<'_>) -> Result<()>,
) -> Result<()> {
    for one in chosen {
        player.play(&one.scenario.steps(one.case.as_deref(), &one.values)?)?;
    }
    finally(player)?;
    player.finish()?;
    player.bench().remove_disks()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_named_after_its_scenario() {
        let all = Chosen::find("condemned").unwrap();
        assert!(all.case.is_none() && all.cases().len() > 1);
        let one = Chosen::find("condemned/hangs").unwrap();
        assert_eq!(one.title(), "condemned/hangs");
        assert_eq!(one.cases().len(), 1);
        assert!(Chosen::find("./nonesuch.toml").is_err());
    }
}
