//! The published schema says what the reader does: the same tables, the same keys, and every file that is right for the one
//! is right for the other.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::raw::{
    RawChaos, RawDisk, RawEvent, RawExpect, RawFile, RawJob, RawLink, RawLinks, RawMemory, RawNamespace,
    RawRegion, RawStorm, RawWorkload,
};
use super::{Labels, SCHEMA, library, write};
use crate::schedule::Schedule;

/// The keys of a table: serde lists them when it refuses one.
fn keys<T: DeserializeOwned>() -> BTreeSet<String> {
    let refused = toml::from_str::<T>("no-such-key = 1").err().expect("unknown keys are refused");
    let message = refused.message().to_owned();
    let listed = message.split_once("expected").expect("serde lists them").1;
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn schema() -> Value {
    serde_json::from_str(SCHEMA).expect("JSON")
}

fn properties(table: &Value) -> BTreeSet<String> {
    table["properties"].as_object().expect("a table").keys().cloned().collect()
}

#[test]
fn schema_and_reader_have_the_same_tables_and_keys() {
    let schema = schema();
    assert_eq!(properties(&schema), keys::<RawFile>());
    for (table, keys) in [
        ("region", keys::<RawRegion>()),
        ("links", keys::<RawLinks>()),
        ("link", keys::<RawLink>()),
        ("disk", keys::<RawDisk>()),
        ("memory", keys::<RawMemory>()),
        ("namespace", keys::<RawNamespace>()),
        ("workload", keys::<RawWorkload>()),
        ("storm", keys::<RawStorm>()),
        ("job", keys::<RawJob>()),
        ("event", keys::<RawEvent>()),
        ("chaos", keys::<RawChaos>()),
        ("expect", keys::<RawExpect>()),
    ] {
        assert_eq!(properties(&schema["$defs"][table]), keys, "{table}");
    }
}

#[test]
fn the_manual_names_every_key() {
    let manual = include_str!("../../SCENARIOS.md");
    let schema = schema();
    let tables = schema["$defs"].as_object().expect("tables").values();
    for key in tables.filter(|table| table["properties"].is_object()).flat_map(properties) {
        assert!(manual.contains(&format!("\n| `{key}` |")), "{key} is not in SCENARIOS.md");
    }
}

/// Of JSON Schema what ours uses; anything else in it is an error here.
fn valid(schema: &Value, root: &Value, value: &Value) -> Result<(), String> {
    for (word, rule) in schema.as_object().expect("a schema is an object") {
        let fine = match word.as_str() {
            "$schema" | "title" | "description" | "$defs" | "properties" | "minimum" | "maximum" => true,
            "$ref" => {
                let name =
                    rule.as_str().and_then(|path| path.strip_prefix("#/$defs/")).expect("a definition");
                valid(&root["$defs"][name], root, value)?;
                true
            }
            "type" => match rule.as_str().expect("one type") {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64() || value.is_u64(),
                "number" => value.is_number(),
                other => return Err(format!("the schema has a type {other}")),
            },
            "enum" => rule.as_array().expect("a list").contains(value),
            "anyOf" => {
                rule.as_array().expect("a list").iter().any(|either| valid(either, root, value).is_ok())
            }
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|item| valid(rule, root, item))?;
                true
            }
            "required" => rule
                .as_array()
                .expect("a list")
                .iter()
                .all(|key| !value[key.as_str().unwrap_or("")].is_null()),
            "additionalProperties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    match (schema["properties"].get(key), rule.is_object()) {
                        (Some(known), _) => valid(known, root, inner)?,
                        (None, true) => valid(rule, root, inner)?,
                        (None, false) => return Err(format!("unknown key {key}")),
                    }
                }
                true
            }
            other => return Err(format!("the schema has a word {other}")),
        };
        if !fine {
            return Err(format!("{value} is not what {word} asks for"));
        }
    }
    Ok(())
}

fn json(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Value>(text).expect("TOML")).expect("JSON")
}

#[test]
fn every_file_that_ships_or_is_written_is_right_for_the_schema() {
    let schema = schema();
    for scenario in library::ALL {
        valid(&schema, &schema, &json(scenario.text))
            .unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
    }
    for seed in 0..100 {
        let text = write(&Schedule::draw(seed), &Labels::default()).expect("it can be written");
        valid(&schema, &schema, &json(&text)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    for wrong in
        ["durtion = \"5s\"", "region = 3", "region = [{ name = \"a\", later = 1 }]", "[[region]]\nname = 3"]
    {
        assert!(valid(&schema, &schema, &json(wrong)).is_err(), "{wrong}");
    }
}
