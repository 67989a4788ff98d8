//! The manifest as a file: its bytes, what is refused, and that nothing panics.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use op_dbus_bootstate::{Digest, Uuid};
use op_dbus_release::manifest::{
    Allow, CHUNK_SIZE, Compression, MAX_LEN, Manifest, ManifestError, Parent, SCHEMA, Stream, Tree,
};
use op_dbus_release::tree::{Kind, Privileged};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

mod properties;

/// Devices nobody can reach read this; its bytes never change.
const GOLDEN: &str = include_str!("../golden/v1.1.0.json");

fn golden() -> Manifest {
    let uuid = "2b6d4f0e-31a5-4a7c-9d0e-8c5b1f7a6e42".parse().unwrap();
    Manifest {
        schema: SCHEMA,
        product: "op-dbus".to_owned(),
        version: "v1.1.0".parse().unwrap(),
        epoch: 3,
        created: "2026-11-23T01:22:00Z".to_owned(),
        tree: Tree {
            digest: Digest([0x2a; 32]),
            bytes: 314_572_800,
            entries: 12_345,
        },
        allow: Allow {
            devices: Vec::new(),
            setuid: vec!["bin/op-dbus-askpass".to_owned()],
            capabilities: vec!["bin/op-dbus-listen".to_owned()],
        },
        chunk_size: CHUNK_SIZE,
        streams: vec![
            Stream {
                file: "v1.1.0.btrfs.zst".to_owned(),
                size: 2_500_000,
                sha256: Digest([0x01; 32]),
                chunks: vec![Digest([0x11; 32]), Digest([0x12; 32]), Digest([0x13; 32])],
                compression: Compression::Zstd,
                stream_bytes: 9_000_000,
                content_bytes: 8_900_000,
                uuid,
                parent: None,
            },
            Stream {
                file: "v1.1.0.from-v1.0.0.btrfs".to_owned(),
                size: 70_000,
                sha256: Digest([0x02; 32]),
                chunks: vec![Digest([0x21; 32])],
                compression: Compression::None,
                stream_bytes: 70_000,
                content_bytes: 65_536,
                uuid,
                parent: Some(Parent {
                    version: "v1.0.0".parse().unwrap(),
                    uuid: Uuid([0x77; 16]),
                    digest: Digest([0x1a; 32]),
                }),
            },
        ],
    }
}

#[test]
fn the_file_is_the_same_for_ever() {
    let manifest = golden();
    assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), GOLDEN);
    assert_eq!(Manifest::parse(GOLDEN.as_bytes()).unwrap(), manifest);
}

/// The golden file with one place changed: a JSON pointer, and what is put there.
fn changed(pointer: &str, value: Value) -> Result<Manifest, ManifestError> {
    let mut json: Value = serde_json::from_str(GOLDEN).unwrap();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match json.pointer_mut(parent).unwrap() {
        Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
        object => object[name] = value,
    }
    Manifest::parse(&serde_json::to_vec(&json).unwrap())
}

#[track_caller]
fn refused(pointer: &str, value: Value, field: &str, words: &str) {
    match changed(pointer, value) {
        Err(ManifestError::Field { field: found, why }) => {
            assert_eq!(found, field, "{why}");
            assert!(why.contains(words), "{words:?} in {why}");
            assert!(!why.contains(char::is_control), "{why:?}");
        }
        other => panic!("{pointer}: {other:?}"),
    }
}

#[test]
fn what_it_is_of_is_checked() {
    refused("/schema", json!(2), "schema", "2 is another format than 1");
    refused("/schema", json!("1"), "schema", "invalid type");
    for product in ["", ".a", "-a", "A", "a b", "a/b", "é", &"a".repeat(65)] {
        refused("/product", json!(product), "product", "lower-case");
    }
    refused("/version", json!("1.0"), "version", "not a version name");
    refused(
        "/version",
        json!("../1.0.0"),
        "version",
        "not a version name",
    );
    refused("/epoch", json!(-1), "epoch", "invalid value");
    refused("/epoch", json!(1_u64 << 32), "epoch", "invalid value");
    refused("/unknown", json!(1), "unknown", "unknown field");
    refused(
        "/tree/digest",
        json!("2a"),
        "tree.digest",
        "64 hexadecimal digits",
    );
    refused(
        "/tree/entries",
        json!(0),
        "tree.entries",
        "0 is not in 1..=",
    );
    refused(
        "/tree/entries",
        json!(u64::MAX),
        "tree.entries",
        "is not in",
    );
    refused("/tree/bytes", json!(u64::MAX), "tree.bytes", "is not in");
    refused("/tree/bytes", json!(1.5), "tree.bytes", "invalid type");
}

