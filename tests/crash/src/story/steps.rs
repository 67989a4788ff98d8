//! The story: what is done with the device, one thing after the other, and what
//! holds once each was acknowledged. By hand, from the rules in ARCHITECTURE.md.

use std::path::Path;

use crate::facts::{Boot, Facts, failed};

use super::changes;
use super::{Action, Again, How, Step, UserChange};

/// Releases of the story, oldest first.
pub(crate) const A: &str = "v1.0.0";
pub(crate) const B: &str = "v1.1.0";
pub(crate) const C: &str = "v1.2.0";
pub(crate) const D: &str = "v1.3.0";
pub(crate) const E: &str = "v1.4.0";
/// The one that has other files than the user knows.
pub(crate) const LAST: &str = E;

const CONF: &str = super::CONF;
/// What the configuration of a new version is put beside the user's as.
const CONF_NEW: &str = "share/app/app.conf.new";
pub(super) const OF_B: (&str, &str) = (CONF_NEW, "this is v1.1.0\n");
const OF_C: (&str, &str) = (CONF_NEW, "this is v1.2.0\n");
const OF_D: (&str, &str) = (CONF_NEW, "this is v1.3.0\n");
const FIRST: (&str, &str) = ("user/first", "kept from the first trial on\n");
pub(super) const SECOND: (&str, &str) = (CONF, "written by the user over v1.0.0's own\n");
pub(super) const THIRD: (&str, &str) = ("user/third", "from the first try of v1.1.0\n");
pub(super) const FOURTH: (&str, &str) = ("user/first", "replaced while v1.1.0 was good\n");
const FIFTH: (&str, &str) = ("user/fifth", "from the rollback to v1.0.0\n");
const SIXTH: (&str, &str) = ("user/sixth", "from the rollback to v1.3.0\n");
const SEVENTH: (&str, &str) = ("user/first", "written over during the rollback to v1.3.0\n");

/// What C finds on trial while A is good.
pub(super) const OVERLAY_OF_C: [(&str, &str); 4] = [FIRST, SECOND, FIFTH, OF_C];

/// Where an overlay goes that a version had before it is tried once more.
pub(super) const C_ASIDE: &str = "v1.2.0.old";
const D_ASIDE: &str = "v1.3.0.old";

/// Builds the list.
pub(super) struct Story {
    steps: Vec<Step>,
    facts: Facts,
}

impl Story {
    pub(super) fn step(
        &mut self,
        name: &str,
        action: Action,
        again: Again,
        change: impl FnOnce(&mut Facts),
    ) {
        change(&mut self.facts);
        self.steps.push(Step {
            name: name.to_owned(),
            action,
            again,
            facts: self.facts.clone(),
        });
    }

    /// A command that must come out as `result`.
    pub(super) fn command(
        &mut self,
        words: &[&str],
        result: &'static str,
        change: impl FnOnce(&mut Facts),
    ) {
        let action = Action::Command {
            words: words.iter().map(|&word| word.to_owned()).collect(),
            result,
        };
        let again = Again::of(words.first().copied().unwrap_or_default());
        // Paths are of no use to a reader.
        let name: Vec<_> = words
            .iter()
            .filter(|word| !word.contains('/'))
            .copied()
            .collect();
        self.step(&name.join(" "), action, again, change);
    }

    pub(super) fn receive(
        &mut self,
        releases: &Path,
        version: &'static str,
        change: impl FnOnce(&mut Facts),
    ) {
        let manifest = releases.join(format!("{version}.json"));
        let words = vec![
            "receive".to_owned(),
            manifest.to_string_lossy().into_owned(),
        ];
        let action = Action::Command {
            words,
            result: "received",
        };
        let again = Again::of("receive");
        self.step(&format!("receive {version}"), action, again, |facts| {
            facts.versions.insert(version);
            facts.logged("received", version);
            change(facts);
        });
    }

    /// The operator says whether trials begin with an empty overlay.
    pub(super) fn configure(&mut self, name: &str, fresh: bool) {
        let action = Action::Configure { fresh };
        self.step(name, action, Again::Never, |facts| facts.fresh = fresh);
    }

