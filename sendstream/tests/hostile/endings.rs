//! Receiving that ends early, and places where nothing can be received.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd as _;

use op_dbus_sendstream::{Destination, Incoming, Policy};

use crate::build::rich;
use crate::cases::v1;
use crate::say::Say as _;
use crate::world::{NAME, World, difference, open};

/// A medium that fails after so many bytes.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the medium is gone")),
            count => Ok(count),
        }
    }
}

/// One whose commands fit together: what `rich` has need not exist.
fn whole() -> Vec<u8> {
    let stream = v1().mkdir("d").mkfile("d/f").write("d/f", 0, &[7; 5000]);
    let stream = stream
        .rename("d", "e")
        .symlink("l", "e")
        .chmod("e/f", 0o600);
    stream.utimes("e", 1, 1).utimes("", 1, 1).end().bytes
}

#[test]
fn wherever_the_stream_ends_early_nothing_is_left() {
    let Some(world) = World::new() else { return };
    let before = world.listing();
    let bytes = whole();
    let cuts = (0..bytes.len()).filter(|cut| cut % 61 == 0 || bytes.len() - cut < 40);
    for cut in cuts {
        let why = world.apply(&bytes[..cut], &Policy::default(), false);
        assert!(why.unwrap_err().as_io().is_none(), "{cut}");
        let why = world.apply(Failing(&bytes[..cut]), &Policy::default(), false);
        assert!(why.unwrap_err().as_io().is_some(), "{cut}");
        assert_eq!(world.left(), [""; 0], "{cut}");
    }
    assert_eq!(difference(&before, &world.listing()), "");
    world
        .apply(bytes.as_slice(), &Policy::default(), false)
        .unwrap();
    assert_eq!(world.left(), [NAME]);
}

/// Nothing is made before the caller has seen what the stream is about.
#[test]
fn a_stream_that_is_only_looked_at_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let bytes = whole();
    let incoming = Incoming::open(bytes.as_slice(), &Policy::default()).unwrap();
    assert_eq!(incoming.begin().name, "v1.0.0");
    assert_eq!(world.left(), [""; 0]);
}

#[test]
fn what_is_in_the_way_stays() {
    let Some(world) = World::new() else { return };
    let place = world.area().join(NAME);
    let refused = |what: &str| {
        for bytes in [whole(), rich(1).bytes] {
            let result = world.apply(bytes.as_slice(), &Policy::default(), false);
            assert!(result.is_err(), "{what}");
        }
    };
    fs::write(&place, "mine").unwrap();
    refused("a file");
    assert_eq!(fs::read(&place).unwrap(), b"mine");
    fs::remove_file(&place).unwrap();

    op_dbus_btrfs::create_subvolume(&place).unwrap();
    fs::write(place.join("file"), "mine").unwrap();
    refused("a subvolume");
    assert_eq!(fs::read(place.join("file")).unwrap(), b"mine");
    world.clean();

    std::os::unix::fs::symlink("../secret", &place).unwrap();
    refused("a link");
    assert!(fs::symlink_metadata(&place).unwrap().is_symlink());
}

#[test]
fn names_that_are_no_place_in_the_area_are_refused() {
    let Some(world) = World::new() else { return };
    let before = world.listing();
    let area = open(&world.area());
    let long = "n".repeat(256);
    for name in ["", ".", "..", "../x", "a/b", "/tmp/x", "a\0b", &long] {
        let bytes = whole();
        let incoming = Incoming::open(bytes.as_slice(), &Policy::default()).unwrap();
        let result = incoming.apply(&Destination {
            area: area.as_fd(),
            name: OsStr::new(name),
            parent: None,
        });
        assert!(result.is_err(), "{name:?}");
        assert_eq!(world.left(), [""; 0], "{name:?}");
    }
    assert_eq!(difference(&before, &world.listing()), "");
}
