//! Holds what is printed against `docs/status-1.schema.json`: as much of JSON
//! Schema as that uses, and anything else it uses is an error.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// Keywords that say nothing about what is valid.
const REMARKS: [&str; 6] = [
    "$schema",
    "$defs",
    "title",
    "description",
    "format",
    "default",
];

#[track_caller]
pub(super) fn check(value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/status-1.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    if let Err(why) = valid(&schema, &schema, value, "") {
        panic!("{why}: {value}");
    }
    let known = schema["properties"].as_object().unwrap();
    for name in value.as_object().unwrap().keys() {
        assert!(known.contains_key(name), "{name} is not in the schema");
    }
}

fn valid(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Object(schema) => schema,
        other => return Err(format!("{at}: {other} is no schema")),
    };
    for (word, says) in schema {
        keyword(root, schema, (word, says), value, at)?;
    }
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "a few for each keyword")]
fn keyword(
    root: &Value,
    schema: &Map<String, Value>,
    (word, says): (&String, &Value),
    value: &Value,
    at: &str,
) -> Result<(), String> {
    let ensure = |holds: bool| {
        let why = || format!("{at}: {value} is not {word} {says}");
        holds.then_some(()).ok_or_else(why)
    };
    let length = |least: bool, of: usize| match (says.as_u64(), least) {
        (Some(bound), true) => of as u64 >= bound,
        (Some(bound), false) => of as u64 <= bound,
        (None, _) => false,
    };
    match word.as_str() {
        word if REMARKS.contains(&word) => Ok(()),
        "$ref" => {
            let path = says
                .as_str()
                .and_then(|path| path.strip_prefix('#'))
                .unwrap();
            valid(root, root.pointer(path).unwrap(), value, at)
        }
        "type" => {
            let one = [says.clone()];
            let types = says.as_array().map_or(one.as_slice(), Vec::as_slice);
            ensure(
                types
                    .iter()
                    .any(|name| is_of(name.as_str().unwrap(), value)),
            )
        }
        "enum" => ensure(says.as_array().unwrap().contains(value)),
        "const" => ensure(says == value),
        "anyOf" | "oneOf" => {
            let all = says.as_array().unwrap();
            ensure(
                all.iter()
                    .any(|schema| valid(root, schema, value, at).is_ok()),
            )
        }
        "minimum" => ensure(
            value
                .as_f64()
                .is_none_or(|found| found >= says.as_f64().unwrap()),
        ),
        "maximum" => ensure(
            value
                .as_f64()
                .is_none_or(|found| found <= says.as_f64().unwrap()),
        ),
        "maxLength" => ensure(value.as_str().is_none_or(|text| length(false, text.len()))),
        "minItems" => ensure(
            value
                .as_array()
                .is_none_or(|items| length(true, items.len())),
        ),
        "maxItems" => ensure(
            value
                .as_array()
                .is_none_or(|items| length(false, items.len())),
        ),
        "uniqueItems" => ensure(value.as_array().is_none_or(|items| {
            items
                .iter()
                .enumerate()
                .all(|(at, item)| !items[..at].contains(item))
        })),
        "pattern" => {
            // The only one there is.
            assert_eq!(says, "^[0-9a-f]{64}$");
            let is_hex = |text: &str| {
                text.len() == 64
                    && text
                        .bytes()
                        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            };
            ensure(value.as_str().is_none_or(is_hex))
        }
        "required" => {
            let Some(found) = value.as_object() else {
                return Ok(());
            };
            ensure(
                says.as_array()
                    .unwrap()
                    .iter()
                    .all(|name| found.contains_key(name.as_str().unwrap())),
            )
        }
        "properties" => {
            let Some(found) = value.as_object() else {
                return Ok(());
            };
            for (name, schema) in says.as_object().unwrap() {
                if let Some(value) = found.get(name) {
                    valid(root, schema, value, &format!("{at}/{name}"))?;
                }
            }
            Ok(())
        }
        "additionalProperties" => {
            let Some(found) = value.as_object() else {
                return Ok(());
            };
            let named = schema.get("properties").and_then(Value::as_object);
            let more = found
                .iter()
                .filter(|(name, _)| named.is_none_or(|named| !named.contains_key(*name)));
            for (name, value) in more {
                valid(root, says, value, &format!("{at}/{name}"))?;
            }
            Ok(())
        }
        "items" => {
            let before = schema
                .get("prefixItems")
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            for (index, item) in value
                .as_array()
                .into_iter()
                .flatten()
                .enumerate()
                .skip(before)
            {
                valid(root, says, item, &format!("{at}/{index}"))?;
            }
            Ok(())
        }
        "prefixItems" => {
            for (schema, item) in says
                .as_array()
                .unwrap()
                .iter()
                .zip(value.as_array().into_iter().flatten())
            {
                valid(root, schema, item, at)?;
            }
            Ok(())
        }
        other => Err(format!("{at}: keyword {other} is unknown here")),
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

#[test]
fn what_does_not_conform_is_found() {
    let schema = serde_json::json!({
        "type": "object",
        "properties": { "n": { "type": ["integer", "null"], "minimum": 1 }, "word": { "enum": ["a", null] } },
        "required": ["n"],
    });
    let judge = |value: Value| valid(&schema, &schema, &value, "").is_ok();
    assert!(judge(
        serde_json::json!({ "n": 1, "word": "a", "more": true })
    ));
    for wrong in [
        serde_json::json!({}),
        serde_json::json!({ "n": "1" }),
        serde_json::json!({ "n": 0 }),
        serde_json::json!({ "n": 1, "word": "b" }),
        serde_json::json!([]),
    ] {
        assert!(!judge(wrong.clone()), "{wrong}");
    }
}
