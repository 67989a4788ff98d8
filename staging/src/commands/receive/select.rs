//! Which stream of a manifest it is to be. No file is touched here.

use std::path::Path;

use op_dbus_release::manifest::{Manifest, Stream};

use crate::error::{Exit, Failure};

/// What is known of a manifest's streams on this device.
pub(crate) struct Facts<'f> {
    /// Whether a file of this name is beside the manifest.
    pub(crate) is_beside: &'f dyn Fn(&str) -> bool,
    /// Whether what the stream builds on is in the store.
    pub(crate) has_parent: &'f dyn Fn(&Stream) -> bool,
}

/// The stream to take of those beside the manifest: the smallest increment whose
/// parent is here, else the full one. Where none fits it is the smallest, whose
/// refusal then says what it lacks. None: none is there.
pub(crate) fn best<'m>(manifest: &'m Manifest, facts: &Facts<'_>) -> Option<&'m Stream> {
    let rank = |stream: &&Stream| {
        let fits = stream.parent.is_none() || (facts.has_parent)(stream);
        (!fits, stream.parent.is_none(), stream.size)
    };
    let there = manifest
        .streams
        .iter()
        .filter(|stream| (facts.is_beside)(&stream.file));
    there.min_by_key(rank)
}

/// That none is there.
pub(crate) fn none_is_there(manifest: &Path) -> Failure {
    Failure::new(
        Exit::Verification,
        manifest.display(),
        "none of its streams is beside it",
        "fetch one of them into the same directory",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::{Digest, Uuid};
    use op_dbus_release::manifest::{Allow, Compression, Parent, Tree};

    fn stream(file: &str, size: u64, parent: Option<&str>) -> Stream {
        Stream {
            file: file.to_owned(),
            size,
            sha256: Digest([0; 32]),
            chunks: Vec::new(),
            compression: Compression::None,
            stream_bytes: size,
            content_bytes: size,
            uuid: Uuid([1; 16]),
            parent: parent.map(|version| Parent {
                version: version.parse().unwrap(),
                uuid: Uuid([2; 16]),
                digest: Digest([2; 32]),
            }),
        }
    }

    fn manifest() -> Manifest {
        Manifest {
            schema: 1,
            product: "op-dbus".to_owned(),
            version: "v1.2.0".parse().unwrap(),
            epoch: 0,
            created: String::new(),
            tree: Tree {
                digest: Digest([0; 32]),
                bytes: 0,
                entries: 1,
            },
            allow: Allow::default(),
            chunk_size: 1 << 20,
            streams: vec![
                stream("full", 100, None),
                stream("from-1.1", 10, Some("v1.1.0")),
                stream("from-1.0", 20, Some("v1.0.0")),
            ],
        }
    }

    /// Files beside the manifest, versions in the store, and what is taken.
    type Case<'a> = (&'a [&'a str], &'a [&'a str], Option<&'a str>);

    #[test]
    fn the_smallest_that_fits_is_taken() {
        let all: &[&str] = &["full", "from-1.1", "from-1.0"];
        let cases: [Case<'_>; 9] = [
            (all, &["v1.0.0", "v1.1.0"], Some("from-1.1")),
            (all, &["v1.0.0"], Some("from-1.0")),
            (all, &[], Some("full")),
            (&["full"], &["v1.1.0"], Some("full")),
            (&["from-1.0"], &["v1.0.0", "v1.1.0"], Some("from-1.0")),
            // None of these fits; the refusal is about the one named.
            (&["from-1.0"], &["v1.1.0"], Some("from-1.0")),
            (&["from-1.0", "from-1.1"], &[], Some("from-1.1")),
            (&["from-1.0"], &[], Some("from-1.0")),
            (&[], &["v1.1.0"], None),
        ];
        let manifest = manifest();
        for (files, versions, expected) in cases {
            let is_beside = |name: &str| files.contains(&name);
            let has_parent = |stream: &Stream| {
                let parent = stream.parent.as_ref().unwrap();
                versions.contains(&parent.version.as_str())
            };
            let facts = Facts {
                is_beside: &is_beside,
                has_parent: &has_parent,
            };
            let chosen = best(&manifest, &facts).map(|stream| stream.file.as_str());
            assert_eq!(chosen, expected, "{files:?} {versions:?}");
        }
    }
}
