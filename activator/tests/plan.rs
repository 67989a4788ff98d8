//! Carrying out a plan on a copied overlay: each action, where it is refused,
//! and what a hostile tree can't do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use op_dbus_activator::activation::Activation;
use op_dbus_activator::overlay::plan::{Action, Entry, Plan};
use op_dbus_activator::overlay::{Begin, entry};
use op_dbus_bootstate::Digest;

mod common;
use common::{Device, is_root};

const GOOD: &str = "v1.1.0";
const TRIAL: &str = "v1.2.0";

/// What `Device::publish` gives as digest.
fn digest(version: &str) -> Digest {
    let mut digest = [0; 32];
    digest[..version.len()].copy_from_slice(version.as_bytes());
    Digest(digest)
}

/// What is done to the overlay of good, below a directory of the fixture.
type Change<'a> = &'a dyn Fn(&Path);

/// A device whose good version has an overlay with changes; the trial's tree is
/// that of `common::publish` and what `publish` adds.
fn device(publish: Change<'_>, change: Change<'_>) -> Device {
    let device = Device::with_all();
    device.offline(|layout| {
        let tree = layout.deployment(&TRIAL.parse().unwrap());
        op_dbus_btrfs::set_read_only(&tree, false).unwrap();
        publish(&tree);
        op_dbus_btrfs::set_read_only(&tree, true).unwrap();
        let good = GOOD.parse().unwrap();
        op_dbus_btrfs::create_subvolume(&layout.overlay(&good)).unwrap();
        fs::create_dir(layout.upper(&good)).unwrap();
        change(&layout.upper(&good));
        op_dbus_btrfs::sync_filesystem(&tree).unwrap();
    });
    device.record(|record| {
        let trial = record.trial.as_mut().unwrap();
        trial.deployment.identity = identity(&device, TRIAL);
    });
    device
}

fn identity(device: &Device, version: &str) -> op_dbus_bootstate::Identity {
    // The store is mounted while a record is written.
    let path = device.layout.deployment(&version.parse().unwrap());
    op_dbus_activator::identity::of(&op_dbus_btrfs::info_of(&path).unwrap())
}

/// Writes the plan a linter would: of what is there now.
fn plan(device: &Device, entries: &[(&str, Action)]) {
    device.offline(|layout| {
        let upper = File::open(layout.upper(&GOOD.parse().unwrap())).unwrap();
        let plan = Plan {
            onto: digest(TRIAL),
            over: digest(GOOD),
            entries: entries
                .iter()
                .map(|&(path, action)| Entry {
                    path: path.into(),
                    action,
                    expected: entry::digest(upper.as_fd(), path.as_bytes()).unwrap(),
                })
                .collect(),
        };
        write(layout, &plan.encode().unwrap());
    });
}

fn write(layout: &op_dbus_activator::layout::Layout, bytes: &[u8]) {
    fs::create_dir_all(layout.plans_dir()).unwrap();
    fs::write(layout.plan(&TRIAL.parse().unwrap()), bytes).unwrap();
}

fn over(device: &Device, path: &str) -> PathBuf {
    device.layout.host("/usr/local/op-dbus").join(path)
}

fn read(device: &Device, path: &str) -> Option<String> {
    fs::read_to_string(over(device, path)).ok()
}

/// Boots the trial; how many entries were carried out, and what was left alone.
#[track_caller]
fn boot(device: &Device) -> (u32, Vec<String>) {
    let report = device.boot();
    assert_eq!(report.degraded, Vec::<String>::new(), "{report:?}");
    device.assert_runs_below(TRIAL);
    outcome(&report)
}

#[track_caller]
fn outcome(report: &Activation) -> (u32, Vec<String>) {
    let overlay = report.overlay.clone().unwrap();
    assert_eq!(overlay.origin, Begin::Carried);
    let plan = overlay.plan.unwrap();
    (plan.applied, plan.kept)
}

#[track_caller]
fn mknod(path: &Path) {
    let status = Command::new("mknod")
        .arg(path)
        .args(["c", "0", "0"])
        .status();
    assert!(status.unwrap().success());
}

fn opaque(path: &Path) {
    rustix::fs::setxattr(path, entry::OPAQUE, b"y", rustix::fs::XattrFlags::empty()).unwrap();
}

const NOTHING: Vec<String> = Vec::new();