    /// A reboot in good order, which runs what the facts before it say.
    pub(super) fn boot(&mut self, change: impl FnOnce(&mut Facts)) {
        let expected = self.facts.boots.first().copied().unwrap_or(Boot::NoStore);
        let name = match expected.active() {
            Some((role, version)) => format!("boot of {version} ({})", role.word()),
            None => "boot of nothing".to_owned(),
        };
        self.step(&name, Action::Boot(expected), Again::Never, change);
    }

    /// The user changes a file in the overlay of what runs, and waits for fsync.
    pub(super) fn user(
        &mut self,
        (path, content): (&'static str, &'static str),
        how: How,
        change: impl FnOnce(&mut Facts),
    ) {
        let action = Action::User(UserChange { path, content, how });
        self.step(&format!("user writes {path}"), action, Again::Never, change);
    }
}

/// All steps; the releases are those of [`crate::prepared`].
pub fn steps(releases: &Path, certificate: &Path) -> Vec<Step> {
    let mut story = Story {
        steps: Vec::new(),
        facts: before(),
    };
    first_version(&mut story, releases, certificate);
    upgrade(&mut story, releases);
    rollback(&mut story);
    bad_version(&mut story, releases);
    damaged_record(&mut story);
    replaced(&mut story);
    rollback_to_a_version_that_never_ran(&mut story, releases);
    altered_fallback(&mut story, releases);
    tries_used_up(&mut story);
    pruned(&mut story);
    lost_record(&mut story);
    fallen_back(&mut story);
    changes::planned(&mut story, releases);
    changes::fallback_again(&mut story);
    changes::fresh(&mut story);
    changes::pruned(&mut story);
    story.steps
}

/// What holds before the first step: an empty file system.
pub fn before() -> Facts {
    Facts {
        boots: vec![Boot::NoStore; crate::facts::BOOTS],
        ..Facts::default()
    }
}

fn first_version(story: &mut Story, releases: &Path, certificate: &Path) {
    let certificate = certificate.to_string_lossy();
    let words = ["prepare", &format!("--key={certificate}")];
    story.command(&words, "prepared", |facts| {
        facts.boots = vec![Boot::Nothing; crate::facts::BOOTS];
        facts.log.push(("prepared", None));
    });
    story.receive(releases, A, |_| ());
    story.command(&["stage", A], "on-trial", |facts| {
        facts.on_trial(A, 3, 3);
        facts.trial_overlay(A, &[]);
        facts.logged("staged", A);
    });
    story.boot(|facts| facts.on_trial(A, 2, 3));
    // A trial that ends in disorder begins its next try afresh, and what it had
    // is set aside.
    story.user(FIRST, How::New, |facts| facts.failed_with(A, &[FIRST], &[]));
    story.command(&["bless"], "trial", |facts| {
        facts.good = Some(A);
        facts.runs_good(0);
        facts.overlay(A, &[FIRST]);
        facts.no_overlay(failed(A));
        facts.logged("blessed", A);
    });
    story.user(SECOND, How::Rewrite, |facts| {
        facts.overlay(A, &[FIRST, SECOND]);
    });
}

fn upgrade(story: &mut Story, releases: &Path) {
    story.receive(releases, B, |_| ());
    story.command(&["stage", B], "on-trial", |facts| {
        facts.on_trial(B, 3, 3);
        facts.trial_overlay(B, &[FIRST, SECOND, OF_B]);
        facts.plans.insert(B);
        facts.logged("staged", B);
    });
    story.boot(|facts| facts.on_trial(B, 2, 3));
    let anew = [FIRST, SECOND, OF_B];
    let tried = [FIRST, SECOND, OF_B, THIRD];
    story.user(THIRD, How::New, |facts| facts.failed_with(B, &tried, &anew));
    story.command(&["orderly-shutdown"], "refunded", |facts| {
        facts.on_trial(B, 3, 2);
        // A try that was given back goes on with its own.
        facts.overlay(B, &tried);
        facts.overlay_later(B, &anew);
        facts.perhaps_failed(B, &[&tried]);
        facts.logged("refunded", B);
    });
    story.boot(|facts| {
        facts.on_trial(B, 2, 2);
        facts.overlay(B, &anew);
        facts.failed_with(B, &tried, &anew);
    });
    story.command(&["bless"], "trial", |facts| {
        facts.good = Some(B);
        facts.fallback = Some(A);
        facts.runs_good(0);
        facts.floor = 1;
        facts.overlay(B, &tried);
        facts.no_overlay(failed(B));
        facts.logged("blessed", B);
    });
    story.user(FOURTH, How::Replace, |facts| {
        facts.overlay(B, &[FOURTH, SECOND, OF_B, THIRD]);
    });
}

