//! The published schema of the manifest, made from the types and the limits.
//!
//! What a schema can't say is only in [`super::check`]: that counts match sizes,
//! that lists are sorted, that streams differ from each other.

use std::fs;
use std::path::Path;

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{
    ALLOW_MAX, CHUNK_SIZES, FILE_LEN_MAX, Manifest, PATH_LEN_MAX, PRODUCT_LEN_MAX, SCHEMA,
};

/// Set, the test writes the file instead of comparing it.
const UPDATE: &str = "OP_DBUS_UPDATE_SCHEMA";

pub(super) fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "const": SCHEMA })
}

pub(super) fn product(_: &mut SchemaGenerator) -> Schema {
    let more = PRODUCT_LEN_MAX - 1;
    json_schema!({ "type": "string", "pattern": format!("^[a-z0-9][a-z0-9.-]{{0,{more}}}$") })
}

pub(super) fn version(_: &mut SchemaGenerator) -> Schema {
    let most = op_dbus_bootstate::version::MAX_LEN;
    json_schema!({
        "type": "string",
        "maxLength": most,
        // The grammar in full is semver's.
        "pattern": r"^v?[0-9]+\.[0-9]+\.[0-9]+([+-][0-9A-Za-z.+-]+)?$",
    })
}

pub(super) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

pub(super) fn chunk_size(_: &mut SchemaGenerator) -> Schema {
    let sizes = CHUNK_SIZES.filter(|size| size.is_power_of_two());
    json_schema!({ "type": "integer", "enum": sizes.collect::<Vec<_>>() })
}

pub(super) fn digest(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
}

pub(super) fn chunks(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": digest(generator), "minItems": 1 })
}

pub(super) fn uuid(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "uuid" })
}

pub(super) fn file(_: &mut SchemaGenerator) -> Schema {
    let more = FILE_LEN_MAX - 1;
    let pattern = format!("^[0-9A-Za-z][0-9A-Za-z._+-]{{0,{more}}}$");
    json_schema!({ "type": "string", "pattern": pattern })
}

pub(super) fn paths(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": { "type": "string", "maxLength": PATH_LEN_MAX, "pattern": "^[^/]+(/[^/]+)*$" },
        "maxItems": ALLOW_MAX,
        "uniqueItems": true,
    })
}

#[test]
fn the_published_schema_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join(format!("../docs/release-manifest-{SCHEMA}.schema.json"));
    let schema = schemars::schema_for!(Manifest);
    let expected = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is out of date; run: {UPDATE}=1 cargo test -p op-dbus-release schema",
        path.display()
    );
}
