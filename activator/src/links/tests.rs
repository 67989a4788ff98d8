use super::*;
use std::fs;
use std::os::unix::fs::symlink;

struct Host {
    dir: tempfile::TempDir,
    layout: Layout,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let layout = Layout::new(dir.path().join("run"), &root);
        fs::create_dir_all(root.join("usr/local/bin")).unwrap();
        fs::create_dir_all(layout.boot_dir()).unwrap();
        Self { dir, layout }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.layout.host(Path::new("/usr/local/bin").join(name))
    }

    /// What a version that is mounted has.
    fn version(&self, names: &[&str]) {
        for mount in ["/opt/op-dbus", "/usr/local/op-dbus"] {
            let bin = self.layout.host(mount).join("bin");
            let _ = fs::remove_dir_all(&bin);
            fs::create_dir_all(&bin).unwrap();
            for name in names {
                fs::write(bin.join(name), "").unwrap();
            }
        }
    }

    fn list(&self, names: &[&str]) {
        let links = names
            .iter()
            .map(|name| Path::new("/usr/local/bin").join(name))
            .collect();
        let list = List { links };
        fs::write(
            self.layout.store.join("links.json"),
            serde_json::to_vec(&list).unwrap(),
        )
        .unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at("")).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn reconcile(&self, names: &[&str]) -> Vec<Done> {
        let mut text = "[store]\ndevice = \"/dev/vda\"\n".to_owned();
        for name in names {
            let section = "[[link]]\npath = \"/usr/local/bin/NAME\"\ntarget = \"bin/NAME\"\n";
            text += &section.replace("NAME", name);
        }
        let config = Config::parse(&text).unwrap();
        reconcile(&self.layout, &config)
            .into_iter()
            .map(|(_, done)| done)
            .collect()
    }
}

#[test]
fn links_are_made_kept_and_taken_away() {
    let host = Host::new();
    assert_eq!(host.reconcile(&["a", "b"]), [Done::Made, Done::Made]);
    let target = fs::read_link(host.at("a")).unwrap();
    assert_eq!(target, Path::new("/usr/local/op-dbus/bin/a"));
    assert_eq!(host.reconcile(&["a", "b"]), [Done::Kept, Done::Kept]);
    assert_eq!(host.reconcile(&["a"]), [Done::Kept, Done::Removed]);
    assert!(host.at("b").symlink_metadata().is_err());
    assert_eq!(host.reconcile(&[]), [Done::Removed]);
    assert_eq!(host.reconcile(&[]), []);
    assert_eq!(fs::read_dir(host.at("")).unwrap().count(), 0);
}

#[test]
fn a_link_of_ours_that_points_elsewhere_is_turned() {
    let host = Host::new();
    symlink("/opt/op-dbus/bin/old", host.at("a")).unwrap();
    symlink("/usr/local/op-dbus/bin/a", host.at(".op-dbus-a")).unwrap();
    assert_eq!(host.reconcile(&["a"]), [Done::Made]);
    let target = fs::read_link(host.at("a")).unwrap();
    assert_eq!(target, Path::new("/usr/local/op-dbus/bin/a"));
    assert_eq!(fs::read_dir(host.at("")).unwrap().count(), 1);
}

#[test]
fn foreign_things_are_never_touched() {
    let host = Host::new();
    fs::write(host.at("file"), "mine").unwrap();
    fs::create_dir(host.at("dir")).unwrap();
    symlink("/usr/bin/true", host.at("link")).unwrap();
    symlink("/opt/op-dbus/../../etc/passwd", host.at("dots")).unwrap();
    let names = ["file", "dir", "link", "dots", "gone/x"];
    for done in host.reconcile(&names) {
        assert!(matches!(done, Done::Refused(_)), "{done:?}");
    }
    assert!(host.at("gone").symlink_metadata().is_err());
    host.reconcile(&[]);
    assert_eq!(fs::read(host.at("file")).unwrap(), b"mine");
    for name in ["dir", "link", "dots"] {
        assert!(host.at(name).symlink_metadata().is_ok(), "{name}");
    }
}