fn rollback(story: &mut Story) {
    story.command(&["rollback"], "on-trial", |facts| {
        facts.on_trial(A, 3, 3);
        facts.logged("staged", A);
    });
    story.boot(|facts| facts.on_trial(A, 2, 3));
    // A rollback goes on with the version's own overlay, whatever happens.
    story.user(FIFTH, How::New, |facts| {
        facts.overlay(A, &[FIRST, SECOND, FIFTH]);
    });
    story.command(&["bless"], "trial", |facts| {
        facts.good = Some(A);
        facts.fallback = Some(B);
        facts.runs_good(0);
        facts.logged("blessed", A);
    });
}

fn bad_version(story: &mut Story, releases: &Path) {
    story.receive(releases, C, |_| ());
    story.command(&["stage", C], "on-trial", |facts| {
        facts.on_trial(C, 3, 3);
        facts.trial_overlay(C, &OVERLAY_OF_C);
        facts.plans.insert(C);
        facts.logged("staged", C);
    });
    story.boot(|facts| facts.on_trial(C, 2, 3));
    story.command(&["condemn", "--reason", "smoke"], "condemned", |facts| {
        facts.quarantine.insert(C);
        facts.runs_good(0);
        facts.no_overlay(failed(C));
        facts.logged("condemned", C);
    });
    story.boot(|facts| facts.runs_good(1));
    story.command(&["bless"], "good", |facts| {
        facts.runs_good(0);
        facts.logged("blessed", A);
    });
}

fn damaged_record(story: &mut Story) {
    story.step(
        "one copy of the record is lost",
        Action::Damage(&["record.0"]),
        Again::Never,
        |_| (),
    );
    story.command(&["cancel"], "nothing-to-do", |facts| {
        facts.log.push(("repaired", None));
    });
    story.step(
        "both copies of the record are lost",
        Action::Damage(&["record.0", "record.1"]),
        Again::Never,
        |_| (),
    );
    story.boot(|facts| facts.runs_good(1));
    let words = ["stage", C, "--allow-quarantined"];
    story.command(&words, "on-trial", |facts| {
        facts.quarantine.remove(C);
        tries_c_again(facts);
        facts.logged("released", C);
        facts.logged("staged", C);
    });
    story.command(&["cancel"], "cancelled", |facts| {
        facts.runs_good(1);
        never_tried_c_again(facts);
        facts.logged("cancelled", C);
    });
}

/// What C had of its last try is set aside, and each try begins with good's.
fn tries_c_again(facts: &mut Facts) {
    facts.on_trial(C, 3, 3);
    facts.trial_overlay(C, &OVERLAY_OF_C);
    facts.overlay(C_ASIDE, &OVERLAY_OF_C);
}

/// It never came to a boot.
fn never_tried_c_again(facts: &mut Facts) {
    facts.no_overlay(C_ASIDE);
    facts.no_overlay(failed(C));
}

fn replaced(story: &mut Story) {
    let words = ["stage", C];
    story.command(&words, "on-trial", |facts| {
        tries_c_again(facts);
        facts.logged("staged", C);
    });
    // The fallback's own overlay is never replaced, and nothing is planned for it.
    story.command(&["stage", B], "on-trial", |facts| {
        facts.on_trial(B, 3, 3);
        never_tried_c_again(facts);
        facts.logged("replaced", C);
        facts.logged("staged", B);
    });
    story.command(&["cancel"], "cancelled", |facts| {
        facts.runs_good(1);
        facts.logged("cancelled", B);
    });
}

fn rollback_to_a_version_that_never_ran(story: &mut Story, releases: &Path) {
    story.receive(releases, D, |_| ());
    story.command(&["rollback", D], "on-trial", |facts| {
        facts.on_trial(D, 3, 3);
        facts.overlay(D, &[FIRST, SECOND, FIFTH]);
        facts.logged("staged", D);
    });
    // Its overlay is made by this boot. A rollback goes on with it.
    story.boot(|facts| facts.on_trial(D, 2, 3));
    story.user(SEVENTH, How::Rewrite, |facts| {
        facts.overlay(D, &[SEVENTH, SECOND, FIFTH]);
    });
    story.user(SIXTH, How::New, |facts| {
        facts.overlay(D, &[SEVENTH, SECOND, FIFTH, SIXTH]);
    });
    story.command(&["rollback"], "cancelled-trial", |facts| {
        facts.runs_good(1);
        facts.logged("cancelled", D);
    });
    story.boot(|facts| facts.runs_good(2));
    story.command(&["bless"], "good", |facts| {
        facts.runs_good(0);
        facts.logged("blessed", A);
    });
}

