use super::*;

use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use rustix::fs::Mode;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn why<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.name(), "org.opdbus.Deploy1.Error.InvalidArgument");
    error.message().to_owned()
}

#[test]
fn only_what_the_caller_could_read_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "x").unwrap();
    let flags = |bits: OFlags| rustix::fs::open(&path, bits, Mode::empty()).unwrap();
    for fd in [flags(OFlags::PATH), flags(OFlags::WRONLY)] {
        assert!(why(stream(fd)).contains("not open for reading"));
    }
    stream(flags(OFlags::RDWR)).unwrap();
    assert!(why(stream(open(dir.path()))).contains("neither"));
    assert!(why(stream(open(Path::new("/dev/null")))).contains("neither"));
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let pipe = reader.try_clone().unwrap();
    assert!(why(regular("manifest", pipe)).contains("not a regular file"));
    stream(reader).unwrap();
}

#[test]
fn the_copies_are_whole_bounded_private_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("m"), vec![7; 200_000]).unwrap();
    // Sparse: no disk is filled by a test, nor by a caller.
    File::create(at("s")).unwrap().set_len(1 << 40).unwrap();
    let private = at("private");
    fs::create_dir(&private).unwrap();
    let given = Given {
        manifest: open(&at("m")),
        signature: open(&at("s")),
        stream: open(&at("m")),
    };
    let (release, _stream) = take(&private, given).unwrap();
    let manifest = release.manifest();
    assert_eq!(fs::read(&manifest).unwrap(), vec![7; 200_000]);
    let signature = fs::metadata(manifest.with_extension("json.asc")).unwrap();
    assert!((SIGNATURE_MAX..SIGNATURE_MAX + (64 << 10)).contains(&signature.len()));
    let mode = fs::metadata(manifest.parent().unwrap())
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
    drop(release);
    assert_eq!(fs::read_dir(&private).unwrap().count(), 0);
}

#[test]
fn a_directory_that_others_may_enter_is_not_private() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("a");
    private(&ours).unwrap();
    fs::create_dir(ours.join("receive-7")).unwrap();
    fs::write(ours.join("told"), "3").unwrap();
    private(&ours).unwrap();
    // A killed service's copies are gone, and what it knew is not.
    assert!(!ours.join("receive-7").exists() && ours.join("told").exists());
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(private(&ours).is_err());
    let link = dir.path().join("b");
    symlink(dir.path(), &link).unwrap();
    assert!(private(&link).is_err());
}

/// A FUSE file system of the test's own, mounted nowhere, and its root opened.
/// It answers statfs when the sender is dropped, and refuses what it does not know:
/// who waits for it can't be killed, and would keep the connection, and with it
/// this process, for ever.
fn fuse() -> Option<(OwnedFd, mpsc::Sender<()>)> {
    const INIT: u32 = 26;
    const OPENDIR: u32 = 27;
    const STATFS: u32 = 17;
    /// Of FUSE: to forget, and to interrupt. They have no answer.
    const UNANSWERED: [u32; 3] = [2, 36, 42];
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .ok()?;
    let system = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    let number = device.as_raw_fd().to_string();
    for (key, value) in [
        ("fd", number.as_str()),
        ("rootmode", "40000"),
        ("user_id", "0"),
        ("group_id", "0"),
    ] {
        fsconfig_set_string(&system, key, value).ok()?;
    }
    fsconfig_create(&system).ok()?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let mount = fsmount(&system, flags, MountAttrFlags::empty()).ok()?;
    let mut server = device;
    let (sender, dropped) = mpsc::channel();
    thread::spawn(move || {
        let mut request = vec![0; 1 << 20];
        // Until the last descriptor of the mount is closed.
        while let Ok(length) = server.read(&mut request) {
            let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
            let (opcode, unique) = (word(4), &request[8..16]);
            assert!(length >= 40);
            // linux/fuse.h: fuse_init_out, fuse_open_out, fuse_statfs_out.
            let (error, body) = match opcode {
                INIT => {
                    let mut body = vec![0; 64];
                    body[..4].copy_from_slice(&7_u32.to_ne_bytes());
                    body[4..8].copy_from_slice(&31_u32.to_ne_bytes());
                    body[20..24].copy_from_slice(&4096_u32.to_ne_bytes());
                    (0, body)
                }
                OPENDIR => (0, vec![0; 16]),
                STATFS => {
                    let _ = dropped.recv();
                    (0, vec![0; 80])
                }
                _ if UNANSWERED.contains(&opcode) => continue,
                _ => (-rustix::io::Errno::IO.raw_os_error(), Vec::new()),
            };
            let size = u32::try_from(16 + body.len()).unwrap();
            let mut reply = size.to_ne_bytes().to_vec();
            reply.extend(error.to_ne_bytes());
            reply.extend(unique);
            reply.extend(body);
            // The connection has ended, and nobody waits any more.
            if server.write_all(&reply).is_err() {
                break;
            }
        }
    });
    let root = rustix::fs::openat(&mount, ".", OFlags::RDONLY, Mode::empty()).ok()?;
    Some((root, sender))
}

#[test]
fn nobody_waits_for_a_file_system_of_the_caller_s() {
    for answers in [true, false] {
        let Some((root, sender)) = fuse() else {
            eprintln!("SKIPPED: needs root and /dev/fuse");
            return;
        };
        let (taken, is_taken) = mpsc::channel::<()>();
        // Answered in the end, whatever becomes of the test.
        let answerer = thread::spawn(move || {
            if !answers {
                let _ = is_taken.recv_timeout(Duration::from_secs(20));
            }
            drop(sender);
        });
        let dir = tempfile::tempdir().unwrap();
        let given = Given {
            manifest: root.try_clone().unwrap(),
            signature: root.try_clone().unwrap(),
            stream: root,
        };
        let limit = if answers {
            ANSWER
        } else {
            Duration::from_millis(300)
        };
        let said = why(take_within(dir.path().to_owned(), given, limit));
        let words = if answers {
            "on a FUSE file system"
        } else {
            "does not answer"
        };
        assert!(said.contains(words), "{said}");
        drop(taken);
        answerer.join().unwrap();
    }
}