#[test]
fn an_absolute_link_on_the_way_stays_below_the_root() {
    let host = Host::new();
    let outside = host.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir(host.at("")).unwrap();
    symlink(&outside, host.layout.host("/usr/local/bin")).unwrap();
    assert!(matches!(
        host.reconcile(&["a"]).as_slice(),
        [Done::Refused(_)]
    ));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_link_comes_and_goes_with_its_target() {
    let host = Host::new();
    host.version(&["a", "b"]);
    assert_eq!(host.reconcile(&["a", "b"]), [Done::Made, Done::Made]);
    host.version(&["b", "c"]);
    let done = host.reconcile(&["a", "b", "c"]);
    assert_eq!(done, [Done::Removed, Done::Kept, Done::Made]);
    // Wanted by the configuration, so it is said at every boot.
    let done = host.reconcile(&["a", "b", "c"]);
    assert_eq!(
        done[0],
        Done::Refused("the version has no /usr/local/op-dbus/bin/a".to_owned())
    );
    host.version(&["a"]);
    let done = host.reconcile(&["a", "b", "c"]);
    assert_eq!(done, [Done::Made, Done::Removed, Done::Removed]);
    assert_eq!(host.names(), ["a"]);
    // Something foreign is nobody's to remove.
    fs::write(host.at("b"), "mine").unwrap();
    assert!(matches!(host.reconcile(&["b"])[0], Done::Refused(_)));
    assert_eq!(host.names(), ["b"]);
}

#[test]
fn without_a_version_links_stay() {
    let host = Host::new();
    host.version(&["a"]);
    host.reconcile(&["a"]);
    for mount in ["/opt/op-dbus", "/usr/local/op-dbus"] {
        fs::remove_dir_all(host.layout.host(mount).join("bin")).unwrap();
    }
    assert_eq!(host.reconcile(&["a"]), [Done::Kept]);
    assert_eq!(host.reconcile(&[]), [Done::Removed]);
}

/// Whatever a power cut left, one run brings it in line, and nothing of ours
/// outlives the wish for it.
#[test]
fn every_state_a_power_cut_leaves_is_mended() {
    let old = "/opt/op-dbus/bin/a";
    let new = "/usr/local/op-dbus/bin/a";
    let states: &[(&[&str], Option<&str>, Option<&str>)] = &[
        (&["a"], None, None),
        (&["a"], Some(new), None),
        (&["a"], Some(old), None),
        (&["a"], Some(old), Some(new)),
        (&["a"], Some(old), Some(old)),
        (&["a"], Some(new), Some(new)),
        (&["a"], None, Some(new)),
        (&["a", "gone"], Some(new), None),
    ];
    for (list, link, hidden) in states {
        for stays in [true, false] {
            let host = Host::new();
            host.list(list);
            for (name, target) in [("a", link), (".op-dbus-a", hidden)] {
                if let Some(target) = target {
                    symlink(target, host.at(name)).unwrap();
                }
            }
            let case = format!("{list:?} {link:?} {hidden:?} {stays}");
            if stays {
                host.reconcile(&["a"]);
                assert_eq!(
                    fs::read_link(host.at("a")).unwrap(),
                    Path::new(new),
                    "{case}"
                );
                assert_eq!(host.names(), ["a"], "{case}");
            } else {
                host.reconcile(&[]);
                assert_eq!(host.names(), [""; 0], "{case}");
            }
        }
    }
}

#[test]
fn a_list_that_is_damaged_costs_nothing_but_memory() {
    for list in ["", "{", "{\"links\":[\"../etc/passwd\",\"/\",\"\"]}", "[]"] {
        let host = Host::new();
        fs::write(host.layout.store.join("links.json"), list).unwrap();
        assert_eq!(host.reconcile(&["a"]).last(), Some(&Done::Made), "{list}");
        host.reconcile(&[]);
        assert_eq!(host.names(), [""; 0], "{list}");
    }
}

#[test]
fn a_foreign_thing_in_the_hidden_place_is_not_touched() {
    let host = Host::new();
    symlink("/opt/op-dbus/bin/old", host.at("a")).unwrap();
    fs::create_dir(host.at(".op-dbus-a")).unwrap();
    assert!(matches!(host.reconcile(&["a"])[0], Done::Refused(_)));
    assert_eq!(host.names(), [".op-dbus-a", "a"]);
    assert_eq!(
        fs::read_dir(host.at(".op-dbus-a")).unwrap().count(),
        0,
        "nothing nested"
    );
}