#[test]
fn the_time_is_one() {
    for time in [
        "2026-11-23T01:22:00Z",
        "2026-11-23T01:22:60Z",
        "2026-11-23T01:22:00.5Z",
        "2026-11-23T01:22:00.123456789+01:30",
        "0000-01-01T00:00:00-23:59",
    ] {
        assert!(changed("/created", json!(time)).is_ok(), "{time}");
    }
    for time in [
        "",
        "now",
        "2026-11-23",
        "2026-11-23T01:22:00",
        "2026-11-23 01:22:00Z",
        "2026-13-23T01:22:00Z",
        "2026-11-00T01:22:00Z",
        "2026-11-23T24:22:00Z",
        "2026-11-23T01:60:00Z",
        "2026-11-23T01:22:61Z",
        "2026-11-23T01:22:00.Z",
        "2026-11-23T01:22:00.1234567890Z",
        "2026-11-23T01:22:00+1:30",
        "2026-11-23T01:22:00+24:00",
        "2026-11-23T01:22:00ZZ",
        "2026-11-23T01:22:0éZ",
        "+026-11-23T01:22:00Z",
    ] {
        refused("/created", json!(time), "created", "is not a time");
    }
}

#[test]
fn allowed_paths_are_relative_clean_and_sorted() {
    let long = "a".repeat(4096);
    for path in [
        "",
        "/bin/su",
        "bin//su",
        "bin/",
        "./su",
        "bin/../su",
        "..",
        "a\nb",
        "a\0b",
        &long,
    ] {
        for list in ["devices", "setuid", "capabilities"] {
            let field = format!("allow.{list}[1]");
            refused(
                &format!("/allow/{list}"),
                json!(["a", path]),
                &field,
                "is not a path",
            );
        }
    }
    for list in [json!(["b", "a"]), json!(["a", "a"])] {
        refused("/allow/setuid", list, "allow.setuid[1]", "must be sorted");
    }
    let many: Vec<_> = (0..4097).map(|index| format!("{index:04}")).collect();
    assert!(changed("/allow/setuid", json!(many[1..])).is_ok());
    refused("/allow/setuid", json!(many), "allow.setuid", "at most 4096");
    refused(
        "/allow",
        json!({ "fifos": [] }),
        "allow.fifos",
        "unknown field",
    );
    let none = changed("/allow", json!({})).unwrap();
    assert_eq!(none.allow, Allow::default());
}

#[test]
fn streams_are_checked_against_the_sizes_they_name() {
    for size in [0, 1, 32 << 10, (1 << 20) + 1, 3 << 20, 8 << 20] {
        refused("/chunk_size", json!(size), "chunk_size", "power of two");
    }
    refused(
        "/chunk_size",
        json!(512 << 10),
        "streams[0].chunks",
        "are 5 chunks",
    );
    refused("/streams", json!([]), "streams", "1 to 64");
    let stream = &serde_json::from_str::<Value>(GOLDEN).unwrap()["streams"][0];
    refused("/streams", json!(vec![stream; 65]), "streams", "1 to 64");
    refused(
        "/streams",
        json!([stream, stream]),
        "streams[1].file",
        "another stream",
    );
    let mut other = stream.clone();
    other["file"] = json!("other");
    refused(
        "/streams",
        json!([stream, other]),
        "streams[1].chunks",
        "same chunk",
    );
    let at = |name: &str| format!("/streams/0/{name}");
    let field = |name: &str| format!("streams[0].{name}");
    let refused_at = |name: &str, value: Value, words: &str| {
        refused(&at(name), value, &field(name), words);
    };
    refused_at("size", json!(0), "0 is not in 1..=");
    refused_at("size", json!(u64::MAX), "is not in 1..=");
    refused(
        "/streams/0/size",
        json!(1_u64 << 40),
        "streams[0].chunks",
        "are 1048576 chunks",
    );
    refused(
        "/streams/0/size",
        json!(3 * CHUNK_SIZE + 1),
        "streams[0].chunks",
        "are 4 chunks",
    );
    refused(
        "/streams/0/size",
        json!(2 * CHUNK_SIZE),
        "streams[0].chunks",
        "are 2 chunks",
    );
    refused_at("chunks", json!([]), "0 digests");
    refused(
        "/streams/0/chunks/1",
        json!(""),
        "streams[0].chunks[1]",
        "64 hexadecimal",
    );
    refused_at("sha256", json!("zz".repeat(32)), "64 hexadecimal");
    refused_at("compression", json!("xz"), "unknown variant");
    refused_at("stream_bytes", json!(0), "is not in 1..=");
    refused(
        "/streams/1/stream_bytes",
        json!(70_001),
        "streams[1].stream_bytes",
        "not compressed",
    );
    refused_at("content_bytes", json!(u64::MAX), "is not in");
    refused_at("uuid", json!(Uuid([0; 16])), "is not set");
    refused_at("uuid", json!("2b6d4f0e"), "32 hexadecimal");
    refused_at("signature", json!(""), "unknown field");
}