#[test]
fn what_is_set_aside_stays_beside_and_the_versions_shows() {
    if !is_root() {
        return;
    }
    let device = device(
        &|tree| {
            fs::create_dir(tree.join("etc")).unwrap();
            for name in ["conf", "dir", "taken", "taken.mine", "link"] {
                fs::write(tree.join("etc").join(name), "new").unwrap();
            }
        },
        &|upper| {
            fs::create_dir_all(upper.join("etc/dir")).unwrap();
            for name in ["conf", "taken", "dir/file"] {
                fs::write(upper.join("etc").join(name), "mine").unwrap();
            }
            symlink("/etc/passwd", upper.join("etc/link")).unwrap();
        },
    );
    let all = ["etc/conf", "etc/dir", "etc/taken", "etc/link"];
    plan(&device, &all.map(|path| (path, Action::SetAside)));
    assert_eq!(boot(&device), (4, NOTHING));
    for name in all {
        assert_eq!(read(&device, name).as_deref(), Some("new"), "{name}");
    }
    for name in ["conf.mine", "dir.mine/file", "taken.mine-1"] {
        let path = format!("etc/{name}");
        assert_eq!(read(&device, &path).as_deref(), Some("mine"), "{name}");
    }
    // What the version has beside is the version's.
    assert_eq!(read(&device, "etc/taken.mine").as_deref(), Some("new"));
    let link = fs::read_link(over(&device, "etc/link.mine")).unwrap();
    assert_eq!(link, Path::new("/etc/passwd"));
    device.down();
    // Good's own is as it was.
    device.offline(|layout| {
        let upper = layout.upper(&GOOD.parse().unwrap());
        assert_eq!(fs::read(upper.join("etc/conf")).unwrap(), b"mine");
        assert!(upper.join("etc/conf.mine").symlink_metadata().is_err());
    });
}

#[test]
fn what_was_hidden_shows_again() {
    if !is_root() {
        return;
    }
    let device = device(
        &|tree| {
            fs::create_dir(tree.join("etc")).unwrap();
            fs::write(tree.join("etc/new"), "new").unwrap();
            fs::write(tree.join("gone"), "back").unwrap();
        },
        &|upper| {
            fs::create_dir(upper.join("etc")).unwrap();
            opaque(&upper.join("etc"));
            fs::write(upper.join("etc/mine"), "mine").unwrap();
            fs::write(upper.join("plain"), "mine").unwrap();
            mknod(&upper.join("gone"));
        },
    );
    let all = ["etc", "gone", "plain"];
    plan(&device, &all.map(|path| (path, Action::Unhide)));
    let (applied, kept) = boot(&device);
    assert_eq!(applied, 2, "{kept:?}");
    // Nothing hides there: a file is not to be removed for that.
    assert!(kept[0].starts_with("plain: "), "{kept:?}");
    assert_eq!(read(&device, "plain").as_deref(), Some("mine"));
    assert_eq!(read(&device, "etc/new").as_deref(), Some("new"));
    assert_eq!(read(&device, "etc/mine").as_deref(), Some("mine"));
    assert_eq!(read(&device, "gone").as_deref(), Some("back"));
}

#[test]
fn what_is_offered_is_put_beside() {
    if !is_root() {
        return;
    }
    let device = device(
        &|tree| {
            fs::create_dir(tree.join("dir")).unwrap();
            for name in ["conf", "taken"] {
                fs::write(tree.join(name), "new").unwrap();
            }
            let mode = fs::Permissions::from_mode(0o4750);
            fs::set_permissions(tree.join("conf"), mode).unwrap();
            std::os::unix::fs::chown(tree.join("conf"), Some(7), Some(8)).unwrap();
            fs::set_permissions(tree.join("conf"), fs::Permissions::from_mode(0o4750)).unwrap();
            symlink("away", tree.join("link")).unwrap();
            fs::write(tree.join("large"), vec![7; 3 << 20]).unwrap();
        },
        &|upper| {
            for name in ["conf", "taken", "taken.new", "link", "dir", "large", "lost"] {
                fs::write(upper.join(name), "mine").unwrap();
            }
        },
    );
    let all = ["conf", "taken", "link", "dir", "large", "lost"];
    plan(&device, &all.map(|path| (path, Action::OfferNew)));
    let (applied, kept) = boot(&device);
    assert_eq!(applied, 4, "{kept:?}");
    assert!(kept[0].starts_with("dir: ") && kept[1].starts_with("lost: "));
    for name in all {
        assert_eq!(read(&device, name).as_deref(), Some("mine"), "{name}");
    }
    assert_eq!(read(&device, "conf.new").as_deref(), Some("new"));
    let conf = fs::metadata(over(&device, "conf.new")).unwrap();
    assert_eq!(
        (conf.uid(), conf.gid(), conf.mode() & 0o7777),
        (7, 8, 0o750)
    );
    assert_eq!(read(&device, "taken.new").as_deref(), Some("mine"));
    assert_eq!(read(&device, "taken.new-1").as_deref(), Some("new"));
    let link = fs::read_link(over(&device, "link.new")).unwrap();
    assert_eq!(link, Path::new("away"));
    // Shared with the version's, not copied.
    let large = File::open(over(&device, "large.new")).unwrap();
    assert_eq!(large.metadata().unwrap().len(), 3 << 20);
    device.down();
    device.offline(|layout| {
        let upper = layout.upper(&TRIAL.parse().unwrap());
        let large = File::open(upper.join("large.new")).unwrap();
        assert_eq!(op_dbus_btrfs::unshared_bytes(&large).unwrap(), 0);
    });
}

