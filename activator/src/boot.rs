//! The boot role: from the configuration to a mounted version, in bounded time,
//! whatever is missing on the way.

use std::path::PathBuf;

use op_dbus_bootstate::cmdline::{CommandLine, Select};
use op_dbus_bootstate::select::Selection;
use op_dbus_bootstate::{BootId, Deployment, Record, Version};

use crate::activation::{Activation, Outcome, Source};
use crate::choose::{self, Chosen, Question};
use crate::config::Config;
use crate::device::Devices;
use crate::files;
use crate::history;
use crate::layout::Layout;
use crate::overlay::{PlanReport, word};
use crate::session;
use crate::steps::Steps;

mod candidates;
mod load;
mod world;

/// Longest kernel command line read, in bytes (`COMMAND_LINE_SIZE` is at most
/// 4096 on the architectures with UEFI; bootconfig may add more).
const CMDLINE_MAX: usize = 64 * 1024;

/// Where the role finds everything.
#[derive(Debug, Clone)]
pub struct Options {
    /// The three roots.
    pub layout: Layout,
    /// The configuration.
    pub config: PathBuf,
    /// `/proc/cmdline`
    pub cmdline: PathBuf,
    /// The kernel's id of this boot; none: of a boot to come.
    pub boot_id: Option<PathBuf>,
    /// Where devices are looked for.
    pub devices: Devices,
    /// Decide only: nothing is mounted, written or locked.
    pub dry_run: bool,
}

/// Why nothing was decided.
enum Stop {
    Off,
    Failed(String),
}

/// Runs the role. Never fails: what went wrong is in the report.
pub fn run(options: &Options) -> Activation {
    let mut steps = Steps::default();
    let mut report = Activation::new(Outcome::Failed, "");
    match decide(options, &mut steps, &mut report) {
        Ok(()) => {}
        Err(Stop::Off) => {
            report.outcome = Outcome::Off;
            report.source = Source::CommandLine;
            "op-dbus=off on the kernel command line".clone_into(&mut report.reason);
        }
        Err(Stop::Failed(why)) => {
            report.outcome = Outcome::Failed;
            report.reason = why;
        }
    }
    report.steps_us = steps.laps();
    report.total_us = steps.total();
    report
}

