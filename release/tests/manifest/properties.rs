//! Any manifest and any bytes.

use op_dbus_bootstate::{Digest, Uuid};
use op_dbus_release::manifest::{Allow, Compression, Manifest, Parent, SCHEMA, Stream, Tree};
use proptest::prelude::*;

use crate::GOLDEN;

prop_compose! {
    fn stream(index: usize, chunk_size: u32)(
        chunks in proptest::collection::vec(any::<[u8; 32]>(), 1..20),
        last in 1..=chunk_size,
        sha256 in any::<[u8; 32]>(),
        zstd in any::<Option<u32>>(),
        content_bytes in 0_u64..1 << 40,
        uuid in 1_u8..128,
        parent in proptest::option::of((128_u8.., any::<[u8; 32]>())),
    ) -> Stream {
        let size = (chunks.len() as u64 - 1) * u64::from(chunk_size) + u64::from(last);
        let mut chunks: Vec<_> = chunks.into_iter().map(Digest).collect();
        chunks[0].0[0] = u8::try_from(index).unwrap();
        Stream {
            file: format!("stream-{index}"),
            size,
            sha256: Digest(sha256),
            chunks,
            compression: zstd.map_or(Compression::None, |_| Compression::Zstd),
            stream_bytes: zstd.map_or(size, |bytes| u64::from(bytes) + 1),
            content_bytes,
            uuid: Uuid([uuid; 16]),
            parent: parent.map(|(uuid, digest)| Parent {
                version: "0.0.1".parse().unwrap(),
                uuid: Uuid([uuid; 16]),
                digest: Digest(digest),
            }),
        }
    }
}

fn streams(chunk_size: u32) -> impl Strategy<Value = Vec<Stream>> {
    (1_usize..=64).prop_flat_map(move |count| {
        let streams: Vec<_> = (0..count).map(|index| stream(index, chunk_size)).collect();
        streams
    })
}

fn paths() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set("[a-zé\"\\\\ ]{1,5}(/[.a-z]{3,9}){0,3}", 0..9)
        .prop_map(|paths| paths.into_iter().collect())
        .prop_filter("clean", |paths: &Vec<String>| {
            !paths.iter().any(|path| path.contains(".."))
        })
}

prop_compose! {
    fn manifest()(log in 16_u32..=22)(
        product in "[a-z0-9][a-z0-9.-]{0,63}",
        version in "v?[1-9][0-9]{0,3}\\.[1-9]\\.0(-rc\\.[1-9])?",
        epoch in any::<u32>(),
        digest in any::<[u8; 32]>(),
        bytes in 0_u64..=1 << 40,
        entries in 1_u64..=4 << 20,
        devices in paths(),
        setuid in paths(),
        capabilities in paths(),
        chunk_size in Just(1 << log),
        streams in streams(1 << log),
    ) -> Manifest {
        Manifest {
            schema: SCHEMA,
            product,
            version: version.parse().unwrap(),
            epoch,
            created: "2026-11-23T01:22:00Z".to_owned(),
            tree: Tree { digest: Digest(digest), bytes, entries },
            allow: Allow { devices, setuid, capabilities },
            chunk_size,
            streams,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_written_is_read_back(manifest in manifest()) {
        let bytes = manifest.to_bytes();
        prop_assert_eq!(manifest.check(), Ok(()));
        prop_assert_eq!(Manifest::parse(&bytes).unwrap(), manifest);
    }

    #[test]
    fn any_bytes_end_in_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(Manifest::parse(&bytes).is_err());
    }

    /// What is nearly a manifest gets further: refused, or read and sound.
    #[test]
    fn any_change_ends_in_an_error_or_a_sound_manifest(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = GOLDEN.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(manifest) = Manifest::parse(&bytes) {
            prop_assert_eq!(manifest.check(), Ok(()));
            prop_assert_eq!(Manifest::parse(&manifest.to_bytes()), Ok(manifest));
        }
    }
}
