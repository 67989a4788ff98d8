//! Streams of `btrfs send` itself, from a loop-mounted file system. Root only.

use std::fs;
use std::path::Path;
use std::process::Command;

use op_dbus_sendstream::{Policy, Summary, vet};

/// Runs in a mount namespace of its own, so nothing stays mounted; the loop
/// device goes with its mount.
const SCRIPT: &str = r#"
set -eu
truncate -s 256M image
mkfs.btrfs -q image
mkdir top
mount -o loop image top
btrfs -q subvolume create top/w
mkdir -p top/w/bin top/w/share/deep/deeper
head -c 300000 /dev/urandom > top/w/bin/a
truncate -s 5M top/w/bin/sparse
head -c 400000 /dev/zero > top/w/bin/zero
ln top/w/bin/a top/w/bin/hard
ln -s ../bin/a top/w/share/soft
mkfifo top/w/share/fifo
python3 -c 'import os; os.setxattr("top/w/bin/a", "user.kind", b"test")'
btrfs -q subvolume snapshot -r top/w top/v1.0.0
rm top/w/share/fifo
mv top/w/share/deep top/w/moved
cp --reflink=always top/w/bin/a top/w/bin/copy
echo more >> top/w/bin/zero
btrfs -q subvolume snapshot -r top/w top/v1.1.0
chmod u+s top/w/bin/a
btrfs -q subvolume snapshot -r top/w top/setuid
mknod top/w/null c 1 3
btrfs -q subvolume snapshot -r top/w top/device
sync
btrfs -q send -f full top/v1.0.0
btrfs -q send --proto 2 -f full-v2 top/v1.0.0
btrfs -q send -p top/v1.0.0 -f step top/v1.1.0
btrfs -q send --proto 2 -p top/v1.0.0 -f step-v2 top/v1.1.0
btrfs -q send --no-data -f no-data top/v1.0.0
btrfs -q send -f two top/v1.0.0 top/v1.1.0
btrfs -q send -p top/v1.1.0 -f setuid top/setuid
btrfs -q send -p top/setuid -f device top/device
btrfs property set -t inode top/w compression zstd 2>/dev/null || true
umount top
mount -o loop,compress-force=zstd image top
btrfs -q subvolume create top/c
seq 1 200000 > top/c/text
sync
btrfs -q subvolume snapshot -r top/c top/v2.0.0
btrfs -q send --proto 2 --compressed-data -f encoded top/v2.0.0
umount top
"#;

fn read(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join(name)).unwrap()
}

fn passes(dir: &Path, name: &str) -> Summary {
    let bytes = read(dir, name);
    let summary =
        vet(bytes.as_slice(), &Policy::default()).unwrap_or_else(|why| panic!("{name}: {why}"));
    assert_eq!(summary.bytes, bytes.len() as u64, "{name}");
    summary
}

fn refused(dir: &Path, name: &str, words: &str) {
    let why = vet(read(dir, name).as_slice(), &Policy::default())
        .unwrap_err()
        .to_string();
    assert!(why.contains(words), "{name}: {why}");
}

#[test]
fn streams_of_btrfs_send() {
    if !is_root() {
        eprintln!("skipped: only root can mount");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c", SCRIPT])
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let full = passes(dir, "full");
    assert_eq!((full.version, full.name.as_str()), (1, "v1.0.0"));
    assert_eq!(full.parent, None);
    assert!(full.content >= 700_000);
    let second = passes(dir, "full-v2");
    assert_eq!((second.version, second.uuid), (2, full.uuid));
    for name in ["step", "step-v2"] {
        let step = passes(dir, name);
        assert_eq!(step.name, "v1.1.0");
        assert_eq!(step.parent.unwrap().uuid, full.uuid);
        assert!(step.content < 100_000, "an increment brings what changed");
    }
    let encoded = passes(dir, "encoded");
    assert!(
        encoded.content > encoded.bytes,
        "compressed data travels compressed"
    );
    refused(dir, "no-data", "--no-data");
    refused(dir, "two", "after the end");
    refused(dir, "setuid", "setuid");
    refused(dir, "device", "device node");
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
