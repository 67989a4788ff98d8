use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::cpio::testing::{entry, file, trailer};
use super::*;
use crate::commands::check::testing::{found, host, put};
use crate::findings::Severity::{self, Error, Info, Ok, Warning};
use crate::settings::Settings;

const CONFIGURATION: &str = "[store]\ndevice = \"/dev/vda\"\n[health]\nunits = [\"a.service\"]\n";

fn said(text: &str) -> Said {
    Said {
        config: Config::parse(text).unwrap(),
        settings: Settings::default(),
        text: text.to_owned(),
    }
}

/// Contents by path.
type Files = Vec<(String, Vec<u8>)>;

/// What a healthy image holds.
fn healthy() -> Files {
    let path = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    vec![
        (ACTIVATOR[1..].to_owned(), b"activator".to_vec()),
        (CONFIG[1..].to_owned(), CONFIGURATION.into()),
        (path(UNIT), b"[Unit]\n".to_vec()),
        (
            "usr/lib/modules/6.1/kernel/fs/btrfs/btrfs.ko.xz".to_owned(),
            b"m".to_vec(),
        ),
        (
            "usr/lib/modules/6.1/kernel/fs/overlayfs/overlay.ko".to_owned(),
            b"m".to_vec(),
        ),
    ]
}

fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes: Vec<u8> = files
        .iter()
        .flat_map(|(name, content)| file(name, content))
        .collect();
    let wants = format!("etc/systemd/system/{}", String::from_utf8_lossy(WANTS));
    bytes.extend(entry(
        &wants,
        0o120_777,
        9,
        1,
        b"/usr/lib/systemd/system/op-dbus-initrd.service",
    ));
    bytes.extend(trailer());
    bytes
}

/// Through a program, if this machine has it.
fn compressed(program: &str, options: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new(program)
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Some(mut child) = child.ok() else {
        eprintln!("SKIPPED: no {program}");
        return None;
    };
    let mut pipe = child.stdin.take().unwrap();
    let bytes = bytes.to_owned();
    let feeder = std::thread::spawn(move || pipe.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}

fn device(at: &Path) -> Host {
    put(at, &format!("root{ACTIVATOR}"), "activator");
    put(at, "root/lib/modules/6.1/modules.dep", "");
    put(at, "proc/sys/kernel/osrelease", "6.1\n");
    host(at)
}

fn look(host: &Host, said: &Said) -> Vec<(Severity, String)> {
    found(|findings| check(host, said, findings))
}

#[test]
fn images_of_all_formats_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let host = device(dir.path());
    let mut early = [
        file("kernel/x86/microcode/GenuineIntel.bin", &[7; 5000]),
        trailer(),
    ]
    .concat();
    early.resize(early.len() + 1024, 0);
    let main = archive(&healthy());
    let mut formats = vec![
        ("plain", main.clone()),
        ("zstd", zstd::encode_all(main.as_slice(), 3).unwrap()),
    ];
    for (program, options) in [
        ("gzip", &["-c"][..]),
        ("xz", &["-c", "--check=crc32"]),
        ("xz", &["-c", "--format=lzma"]),
        ("lz4", &["-l", "-c"]),
        ("bzip2", &["-c"]),
        ("lzop", &["-c"]),
    ] {
        formats.extend(compressed(program, options, &main).map(|bytes| (program, bytes)));
    }
    for (name, bytes) in formats {
        for early in [&[][..], &early] {
            let image = [early, &bytes].concat();
            put(dir.path(), "root/boot/initrd.img-6.1", &image);
            let told = look(&host, &said(CONFIGURATION));
            assert_eq!(told.len(), 1, "{name}: {told:?}");
            assert_eq!(told[0].0, Ok, "{name}: {told:?}");

            put(
                dir.path(),
                "root/boot/initrd.img-6.1",
                &image[..image.len() - 600.min(bytes.len() / 2)],
            );
            let told = look(&host, &said(CONFIGURATION));
            assert!(
                told.len() == 1 && told[0].0 == Error,
                "{name}, cut short: {told:?}"
            );
        }
    }
}