#[test]
fn offers_do_not_add_up_unless_somebody_touched_them() {
    if !is_root() {
        return;
    }
    let device = device(
        &|tree| fs::write(tree.join("conf"), "new").unwrap(),
        &|upper| fs::write(upper.join("conf"), "mine").unwrap(),
    );
    for edited in [false, false, true, false] {
        if edited {
            device.offline(|layout| {
                let upper = layout.upper(&GOOD.parse().unwrap());
                fs::write(upper.join("conf.new"), "merged by hand").unwrap();
            });
        }
        again(&device);
        plan(&device, &[("conf", Action::OfferNew)]);
        assert_eq!(boot(&device), (1, NOTHING));
        device.down();
        // The trial is blessed, and its overlay the next one's beginning.
        device.offline(|layout| {
            let [good, trial] =
                [GOOD, TRIAL].map(|version| layout.overlay(&version.parse().unwrap()));
            op_dbus_btrfs::delete_subvolume(&good).unwrap();
            op_dbus_btrfs::snapshot(&trial, &good, false).unwrap();
            op_dbus_btrfs::delete_subvolume(&trial).unwrap();
        });
    }
    device.offline(|layout| {
        let upper = layout.upper(&GOOD.parse().unwrap());
        let text = |name: &str| fs::read_to_string(upper.join(name)).unwrap();
        assert_eq!(text("conf"), "mine");
        assert_eq!(text("conf.new"), "merged by hand");
        assert_eq!(text("conf.new-1"), "new");
        assert_eq!(fs::read_dir(upper).unwrap().count(), 3);
    });
}

#[test]
fn owner_and_mode_are_taken_and_the_content_stays() {
    if !is_root() {
        return;
    }
    let device = device(
        &|tree| {
            fs::write(tree.join("conf"), "new").unwrap();
            fs::create_dir(tree.join("dir")).unwrap();
            std::os::unix::fs::chown(tree.join("conf"), Some(7), Some(8)).unwrap();
            fs::set_permissions(tree.join("conf"), fs::Permissions::from_mode(0o2640)).unwrap();
            fs::set_permissions(tree.join("dir"), fs::Permissions::from_mode(0o1777)).unwrap();
            fs::write(tree.join("other"), "new").unwrap();
        },
        &|upper| {
            fs::write(upper.join("conf"), "mine").unwrap();
            fs::create_dir(upper.join("dir")).unwrap();
            symlink("conf", upper.join("other")).unwrap();
        },
    );
    let all = ["conf", "dir", "other"];
    plan(&device, &all.map(|path| (path, Action::TakeOwner)));
    let (applied, kept) = boot(&device);
    assert_eq!((applied, kept.len()), (2, 1), "{kept:?}");
    let meta = |name| fs::metadata(over(&device, name)).unwrap();
    let conf = meta("conf");
    assert_eq!(
        (conf.uid(), conf.gid(), conf.mode() & 0o7777),
        (7, 8, 0o2640)
    );
    assert_eq!(read(&device, "conf").as_deref(), Some("mine"));
    assert_eq!(meta("dir").mode() & 0o7777, 0o1777);
}

