//! What becomes of the user's changes where a version brings its own: the later
//! chapters of the story. By hand, from the rules in docs/OVERLAYS.md.

use std::path::Path;

use super::steps::{A, B, C, C_ASIDE, E, FOURTH, OF_B, OVERLAY_OF_C, SECOND, Story, THIRD};
use super::{BOTH, GONE, How, OWNER, OWNER_MODE, REMOVED};
use crate::facts::{Boot, failed};

type File = (&'static str, &'static str);

const MY_BOTH: File = (BOTH, "both, by the user\n");
const MY_GONE: File = (GONE, REMOVED);
const MY_OWNER: File = (OWNER, "nobody but the user's\n");

/// What the user has over v1.1.0 before v1.4.0 is staged.
const OVER_B: [File; 8] = [
    FOURTH,
    SECOND,
    OF_B,
    THIRD,
    MY_BOTH,
    MY_GONE,
    MY_OWNER,
    (OWNER_MODE, "600"),
];

/// What v1.4.0 finds of that, once the plan was carried out: the user's
/// configuration stays, and beside it lies the version's, in place of the one of
/// v1.1.0 that nobody had touched; of the three files where the version is to win, one of
/// the user's is beside the version's, the one that was removed is there again,
/// and one has the version's mode.
const OVER_E: [File; 7] = [
    FOURTH,
    SECOND,
    ("share/app/app.conf.new", "this is v1.4.0\n"),
    THIRD,
    ("share/app/taken/both.mine", MY_BOTH.1),
    MY_OWNER,
    (OWNER_MODE, "640"),
];

const EIGHTH: File = (BOTH, "both, by the user once more\n");
const NINTH: File = ("user/ninth", "over v1.1.0 while it was fallback\n");
const TENTH: File = ("user/tenth", "over an empty v1.2.0\n");
const ELEVENTH: File = ("user/eleventh", "over v1.4.0 once it was good\n");

fn and(files: &[File], more: &[File]) -> Vec<File> {
    [files, more].concat()
}

/// All that a plan can ask for, at the first and second try of a version.
pub(super) fn planned(story: &mut Story, releases: &Path) {
    story.receive(releases, E, |_| ());
    story.user(MY_BOTH, How::Rewrite, |facts| {
        facts.overlay(B, &OVER_B[..5]);
    });
    story.user(MY_GONE, How::Remove, |facts| {
        facts.overlay(B, &OVER_B[..6]);
    });
    story.user(MY_OWNER, How::Rewrite, |facts| facts.overlay(B, &OVER_B));
    story.command(&["stage", E], "on-trial", |facts| {
        facts.on_trial(E, 3, 3);
        facts.trial_overlay(E, &OVER_E);
        facts.plans.insert(E);
        facts.logged("staged", E);
    });
    story.boot(|facts| facts.on_trial(E, 2, 3));
    let tried = and(&OVER_E, &[EIGHTH]);
    story.user(EIGHTH, How::Rewrite, |facts| {
        facts.failed_with(E, &tried, &OVER_E);
    });
    story.boot(|facts| {
        facts.on_trial(E, 1, 3);
        facts.boots.push(Boot::Good {
            version: B,
            unblessed: 1,
            exhausted: Some(E),
        });
        // Whichever of the two tries was the last one that is durable.
        facts.perhaps_failed(E, &[&tried, &OVER_E]);
    });
    story.command(&["bless"], "trial", |facts| {
        facts.good = Some(E);
        facts.fallback = Some(B);
        facts.runs_good(0);
        // That of the try before.
        facts.overlay(failed(E), &tried);
        facts.perhaps.remove(failed(E));
        facts.logged("blessed", E);
    });
    story.user(ELEVENTH, How::New, |facts| {
        facts.overlay(E, &and(&OVER_E, &[ELEVENTH]));
    });
}

/// The fallback, staged as if it were new, keeps what the user has over it.
pub(super) fn fallback_again(story: &mut Story) {
    story.command(&["stage", B], "on-trial", |facts| {
        facts.on_trial(B, 3, 3);
        facts.logged("staged", B);
    });
    story.boot(|facts| facts.on_trial(B, 2, 3));
    story.user(NINTH, How::New, |facts| {
        facts.overlay(B, &and(&OVER_B, &[NINTH]));
    });
    story.boot(|facts| {
        facts.on_trial(B, 1, 3);
        // The last resort is not put out of use by that.
        facts.boots.push(Boot::Good {
            version: E,
            unblessed: 1,
            exhausted: None,
        });
    });
    story.command(&["rollback"], "cancelled-trial", |facts| {
        facts.runs_good(0);
        facts.logged("cancelled", B);
    });
    story.boot(|facts| facts.runs_good(1));
    story.command(&["rollback"], "on-trial", |facts| {
        facts.on_trial(B, 3, 3);
        facts.logged("staged", B);
    });
    story.boot(|facts| facts.on_trial(B, 2, 3));
    story.command(&["cancel"], "cancelled", |facts| {
        facts.runs_good(1);
        facts.logged("cancelled", B);
    });
    story.boot(|facts| facts.runs_good(2));
    story.command(&["bless"], "good", |facts| {
        facts.runs_good(0);
        facts.logged("blessed", E);
    });
}

/// Trials that begin with nothing of the user's.
pub(super) fn fresh(story: &mut Story) {
    story.configure("trials begin with an empty overlay from now on", true);
    story.command(&["stage", C], "on-trial", |facts| {
        facts.on_trial(C, 3, 3);
        facts.trial_overlay(C, &[]);
        facts.overlay(C_ASIDE, &OVERLAY_OF_C);
        facts.logged("staged", C);
    });
    story.boot(|facts| facts.on_trial(C, 2, 3));
    story.user(TENTH, How::New, |facts| {
        facts.failed_with(C, &[TENTH], &[]);
    });
    story.command(&["orderly-shutdown"], "refunded", |facts| {
        facts.on_trial(C, 3, 2);
        facts.overlay(C, &[TENTH]);
        facts.overlay_later(C, &[]);
        facts.perhaps_failed(C, &[&[TENTH]]);
        // No boot reported on the one before it, whose shutdown was in order.
        facts.logged("ended", B);
        facts.logged("refunded", C);
    });
    story.boot(|facts| {
        facts.on_trial(C, 2, 2);
        facts.overlay(C, &[]);
        facts.failed_with(C, &[TENTH], &[]);
    });
    story.command(&["rollback"], "cancelled-trial", |facts| {
        facts.runs_good(0);
        facts.overlay(C, &[TENTH]);
        facts.no_overlay(failed(C));
        facts.logged("cancelled", C);
    });
    story.configure("trials begin with good's overlay again", false);
    story.boot(|facts| facts.runs_good(1));
    story.command(&["bless"], "good", |facts| {
        facts.runs_good(0);
        facts.logged("blessed", E);
    });
}

/// With the versions goes what belongs to them; and what a try of good left that
/// was discarded, now that good was blessed.
pub(super) fn pruned(story: &mut Story) {
    story.command(&["prune", "--keep=1"], "pruned", |facts| {
        for version in [A, C] {
            facts.versions.remove(version);
            facts.no_overlay(version);
            facts.logged("pruned", version);
        }
        facts.no_overlay(C_ASIDE);
        facts.no_overlay(failed(E));
        facts.plans.clear();
    });
}
