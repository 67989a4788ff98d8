use super::*;

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// A record of so many seconds after 1970, which systemd-pstore leaves as
    /// they are.
    fn put(&self, path: &str, time: i64, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let at = rustix::fs::Timestamps {
            last_access: rustix::time::Timespec::default(),
            last_modification: rustix::time::Timespec {
                tv_sec: time,
                tv_nsec: 0,
            },
        };
        rustix::fs::utimensat(rustix::fs::CWD, &path, &at, rustix::fs::AtFlags::empty()).unwrap();
    }

    fn panics(&self) -> Vec<Panicked> {
        panics(|path| self.path(path), 0)
    }
}

fn part(event: &str, number: u32, text: &str) -> String {
    format!("{event} Part{number}\n{text}")
}

const OOPS: &str = "<4>[    9.1] one\n<0>[    9.2] Kernel panic - not syncing: Fatal exception\u{1b}[1m in interrupt\n";

#[test]
fn parts_are_put_together_end_last() {
    // As EFI names them: time, part and count in one number.
    for (dir, names) in [
        (
            LIVE.to_owned(),
            [
                "dmesg-efi_pstore-170000000001001",
                "dmesg-efi_pstore-170000000002001",
                "dmesg-efi_pstore-170000000103001",
            ],
        ),
        // 252, and later.
        (
            format!("{ARCHIVE}/7250923"),
            [
                "dmesg-erst-7250923000001",
                "dmesg-erst-7250923000002",
                "dmesg-erst-7250923000003",
            ],
        ),
        (
            format!("{ARCHIVE}/1700000000/001"),
            [
                "dmesg-efi-170000000001001",
                "dmesg-efi-170000000002001",
                "dmesg-efi-170000000003001",
            ],
        ),
    ] {
        let host = Host::new();
        for (number, (name, text)) in names
            .into_iter()
            .zip([OOPS, "middle\n", "begin\n"])
            .enumerate()
        {
            let number = u32::try_from(number).unwrap() + 1;
            host.put(
                &format!("{dir}/{name}"),
                100,
                &part("Panic#1", number, text),
            );
        }
        host.put(&format!("{dir}/dmesg.txt"), 100, "joined");
        host.put(&format!("{dir}/console-ramoops-0"), 100, "console");
        host.put(
            &format!("{dir}/dmesg-efi_pstore-170000000004001.enc.z"),
            100,
            "packed",
        );
        let found = host.panics();
        assert_eq!(found.len(), 1, "{dir}: {found:#?}");
        assert_eq!(found[0].text, format!("begin\nmiddle\n{OOPS}"), "{dir}");
        assert_eq!(found[0].message, "Fatal exception[1m in interrupt");
        assert!(found[0].is_recent && found[0].id.len() == 16);
    }
}

#[test]
fn panics_of_different_boots_stay_apart_and_in_order() {
    let host = Host::new();
    // Left by three boots that never came as far as moving them; the numbers of
    // the events begin anew with each.
    let mut id = 50;
    for (time, text) in [(300, "third"), (100, "first"), (200, "second")] {
        for number in 1..=2 {
            id += 1;
            let text = part("Panic#1", number, &format!("{text} {number}\n"));
            // ERST counts on, whatever the clock says.
            host.put(&format!("{LIVE}/dmesg-erst-{}", time + id), time, &text);
        }
    }
    // ramoops has one part only.
    host.put(
        &format!("{ARCHIVE}/dmesg-ramoops-0"),
        50,
        &part("Panic#1", 1, "oldest\n"),
    );
    let found: Vec<_> = host.panics().into_iter().map(|found| found.text).collect();
    assert_eq!(
        found,
        [
            "oldest\n",
            "first 2\nfirst 1\n",
            "second 2\nsecond 1\n",
            "third 2\nthird 1\n"
        ]
    );
}

#[test]
fn an_oops_that_the_kernel_lived_through_is_no_panic() {
    let host = Host::new();
    host.put(
        &format!("{LIVE}/dmesg-erst-1"),
        1,
        &part("Oops#1", 1, "BUG: unable\n"),
    );
    host.put(
        &format!("{LIVE}/dmesg-erst-2"),
        1,
        &part("Shutdown#1", 1, "reboot\n"),
    );
    host.put(&format!("{LIVE}/dmesg-erst-3"), 1, "");
    host.put(&format!("{LIVE}/dmesg-erst-4"), 1, "no header\n");
    assert_eq!(host.panics(), []);
    // Without a header the kernel's words are enough.
    host.put(&format!("{LIVE}/dmesg-erst-5"), 1, OOPS);
    assert_eq!(host.panics().len(), 1);
}

#[test]
fn one_that_was_copied_and_stayed_is_one() {
    let host = Host::new();
    let text = part("Panic#1", 1, OOPS);
    host.put(&format!("{LIVE}/dmesg-erst-8"), 9, &text);
    host.put(&format!("{ARCHIVE}/8/dmesg-erst-8"), 9, &text);
    assert_eq!(host.panics().len(), 1);
}

#[test]
fn what_was_archived_before_this_boot_is_not_recent() {
    let host = Host::new();
    host.put(
        &format!("{ARCHIVE}/8/dmesg-erst-8"),
        9,
        &part("Panic#1", 1, "a\n"),
    );
    host.put(
        &format!("{LIVE}/dmesg-erst-9"),
        9,
        &part("Panic#1", 1, "b\n"),
    );
    let began = fs::metadata(host.path(ARCHIVE)).unwrap().ctime() + 100;
    let recent: Vec<_> = panics(|path| host.path(path), began)
        .into_iter()
        .map(|found| (found.text, found.is_recent))
        .collect();
    assert_eq!(
        recent,
        [("a\n".to_owned(), false), ("b\n".to_owned(), true)]
    );
}

#[test]
fn neither_links_nor_depth_nor_size_lead_astray() {
    let host = Host::new();
    let deep = format!("{ARCHIVE}/1/2/3/4");
    host.put(
        &format!("{deep}/dmesg-erst-1"),
        1,
        &part("Panic#1", 1, "deep\n"),
    );
    host.put(
        "/elsewhere/dmesg-erst-1",
        1,
        &part("Panic#1", 1, "linked\n"),
    );
    fs::create_dir_all(host.path(LIVE)).unwrap();
    let link =
        |to: &str, at: &str| std::os::unix::fs::symlink(host.path(to), host.path(at)).unwrap();
    link("/elsewhere", &format!("{ARCHIVE}/link"));
    link("/elsewhere/dmesg-erst-1", &format!("{LIVE}/dmesg-erst-2"));
    let long = part("Panic#1", 1, &"x".repeat(PART_MAX));
    host.put(&format!("{LIVE}/dmesg-erst-3"), 1, &long);
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        host.path(LIVE).join("dmesg-erst-4"),
        rustix::fs::Mode::RUSR,
    )
    .unwrap();
    assert_eq!(host.panics(), []);
}

#[test]
fn a_kernel_without_a_place_for_it_keeps_no_panics() {
    let host = Host::new();
    assert!(!keeps_panics(|path| host.path(path)));
    for (text, expected) in [("(null)\n", false), ("", false), ("erst\n", true)] {
        host.put(BACKEND, 0, text);
        assert_eq!(keeps_panics(|path| host.path(path)), expected, "{text:?}");
    }
}
