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

/// Why no stream was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// No stream's file is there.
    NoFile,
    /// Those that are there build on what this device does not have; one that
    /// would fit has this name.
    NoParent {
        /// The stream to fetch, if there is one.
        fitting: Option<String>,
    },
}

/// The stream that fits: the smallest increment whose parent is here, else the
/// full one.
pub(crate) fn fitting<'m>(
    manifest: &'m Manifest,
    facts: &Facts<'_>,
) -> Result<&'m Stream, Nothing> {
    let fits = |stream: &&Stream| stream.parent.is_none() || (facts.has_parent)(stream);
    let there: Vec<_> = manifest
        .streams
        .iter()
        .filter(|stream| (facts.is_beside)(&stream.file))
        .collect();
    if there.is_empty() {
        return Err(Nothing::NoFile);
    }
    let best = |stream: &&&Stream| (stream.parent.is_none(), stream.size);
    let chosen = there.iter().filter(|stream| fits(stream)).min_by_key(best);
    chosen.copied().ok_or_else(|| {
        let others = manifest.streams.iter().filter(fits);
        let other = others.min_by_key(|stream| (stream.parent.is_none(), stream.size));
        Nothing::NoParent {
            fitting: other.map(|stream| stream.file.clone()),
        }
    })
}

/// In words.
pub(crate) fn failure(manifest: &Path, nothing: &Nothing) -> Failure {
    let fail =
        |why: &str, remedy: &str| Failure::new(Exit::Verification, manifest.display(), why, remedy);
    match nothing {
        Nothing::NoFile => fail(
            "none of its streams is beside it",
            "fetch one of them into the same directory",
        ),
        Nothing::NoParent { fitting } => {
            let why = "the streams beside it build on versions that are not in the store";
            match fitting {
                Some(file) => fail(why, &format!("fetch {file} too, which fits this device")),
                None => fail(why, "receive such a version first; no other stream fits"),
            }
        }
    }
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
    type Case<'a> = (&'a [&'a str], &'a [&'a str], Result<&'a str, Nothing>);

    #[test]
    fn the_smallest_that_fits_is_taken() {
        let all: &[&str] = &["full", "from-1.1", "from-1.0"];
        let lacking = |fitting: Option<&str>| {
            Err(Nothing::NoParent {
                fitting: fitting.map(str::to_owned),
            })
        };
        let cases: [Case<'_>; 8] = [
            (all, &["v1.0.0", "v1.1.0"], Ok("from-1.1")),
            (all, &["v1.0.0"], Ok("from-1.0")),
            (all, &[], Ok("full")),
            (&["full"], &["v1.1.0"], Ok("full")),
            (&["from-1.0"], &["v1.0.0", "v1.1.0"], Ok("from-1.0")),
            (&["from-1.0"], &["v1.1.0"], lacking(Some("from-1.1"))),
            (&["from-1.0"], &[], lacking(Some("full"))),
            (&[], &["v1.1.0"], Err(Nothing::NoFile)),
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
            let chosen = fitting(&manifest, &facts).map(|stream| stream.file.as_str());
            assert_eq!(chosen, expected, "{files:?} {versions:?}");
        }
    }

    #[test]
    fn a_release_of_increments_only_has_nothing_for_a_new_device() {
        let mut manifest = manifest();
        manifest.streams.remove(0);
        let facts = Facts {
            is_beside: &|_| true,
            has_parent: &|_| false,
        };
        let nothing = fitting(&manifest, &facts);
        assert_eq!(nothing, Err(Nothing::NoParent { fitting: None }));
    }
}