#[test]
fn what_an_image_lacks_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let host = device(dir.path());
    let with = |change: &dyn Fn(&mut Files)| {
        let mut files = healthy();
        change(&mut files);
        put(dir.path(), "root/boot/initrd.img-6.1", archive(&files));
        let told = look(&host, &said(CONFIGURATION));
        assert_eq!(told.len(), 1, "{told:?}");
        told[0].clone()
    };
    assert_eq!(with(&|_| ()).0, Ok);
    for (index, words) in [
        (0, "activates nothing"),
        (1, "no configuration"),
        (2, "nothing that starts it"),
        (3, "no btrfs module"),
        (4, "no overlay module"),
    ] {
        let told = with(&|files| drop(files.remove(index)));
        assert!(told.0 == Error && told.1.contains(words), "{told:?}");
    }
    let stamp = |text: &str| {
        let text = text.to_owned();
        with(&move |files| {
            files[0].1 = b"stripped".to_vec();
            files.push((STAMP[1..].to_owned(), text.clone().into()));
        })
    };
    assert!(stamp("").1.contains("unknown version"));
    let digest = digest_of(&host).unwrap();
    assert_eq!(
        stamp(&format!(
            "activator-sha256={digest}\nactivator-version=0.1.0\n"
        ))
        .0,
        Ok
    );
    let other = "0".repeat(64);
    let told = stamp(&format!(
        "activator-sha256={other}\nactivator-version=0.0.1\n"
    ));
    assert!(
        told.0 == Error && told.1.contains("older activator (0.0.1)"),
        "{told:?}"
    );
    let told = stamp(&format!(
        "activator-sha256={other}\nactivator-version=99.0.0\n"
    ));
    assert!(
        told.0 == Warning && told.1.contains("another build"),
        "{told:?}"
    );
}

#[test]
fn only_what_a_boot_goes_by_makes_a_configuration_old() {
    let dir = tempfile::tempdir().unwrap();
    let host = device(dir.path());
    put(dir.path(), "root/boot/initrd.img-6.1", archive(&healthy()));
    for (text, severity, words) in [
        (
            CONFIGURATION.replace("a.service", "b.service"),
            Ok,
            "in nothing",
        ),
        (
            format!("{CONFIGURATION}[receive]\nproduct = \"x\"\n"),
            Ok,
            "in nothing",
        ),
        (
            format!("{CONFIGURATION}[limits]\ntries = 5\n"),
            Error,
            "another [limits]",
        ),
        (
            CONFIGURATION.replace("vda", "vdb"),
            Error,
            "another [store]",
        ),
    ] {
        let told = look(&host, &said(&text));
        let one = &told[0];
        assert!(one.0 == severity && one.1.contains(words), "{told:?}");
    }
    let mut files = healthy();
    files[1].1 = b"[store]\ndevice = 5\n".to_vec();
    put(dir.path(), "root/boot/initrd.img-6.1", archive(&files));
    let told = look(&host, &said(CONFIGURATION));
    assert!(told[0].1.contains("with a mistake"), "{told:?}");
}

#[test]
fn every_kernel_s_image_is_looked_at_and_old_ones_are_only_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let host = device(dir.path());
    for release in ["5.15", "6.2"] {
        put(
            dir.path(),
            &format!("root/lib/modules/{release}/modules.dep"),
            "",
        );
    }
    put(dir.path(), "root/boot/initrd.img-6.1", archive(&healthy()));
    put(dir.path(), "root/boot/initrd.img-6.2", archive(&[]));
    put(dir.path(), "root/boot/initrd.img-5.15", archive(&[]));
    let told = look(&host, &said(CONFIGURATION));
    let short: Vec<_> = told
        .iter()
        .map(|(severity, text)| (*severity, text.contains("no activator")))
        .collect();
    assert_eq!(
        short,
        [(Error, true), (Ok, false), (Warning, true)],
        "{told:?}"
    );
    fs::remove_file(dir.path().join("root/boot/initrd.img-6.2")).unwrap();
    assert!(
        look(&host, &said(CONFIGURATION))[0]
            .1
            .contains("none of kernel 6.2")
    );
    let generator = format!("{CONFIGURATION}[activation]\nway = \"generator\"\n");
    let told = look(&host, &said(&generator));
    assert_eq!((told.len(), told[0].0), (1, Info));
}

#[test]
fn hostile_images_end_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let host = device(dir.path());
    let path = dir.path().join("root/boot/initrd.img-6.1");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let began = Instant::now();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(look(&host, &said(CONFIGURATION))[0].0, Error);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert_eq!(look(&host, &said(CONFIGURATION))[0].0, Error);
    fs::remove_file(&path).unwrap();
    for bytes in [
        &b"garbage"[..],
        b"\x1f\x8bgarbage",
        b"\x28\xb5\x2f\xfdgarbage",
        b"070701garbage",
    ] {
        fs::write(&path, bytes).unwrap();
        let told = look(&host, &said(CONFIGURATION));
        assert!(told.len() == 1 && told[0].0 == Error, "{told:?}");
    }
    // Zero bytes without end, in little space.
    let bomb = vec![0; 64 << 20];
    fs::write(&path, zstd::encode_all(bomb.as_slice(), 1).unwrap()).unwrap();
    assert_eq!(look(&host, &said(CONFIGURATION)).len(), 1);
    assert!(began.elapsed() < Duration::from_secs(60));
}
