//! Real streams, received by us and by `btrfs receive`. Root only.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod compare;
mod field;

use field::Field;

/// What a stream's trees hold: one of each kind, and what is easily got wrong.
const TREES: &str = r#"
btrfs -q subvolume create w
mkdir -p w/bin w/share/deep/deeper w/sticky
head -c 300000 /dev/urandom > w/bin/a
head -c 5000000 /dev/urandom > w/bin/large
truncate -s 5M w/bin/sparse
head -c 400000 /dev/zero > w/bin/zero
: > w/bin/empty
ln w/bin/a w/share/hard
ln -s ../bin/a w/share/soft
chown -h 12:34 w/share/soft
touch -h -d '2001-02-03 04:05:06.123456789' w/share/soft
mkfifo w/share/fifo
mknod w/share/null c 1 3
chmod 620 w/share/null
chmod 1777 w/sticky
cp w/bin/a w/bin/setuid
chown 33:44 w/bin/setuid
chmod 6755 w/bin/setuid
python3 - <<'P'
import os
os.setxattr("w/bin/a", "user.kind", b"test")
os.setxattr("w/share/soft", "trusted.kind", b"link", follow_symlinks=False)
os.setxattr("w/share/fifo", "trusted.kind", b"pipe", follow_symlinks=False)
os.setxattr("w/share", "user.kind", b"directory")
os.setxattr("w/bin/setuid", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
open(b"w/share/" + b"\xff" * 255, "w").close()
P
btrfs -q subvolume snapshot -r w v1
mv w/share/deep w/moved
mv w/bin w/deep
mv w/moved w/bin
rm w/share/fifo
cp --reflink=always w/deep/a w/deep/copy
cp --reflink=always w/deep/a w/deep/shifted
dd if=w/deep/large of=w/deep/shifted bs=4096 seek=200 count=20 conv=notrunc status=none
fallocate -p -o 65536 -l 131072 w/deep/large
echo more >> w/deep/zero
truncate -s 1000 w/deep/copy
chown 55:66 w/deep/setuid
python3 - <<'P'
import os
os.setxattr("w/deep/setuid", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
os.removexattr("w/share", "user.kind")
os.setxattr("w/share/null", "trusted.kind", b"device", follow_symlinks=False)
P
chmod 600 w/share/null
mv w/deep/empty w/deep/tmp
mv w/deep/sparse w/deep/empty
mv w/deep/tmp w/deep/sparse
rm -r w/sticky
echo file > w/sticky
btrfs -q subvolume snapshot -r w v2
sync .
"#;

#[test]
fn full_and_incremental() {
    let Some(field) = Field::new("noatime") else {
        return;
    };
    field.script(TREES);
    for version in ["1", "2"] {
        let full = field.send(&["--proto", version, "v1"]);
        let step = field.send(&["--proto", version, "-p", "v1", "v2"]);
        field.receive(&full, "v1", None);
        field.receive(&step, "v2", Some("v1"));
        for name in ["v1", "v2"] {
            field.same(name, name);
        }
        field.clear();
    }
}

#[test]
fn compressed_data_as_it_is_and_decompressed() {
    for compression in ["zstd", "zlib", "lzo"] {
        let options = format!("noatime,compress-force={compression}");
        let Some(field) = Field::new(&options) else {
            return;
        };
        field.script(
            "btrfs -q subvolume create w
             seq 1 200000 > w/text
             seq 1 50 > w/inline
             head -c 200000 /dev/urandom > w/noise
             sync .
             truncate -s 100000 w/text
             btrfs -q subvolume snapshot -r w v1
             cp --reflink=always w/text w/other
             truncate -s 70000 w/other
             btrfs -q subvolume snapshot -r w v2
             sync .",
        );
        let full = field.send(&["--proto", "2", "--compressed-data", "v1"]);
        let step = field.send(&["--proto", "2", "--compressed-data", "-p", "v1", "v2"]);
        let sent = std::fs::metadata(&full).unwrap().len();
        assert!(sent < 400_000, "{compression}: sent compressed: {sent}");
        field.receive(&full, "v1", None);
        field.receive(&step, "v2", Some("v1"));
        field.same("v1", "v1");
        field.same("v2", "v2");
        field.receive_decompressing(&full, "v1-again");
        field.same("v1", "v1-again");
    }
}

#[test]
fn new_entries_inherit_nothing() {
    let Some(field) = Field::new("noatime") else {
        return;
    };
    field.script(
        "btrfs -q subvolume create w
         mkdir w/acl w/compressed
         python3 -c 'import os, struct
entries = [(1, 7, -1), (2, 7, 12), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
acl = struct.pack(\"<I\", 2) + b\"\".join(struct.pack(\"<HHi\", *entry) for entry in entries)
os.setxattr(\"w/acl\", \"system.posix_acl_default\", acl)'
         btrfs property set w/compressed compression zstd
         btrfs -q subvolume snapshot -r w v1
         echo x > w/outside
         mv w/outside w/acl/moved
         mkdir w/plain
         mv w/plain w/acl/plain
         echo x > w/outside
         mv w/outside w/compressed/moved
         btrfs -q subvolume snapshot -r w v2
         sync .",
    );
    let full = field.send(&["v1"]);
    let step = field.send(&["-p", "v1", "v2"]);
    let whole = field.send(&["v2"]);
    field.receive(&full, "v1", None);
    field.receive(&step, "v2", Some("v1"));
    field.same("v2", "v2");
    field.clear();
    field.receive(&whole, "v2", None);
    field.same("v2", "v2");
}

#[test]
fn a_refused_or_damaged_stream_leaves_nothing() {
    let Some(field) = Field::new("noatime") else {
        return;
    };
    field.script(TREES);
    let full = field.send(&["v1"]);
    let step = field.send(&["-p", "v1", "v2"]);
    let bytes = std::fs::read(&full).unwrap();
    for cut in [17, 5000, bytes.len() / 2, bytes.len() - 1] {
        let why = field.refuses(&bytes[..cut], None);
        assert!(why.contains("cut off"), "{why}");
    }
    let mut after = bytes.clone();
    after.push(0);
    let why = field.refuses(&after, None);
    assert!(why.contains("follows after the end"), "{why}");
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    let why = field.refuses(&damaged, None);
    assert!(why.contains("checksum mismatch"), "{why}");

    let step = std::fs::read(step).unwrap();
    let why = field.refuses(&step, None);
    assert!(why.contains("builds on another subvolume"), "{why}");
    // Onto a tree that is not the one it was made for.
    field.script("btrfs -q subvolume create foreign");
    let why = field.refuses(&step, Some("foreign"));
    assert!(why.contains("than the one that was given"), "{why}");
    // Nor onto what was the right one and is so no more.
    field.script(
        "btrfs -q subvolume snapshot v1 changed
         rm -r changed/bin",
    );
    let own = op_dbus_btrfs::info_of(&field.top("v1")).unwrap();
    let changed = op_dbus_btrfs::open_dir(&field.top("changed")).unwrap();
    op_dbus_btrfs::set_received(changed, own.uuid, own.ctransid).unwrap();
    let why = field.refuses(&step, Some("changed"));
    assert!(why.contains("No such file or directory"), "{why}");
    assert!(why.contains("at byte"), "{why}");
}

#[test]
fn a_full_file_system_is_told_apart_from_a_bad_stream() {
    let Some(field) = Field::new("noatime") else {
        return;
    };
    field.script(
        "btrfs -q subvolume create w
         head -c 150000000 /dev/urandom > w/noise
         btrfs -q subvolume snapshot -r w v1
         sync .",
    );
    let full = field.send(&["v1"]);
    field.script("head -c 130000000 /dev/urandom > fill; sync .");
    let bytes = std::fs::read(&full).unwrap();
    let why = field.refusal(&bytes, None);
    let error = why.as_io().and_then(std::io::Error::raw_os_error);
    assert_eq!(error, Some(28), "ENOSPC: {why}");
    assert!(why.to_string().contains("noise"), "{why}");
}