#[test]
fn a_file_is_a_plain_name_beside_the_manifest() {
    let long = "a".repeat(201);
    for name in [
        "", ".", "..", ".hidden", "-rf", "a/b", "/a", "a b", "a\\b", "a\0", "a\n", "é", "~", &long,
    ] {
        refused(
            "/streams/0/file",
            json!(name),
            "streams[0].file",
            "plain file name",
        );
    }
    for name in ["v1.1.0.json", "v1.1.0.json.asc", "v1.1.0.sha256"] {
        refused(
            "/streams/0/file",
            json!(name),
            "streams[0].file",
            "own files",
        );
    }
    for name in ["a", "v1.1.0-rc.1+build_7.btrfs.zst", &long[1..]] {
        assert!(changed("/streams/0/file", json!(name)).is_ok(), "{name}");
    }
}

#[test]
fn a_parent_is_another_version() {
    refused(
        "/streams/1/parent/uuid",
        json!(Uuid([0; 16])),
        "streams[1].parent.uuid",
        "not set",
    );
    let own = json!(golden().streams[1].uuid);
    refused(
        "/streams/1/parent/uuid",
        own,
        "streams[1].parent.uuid",
        "own",
    );
    refused(
        "/streams/1/parent/version",
        json!("v1.1.0"),
        "streams[1].parent.version",
        "own",
    );
    refused(
        "/streams/1/parent/digest",
        json!(1),
        "streams[1].parent.digest",
        "invalid type",
    );
    let full = changed("/streams/1/parent", Value::Null).unwrap();
    assert_eq!(full.streams[1].parent, None);
}

#[test]
fn what_is_no_manifest_is_refused() {
    let long = vec![b' '; MAX_LEN + 1];
    assert!(matches!(
        Manifest::parse(&long),
        Err(ManifestError::TooLong(_))
    ));
    let twice = format!("{GOLDEN}{GOLDEN}");
    let deep = "[".repeat(100_000);
    let double = GOLDEN.replacen("\"epoch\": 3", "\"epoch\": 3, \"epoch\": 4", 1);
    for text in [
        "",
        "null",
        "[]",
        "{}",
        "\u{feff}{}",
        &GOLDEN[..500],
        &twice,
        &deep,
        &double,
    ] {
        let error = Manifest::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(error, ManifestError::Field { .. }), "{error}");
    }
    assert!(Manifest::parse(b"\xff").is_err());
    // However long and odd what is named in the message.
    let name = "\\u001b[2J".repeat(100_000);
    let text = format!("{{\"schema\": 1, \"{name}\": 1}}");
    let error = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error.len() < 2000 && !error.contains('\x1b'), "{error}");
    // Another schema may look like anything.
    let error = Manifest::parse(br#"{"schema": 2, "what": "ever"}"#).unwrap_err();
    assert!(error.to_string().starts_with("schema: 2"), "{error}");
}

#[test]
fn streams_are_found_by_name_and_by_first_chunk() {
    let mut manifest = golden();
    manifest.streams[1].chunks[0] = Digest(Sha256::digest("first").into());
    let second = Some(&manifest.streams[1]);
    assert_eq!(manifest.stream_by_first_chunk(b"first"), second);
    assert_eq!(manifest.stream_by_first_chunk(b"other"), None);
    assert_eq!(manifest.stream_by_file("v1.1.0.from-v1.0.0.btrfs"), second);
    assert_eq!(manifest.stream_by_file("v1.1.0"), None);
}

#[test]
fn only_what_is_listed_is_permitted_and_only_as_what_it_is() {
    let allow = Allow {
        devices: vec!["dev/null".to_owned()],
        setuid: vec!["bin/su".to_owned()],
        capabilities: vec!["bin/ping".to_owned()],
    };
    let entry = |path: &str, kind| Privileged {
        path: path.into(),
        kind,
    };
    let listed = [
        entry("bin/ping", Kind::Capability),
        entry("bin/su", Kind::Setuid),
        entry("dev/null", Kind::Device),
    ];
    assert_eq!(allow.permits(&listed), Ok(()));
    assert_eq!(allow.permits(&[]), Ok(()));
    assert_eq!(
        Allow::default().permits(&listed).unwrap_err().path,
        b"bin/ping"
    );
    for (other, message) in [
        (
            entry("bin/su", Kind::Capability),
            "bin/su is a file with capabilities, which the manifest does not allow",
        ),
        (
            entry("bin/ping", Kind::Setuid),
            "bin/ping is a setuid or setgid file, which the manifest does not allow",
        ),
        (
            entry("dev/nul\n", Kind::Device),
            r"dev/nul\n is a device, which the manifest does not allow",
        ),
    ] {
        let mut found = listed.to_vec();
        found.push(other);
        let error = allow.permits(&found).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