#[test]
fn what_has_changed_since_is_left_alone() {
    if !is_root() {
        return;
    }
    let changes: [(&str, Change<'_>); 5] = [
        ("content", &|path| fs::write(path, "later").unwrap()),
        ("mode", &|path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("owner", &|path| {
            std::os::unix::fs::chown(path, Some(5), None).unwrap();
        }),
        ("kind", &|path| {
            fs::remove_file(path).unwrap();
            symlink("mine", path).unwrap();
        }),
        ("gone", &|path| fs::remove_file(path).unwrap()),
    ];
    for (what, change) in changes {
        let device = device(
            &|tree| fs::write(tree.join("conf"), "new").unwrap(),
            &|upper| fs::write(upper.join("conf"), "mine").unwrap(),
        );
        plan(&device, &[("conf", Action::SetAside)]);
        device.offline(|layout| change(&layout.upper(&GOOD.parse().unwrap()).join("conf")));
        let (applied, kept) = boot(&device);
        assert_eq!((applied, kept.len()), (0, 1), "{what}: {kept:?}");
        assert!(over(&device, "conf.mine").symlink_metadata().is_err());
    }
}

#[test]
fn no_entry_leads_out_of_the_overlay() {
    if !is_root() {
        return;
    }
    let device = device(
        &|tree| {
            fs::create_dir(tree.join("etc")).unwrap();
            fs::write(tree.join("etc/conf"), "new").unwrap();
        },
        &|upper| {
            fs::create_dir(upper.join("real")).unwrap();
            fs::write(upper.join("real/conf"), "mine").unwrap();
            // The way to it is a symlink now, to what has the same digest.
            fs::create_dir(upper.join("etc")).unwrap();
            fs::write(upper.join("etc/conf"), "mine").unwrap();
            fs::write(upper.join("new\nline"), "mine").unwrap();
            let made = Command::new("mkfifo").arg(upper.join("fifo")).status();
            assert!(made.unwrap().success());
        },
    );
    let all = ["etc/conf", "new\nline", "fifo"];
    plan(&device, &all.map(|path| (path, Action::SetAside)));
    device.offline(|layout| {
        let upper = layout.upper(&GOOD.parse().unwrap());
        fs::rename(upper.join("etc"), upper.join("was")).unwrap();
        symlink("real", upper.join("etc")).unwrap();
    });
    let (applied, kept) = boot(&device);
    assert_eq!((applied, kept.len()), (2, 1), "{kept:?}");
    assert_eq!(read(&device, "real/conf").as_deref(), Some("mine"));
    assert!(over(&device, "fifo.mine").symlink_metadata().is_ok());
    assert_eq!(read(&device, "new\nline.mine").as_deref(), Some("mine"));
}

#[test]
fn what_is_kept_is_reported_within_bounds() {
    if !is_root() {
        return;
    }
    let device = device(&|_| {}, &|upper| {
        fs::create_dir_all(upper.join("a\nb")).unwrap();
        for number in 0..40 {
            fs::write(upper.join(format!("a\nb/{number}")), "mine").unwrap();
        }
    });
    let paths: Vec<_> = (0..40).map(|number| format!("a\nb/{number}")).collect();
    // The version has nothing of it.
    let all: Vec<_> = paths
        .iter()
        .map(|path| (path.as_str(), Action::OfferNew))
        .collect();
    plan(&device, &all);
    let report = device.boot();
    let plan = report.overlay.unwrap().plan.unwrap();
    assert_eq!((plan.applied, plan.kept.len(), plan.more), (0, 16, 24));
    assert!(plan.kept[0].starts_with("a?b/0: "), "{plan:?}");
}

#[test]
fn a_plan_that_is_none_or_another_changes_nothing() {
    if !is_root() {
        return;
    }
    let device = device(
        &|tree| fs::write(tree.join("conf"), "new").unwrap(),
        &|upper| fs::write(upper.join("conf"), "mine").unwrap(),
    );
    plan(&device, &[("conf", Action::SetAside)]);
    let path = |layout: &op_dbus_activator::layout::Layout| layout.plan(&TRIAL.parse().unwrap());
    let good = device.offline(|layout| fs::read(path(layout)).unwrap());
    let other = |change: &dyn Fn(&mut Plan)| {
        let mut plan = Plan::decode(&good).unwrap();
        change(&mut plan);
        plan.encode().unwrap()
    };
    let mut torn = good.clone();
    torn.truncate(60);
    for bytes in [
        torn,
        Vec::new(),
        vec![0; 2 << 20],
        other(&|plan| plan.onto = digest("v9.0.0")),
        other(&|plan| plan.over = digest("v9.0.0")),
    ] {
        device.offline(|layout| write(layout, &bytes));
        again(&device);
        let (applied, kept) = boot(&device);
        assert_eq!((applied, kept.len()), (0, 1));
        assert!(kept[0].starts_with("(plan): "), "{kept:?}");
        assert_eq!(read(&device, "conf").as_deref(), Some("mine"));
        device.down();
    }
    // Neither a FIFO nor a symlink in its place holds up a boot.
    device.offline(|layout| {
        fs::remove_file(path(layout)).unwrap();
        let made = Command::new("mkfifo").arg(path(layout)).status();
        assert!(made.unwrap().success());
    });
    again(&device);
    assert_eq!(boot(&device).0, 0);
    device.down();
    device.offline(|layout| {
        fs::remove_file(path(layout)).unwrap();
        symlink("/dev/zero", path(layout)).unwrap();
    });
    again(&device);
    assert_eq!(boot(&device).0, 0);
}

/// The trial's first boot is to come once more.
fn again(device: &Device) {
    device.record(|record| {
        record.last_boot = None;
        let trial = record.trial.as_mut().unwrap();
        (trial.attempts, trial.tries_left) = (0, 3);
    });
}