fn decide(options: &Options, steps: &mut Steps, report: &mut Activation) -> Result<(), Stop> {
    let cmdline = files::read_text(&options.cmdline, CMDLINE_MAX).unwrap_or_else(|why| {
        log::warn!("{}: read: {why}", options.cmdline.display());
        String::new()
    });
    let cmdline = CommandLine::parse(&cmdline);
    for word in &cmdline.unknown {
        log::warn!("kernel command line: {word:?} means nothing and is ignored");
    }
    if cmdline.select.is_some() {
        report.source = Source::CommandLine;
    }
    let boot_id = boot_id(options)?;
    report.boot_id = Some(boot_id);
    if cmdline.off {
        return Err(Stop::Off);
    }
    let (config, mistake) =
        Config::load_for_boot(&options.config).map_err(|why| Stop::Failed(why.to_string()))?;
    let mistake = mistake.map(|why| why.to_string());
    if let Some(why) = &mistake {
        log::error!("{why}");
        report.degraded.push(word::CONFIG_INVALID.to_owned());
    }
    steps.done("config");

    let layout = &options.layout;
    let store = if options.dry_run {
        session::mounted(layout)
            .map_err(|why| Stop::Failed(why.to_string()))?
            .ok_or_else(|| {
                Stop::Failed(format!(
                    "{}: the store is not mounted there, and a dry run mounts nothing",
                    layout.store.display()
                ))
            })?
    } else {
        session::mount(layout, &config.store, &options.devices, steps)
            .map_err(|why| Stop::Failed(why.to_string()))?
    };
    if let Some(why) = &store.read_only {
        log::warn!("the store is read-only: {why}");
        report.degraded.push(word::STORE_READ_ONLY.to_owned());
    }
    steps.done("store-mount");

    // With a mistake in the limits or health checks a trial could not be judged
    // as meant, so no boot is counted until the file is corrected.
    let not_durable = store.read_only.clone().or(mistake);
    let mut opened = load::open(layout, not_durable, options.dry_run);
    report.record = opened.report.clone();
    steps.done("record-read");

    let named = match &cmdline.select {
        Some(Select::Version(version)) => find_named(layout, opened.record.as_ref(), version),
        _ => None,
    };
    let record = match opened.record.take() {
        Some(record) => record,
        // The operator's word needs no record.
        None if cmdline.select.is_some() => {
            opened.not_durable.get_or_insert(opened.why_none.clone());
            Record::default()
        }
        None => {
            report.outcome = Outcome::Rescue;
            opened.why_none.clone_into(&mut report.reason);
            return Ok(());
        }
    };
    let points = world::Points::find(options, &config.mounts).map_err(Stop::Failed)?;
    steps.done("mount-points");

    let mut world = world::World {
        options,
        steps,
        writer: &mut opened.writer,
        boot_id,
        store_read_only: store.read_only.is_some(),
        points,
        candidates: candidates::Candidates::look(layout, &record),
        config: &config.overlay,
        degraded: Vec::new(),
        overlay: None,
    };
    let question = Question {
        record,
        boot_id,
        select: cmdline.select.as_ref(),
        named: named.as_ref(),
        limits: config.limits(),
        not_durable: opened.not_durable.take(),
    };
    let chosen = choose::choose(question, &mut world);
    report.degraded.append(&mut world.degraded);
    report.overlay = world.overlay.take();
    if let Some(plan) = report.overlay.as_ref().and_then(|made| made.plan.as_ref()) {
        tell(plan);
    }
    conclude(report, chosen);
    Ok(())
}

/// The deployment an operator named: as the record knows it, else by its receipt.
fn find_named(layout: &Layout, record: Option<&Record>, version: &Version) -> Option<Deployment> {
    record
        .and_then(|record| {
            let mut all = record.deployments();
            all.find(|(_, deployment)| deployment.version == *version)
                .map(|(_, deployment)| deployment.clone())
        })
        .or_else(|| history::receipt(layout, version))
}

/// The kernel's id of this boot. A dry run decides for a boot to come, which has
/// none yet.
fn boot_id(options: &Options) -> Result<BootId, Stop> {
    let Some(path) = &options.boot_id else {
        return Ok(BootId([0; 16]));
    };
    let text = files::read_text(path, 256)
        .map_err(|why| Stop::Failed(format!("{}: read: {why}", path.display())))?;
    text.trim_end()
        .parse()
        .map_err(|why| Stop::Failed(format!("{}: {why}", path.display())))
}

/// Says what of a plan was not carried out.
fn tell(plan: &PlanReport) {
    let kept = u32::try_from(plan.kept.len()).unwrap_or(u32::MAX);
    let all = kept.saturating_add(plan.more);
    log::info!("overlay: {} entries of the plan carried out", plan.applied);
    if let Some(first) = plan.kept.first() {
        log::warn!("overlay: {all} left as they were, among them {first}");
    }
}

fn conclude(report: &mut Activation, chosen: Chosen) {
    let Selection {
        candidate,
        reason,
        counted,
        ..
    } = chosen.selection;
    report.failures = chosen.failures;
    if let Some(why) = chosen.not_durable {
        log::warn!("the boot is not counted: {why}");
        report.degraded.push(word::NOT_COUNTED.to_owned());
    }
    if let Some(why) = chosen.host {
        report.outcome = Outcome::Failed;
        report.reason = why;
        return;
    }
    reason.sentence().clone_into(&mut report.reason);
    report.counted = counted;
    match candidate {
        Some((slot, deployment)) => {
            report.outcome = Outcome::Activated;
            report.slot = Some(slot);
            report.version = Some(deployment.version);
            report.digest = Some(deployment.digest);
        }
        None => report.outcome = Outcome::Rescue,
    }
}
