//! Properties of every stream, damaged in every way.

use crate::build::rich;
use op_dbus_sendstream::{Policy, vet};
use proptest::prelude::*;

fn accepts(bytes: &[u8]) -> bool {
    vet(bytes, &Policy::default()).is_ok()
}

#[test]
fn every_truncation_is_refused() {
    let bytes = rich(1).bytes;
    // Each cut near a boundary, and a sample of those within the data.
    for length in (0..bytes.len())
        .filter(|length| length % 97 == 0 || *length < 400 || *length + 1500 > bytes.len())
    {
        assert!(!accepts(&bytes[..length]), "cut to {length} bytes");
    }
    assert!(accepts(&bytes));
}

#[test]
fn every_single_bit_flip_is_refused() {
    let small = crate::build::Stream::full(1)
        .command(
            op_dbus_sendstream::wire::Command::MkFile,
            &crate::build::attrs()
                .path("a")
                .u64(op_dbus_sendstream::wire::Attr::Ino, 257),
        )
        .end()
        .bytes;
    // The format has no checksum over its header, and version 3 is one bit away
    // from version 1. What a stream is, is for its signed digests to say.
    let to_version_3 = 13 * 8 + 1;
    for bit in 0..small.len() * 8 {
        let mut flipped = small.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(accepts(&flipped), bit == to_version_3, "bit {bit}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(!accepts(&bytes));
    }

    #[test]
    fn arbitrary_commands_with_right_checksums_never_panic(
        version in 1_u32..=2,
        commands in proptest::collection::vec((0_u16..30, proptest::collection::vec(any::<u8>(), 0..64)), 0..8),
    ) {
        let mut stream = crate::build::Stream::full(version);
        for (number, body) in commands {
            stream = stream.raw(&crate::build::framed(number, &body));
        }
        let _ = vet(stream.end().bytes.as_slice(), &Policy::default());
    }

    #[test]
    fn no_accepted_path_leaves_the_subvolume(path in "[a./\0]{0,12}") {
        use op_dbus_sendstream::wire::Command;
        let stream = crate::build::Stream::full(1).command(Command::MkFile, &crate::build::attrs().path(&path)).end();
        if accepts(&stream.bytes) {
            prop_assert!(!path.is_empty() && !path.contains('\0'));
            prop_assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")));
        }
    }

    #[test]
    fn reading_in_small_pieces_makes_no_difference(sizes in proptest::collection::vec(1_usize..5000, 1..20)) {
        struct Pieces<'a>(&'a [u8], std::iter::Cycle<std::vec::IntoIter<usize>>);
        impl std::io::Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let count = self.1.next().unwrap_or(1).min(buffer.len()).min(self.0.len());
                buffer[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let bytes = rich(2).bytes;
        let whole = vet(bytes.as_slice(), &Policy::default()).unwrap();
        let pieces = vet(Pieces(&bytes, sizes.into_iter().cycle()), &Policy::default()).unwrap();
        prop_assert_eq!(whole, pieces);
    }
}