fn altered_fallback(story: &mut Story, releases: &Path) {
    story.step(
        "somebody writes into the fallback",
        Action::Alter(B),
        Again::Never,
        |facts| {
            facts.altered.insert(B);
        },
    );
    story.receive(releases, B, |facts| {
        facts.altered.clear();
        facts.logged("repaired", B);
    });
}

fn tries_used_up(story: &mut Story) {
    let anew = [FIRST, SECOND, FIFTH, OF_D];
    story.command(&["stage", D], "on-trial", |facts| {
        facts.on_trial(D, 3, 3);
        facts.trial_overlay(D, &anew);
        // It was tried before: what the user wrote then is set aside, not lost.
        facts.overlay(D_ASIDE, &[SEVENTH, SECOND, FIFTH, SIXTH]);
        facts.plans.insert(D);
        facts.logged("staged", D);
    });
    story.boot(|facts| facts.on_trial(D, 2, 3));
    let spent = |unblessed| Boot::Good {
        version: A,
        unblessed,
        exhausted: Some(D),
    };
    story.boot(|facts| {
        facts.on_trial(D, 1, 3);
        facts.boots.push(spent(1));
    });
    story.boot(|facts| {
        facts.on_trial(D, 0, 3);
        facts.boots = vec![spent(1), spent(2)];
    });
    story.boot(|facts| {
        facts.quarantine.insert(D);
        facts.runs_good(1);
        // What a boot sets aside is durable once something after it is. Where it is
        // not, the version's own overlay still holds what the try left.
        facts.overlay(failed(D), &anew);
        facts.perhaps.remove(failed(D));
    });
    story.command(&["bless"], "good", |facts| {
        facts.runs_good(0);
        facts.logged("blessed", A);
    });
}

fn pruned(story: &mut Story) {
    story.command(&["pin", D], "pinned", |facts| {
        facts.pins.insert(D);
        facts.logged("pinned", D);
    });
    // Good, fallback, what is pinned, and the newest that is of use stay; plans of
    // what is not on trial have served.
    story.command(&["prune", "--keep=1"], "pruned", |facts| {
        facts.plans.clear();
    });
    story.command(&["prune", "--keep=1"], "nothing-to-do", |_| ());
    story.command(&["unpin", D], "unpinned", |facts| {
        facts.pins.remove(D);
        facts.logged("unpinned", D);
    });
    story.command(&["prune", "--keep=1"], "pruned", |facts| {
        facts.versions.remove(D);
        facts.no_overlay(D);
        facts.no_overlay(D_ASIDE);
        facts.no_overlay(failed(D));
        facts.logged("pruned", D);
    });
}

/// What was blessed last is good again; what only the record knew is forgotten.
fn lost_record(story: &mut Story) {
    story.step(
        "every copy of the record is lost",
        Action::Damage(&["record.0", "record.1", "record.blessed"]),
        Again::Never,
        |facts| {
            facts.quarantine.clear();
            facts.floor = 0;
        },
    );
    story.boot(|facts| facts.runs_good(1));
    story.command(&["bless"], "good", |facts| {
        facts.runs_good(0);
        facts.logged("blessed", A);
    });
}

fn fallen_back(story: &mut Story) {
    let fallback = |unblessed| Boot::Fallback {
        version: B,
        unblessed,
    };
    for unblessed in 1..=5 {
        story.boot(|facts| {
            facts.runs_good(unblessed);
            // Five boots of good in a row without a verdict are enough.
            match unblessed {
                4 => facts.boots[1] = fallback(1),
                5 => facts.boots = vec![fallback(1), fallback(2)],
                _ => {}
            }
        });
    }
    story.boot(|facts| facts.boots = vec![fallback(2), fallback(3)]);
    story.command(&["bless"], "fallback", |facts| {
        facts.good = Some(B);
        facts.fallback = None;
        facts.runs_good(0);
        facts.floor = 1;
        facts.logged("blessed", B);
    });
}
