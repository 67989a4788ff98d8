//! The published schema of `status --json`, made from its types and checked
//! against what the program prints (`tests/device/status.rs`).
//!
//! Set, `OP_DBUS_UPDATE_SCHEMA` writes the file instead of comparing it.

use std::fs;
use std::path::Path;

use op_dbus_bootstate::ending::Ending;
use op_dbus_bootstate::version;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::published::{SCHEMA, Status};

const UPDATE: &str = "OP_DBUS_UPDATE_SCHEMA";

/// The words an enum of another crate is written as: what serde says it expects.
fn words<'d, T: Deserialize<'d>>() -> Vec<Value> {
    let why = match T::deserialize(
        serde::de::value::StrDeserializer::<serde::de::value::Error>::new("?"),
    ) {
        Ok(_) => panic!("every word is one of this enum's"),
        Err(why) => why.to_string(),
    };
    let words = why.split('`').skip(3).step_by(2);
    words.map(Value::from).collect()
}

fn one_of(mut words: Vec<Value>, may_be_null: bool) -> Schema {
    assert!(words.len() > 1, "{words:?}");
    if may_be_null {
        words.push(Value::Null);
    }
    json_schema!({ "enum": words })
}

pub(super) fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "const": SCHEMA })
}

pub(super) fn command(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "const": "status" })
}

pub(super) fn result(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["ok", "attention"] })
}

pub(super) fn record_state(_: &mut SchemaGenerator) -> Schema {
    one_of(words::<op_dbus_activator::activation::RecordState>(), false)
}

pub(super) fn version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": version::MAX_LEN })
}

pub(super) fn versions(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": version(generator), "uniqueItems": true })
}

pub(super) fn digest(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
}

pub(super) fn maybe_digest(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "pattern": "^[0-9a-f]{64}$" })
}

pub(super) fn boot_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "uuid" })
}

pub(super) fn slot(_: &mut SchemaGenerator) -> Schema {
    one_of(words::<op_dbus_bootstate::Slot>(), true)
}

pub(super) fn origin(_: &mut SchemaGenerator) -> Schema {
    one_of(words::<op_dbus_bootstate::record::Origin>(), false)
}

pub(super) fn cause(_: &mut SchemaGenerator) -> Schema {
    one_of(words::<op_dbus_bootstate::quarantine::Cause>(), false)
}

pub(super) fn reason(_: &mut SchemaGenerator) -> Schema {
    one_of(words::<op_dbus_bootstate::record::Reason>(), false)
}

pub(super) fn maybe_reason(_: &mut SchemaGenerator) -> Schema {
    one_of(words::<op_dbus_bootstate::record::Reason>(), true)
}

pub(super) fn outcome(_: &mut SchemaGenerator) -> Schema {
    one_of(words::<op_dbus_bootstate::record::Outcome>(), false)
}

pub(super) fn verdict(_: &mut SchemaGenerator) -> Schema {
    one_of(words::<op_dbus_bootstate::record::Next>(), true)
}

pub(super) fn ending(_: &mut SchemaGenerator) -> Schema {
    // It reads words of later releases, so serde does not list its own.
    let all = [
        Ending::Orderly,
        Ending::PowerCut,
        Ending::Panic,
        Ending::Watchdog,
        Ending::Unknown,
    ];
    one_of(all.iter().map(|ending| json!(ending)).collect(), true)
}

fn strings() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

/// `activation.json`, as the activator writes it.
pub(super) fn activation(generator: &mut SchemaGenerator) -> Schema {
    use op_dbus_activator::activation::{Outcome, SCHEMA as NUMBER, Source};
    use op_dbus_activator::overlay::Begin;
    let plan = json!({
        "type": ["object", "null"],
        "properties": { "applied": count(), "kept": strings(), "more": count() },
        "required": ["applied", "kept", "more"],
    });
    let overlay = json!({
        "type": ["object", "null"],
        "properties": { "origin": one_of(words::<Begin>(), false), "plan": plan },
        "required": ["origin", "plan"],
    });
    let failure = json!({
        "type": "object",
        "properties": {
            "slot": one_of(words::<op_dbus_bootstate::Slot>(), false),
            "version": version(generator),
            "reason": { "type": "string" },
        },
        "required": ["slot", "version", "reason"],
    });
    let record = json!({
        "type": "object",
        "properties": { "state": record_state(generator), "repaired": { "type": "boolean" } },
        "required": ["state", "repaired"],
    });
    let properties = json!({
        "schema": { "type": "integer", "const": NUMBER },
        "program": { "description": "Which program wrote it, with its version.", "type": "string" },
        "record_formats": { "description": "Formats of the boot record that it reads.", "type": "array", "items": count() },
        "boot_id": { "type": ["string", "null"], "format": "uuid" },
        "outcome": one_of(words::<Outcome>(), false),
        "slot": slot(generator),
        "version": { "type": ["string", "null"], "maxLength": version::MAX_LEN },
        "digest": maybe_digest(generator),
        "counted": { "description": "Only a counted boot is blessed or condemned.", "type": "boolean" },
        "source": one_of(words::<Source>(), false),
        "reason": { "description": "Why, in a sentence.", "type": "string" },
        "overlay": overlay,
        "degraded": { "description": "What works less well than it should: stable words (RECOVERY.md).", "type": "array", "items": { "type": "string" } },
        "failures": { "description": "Candidates that could not be activated, in order.", "type": "array", "items": failure },
        "record": record,
        "steps_us": {
            "description": "Time each step took, in microseconds, in order.",
            "type": "array",
            "items": { "type": "array", "prefixItems": [{ "type": "string" }, count()], "minItems": 2, "maxItems": 2 },
        },
        "total_us": { "description": "Time of everything, in microseconds.", "type": "integer", "minimum": 0 },
    });
    let required = properties
        .as_object()
        .map(|fields| fields.keys().cloned().collect::<Vec<_>>());
    json_schema!({ "type": ["object", "null"], "properties": properties, "required": required })
}

/// `import.json`.
pub(super) fn import(_: &mut SchemaGenerator) -> Schema {
    let properties = json!({
        "version": { "type": "string" },
        "sysusers": count(), "tmpfiles": count(), "policies": count(), "services": count(),
        "refused": { "description": "What was refused: path, maybe line, and why.", "type": "array", "items": { "type": "string" } },
        "more": { "description": "How many more there were.", "type": "integer", "minimum": 0 },
    });
    let required = properties
        .as_object()
        .map(|fields| fields.keys().cloned().collect::<Vec<_>>());
    json_schema!({ "type": ["object", "null"], "properties": properties, "required": required })
}

/// What the types say, and what every command's JSON has besides.
fn published() -> Schema {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<Status<'_>>()
        .to_value();
    let warnings = json!({ "description": "What went wrong meanwhile.", "type": "array", "items": { "type": "string" } });
    schema["properties"]["warnings"] = warnings;
    let required = schema["required"].as_array_mut().unwrap();
    required.push(json!("warnings"));
    required.sort_by_key(ToString::to_string);
    Schema::try_from(schema).unwrap()
}

#[test]
fn the_published_schema_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join(format!("../docs/status-{SCHEMA}.schema.json"));
    let expected = serde_json::to_string_pretty(&published()).unwrap() + "\n";
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is out of date; run: {UPDATE}=1 cargo test -p op-dbus-staging --lib schema",
        path.display()
    );
}
