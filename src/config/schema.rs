//! The JSON schema of a configuration file, for editors.
//!
//! It is made of what the program itself goes by: `config/default.toml` has the keys, their defaults and their descriptions, and the
//! sections say which values a key takes, by being asked: each kind of value is tried in place of the default, as the value of an
//! operator's file would be. So the schema needs no second description of the configuration.

use serde::Deserialize as _;
use serde_json::{Map, Value as Json, json};
use toml::{Table, Value};

use super::{Config, DEFAULTS};

/// A word that no key takes.
const NO_WORD: &str = "no key takes this word";

/// The schema.
///
/// # Errors
/// When the defaults cannot be read, which a test excludes.
pub fn schema() -> anyhow::Result<Json> {
    let defaults: Table = DEFAULTS.parse()?;
    let sections: Map<String, Json> = defaults
        .iter()
        .filter_map(|(section, keys)| Some((section, keys.as_table()?)))
        .map(|(section, keys)| {
            let properties: Map<String, Json> =
                keys.iter().map(|(key, default)| (key.clone(), property(&defaults, section, key, default))).collect();
            let schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
            (section.clone(), schema)
        })
        .collect();
    Ok(json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "The configuration of Penstock",
        "type": "object",
        "additionalProperties": false,
        "properties": sections,
    }))
}

fn property(defaults: &Table, section: &str, key: &str, default: &Value) -> Json {
    let refusal = |value: Value| refusal(defaults, section, key, value);
    let mut property = json!({ "description": description(section, key), "default": default });
    if let Some(words) = refusal(NO_WORD.into()).as_deref().and_then(alternatives) {
        property["enum"] = words.into();
        return property;
    }
    let kinds = [
        ("boolean", vec![Value::Boolean(true)]),
        // A share is at most 1, and a port at most 65535.
        ("integer", vec![Value::Integer(1)]),
        ("number", vec![Value::Float(0.5)]),
        ("string", vec![NO_WORD.into(), "".into(), "1s".into(), "127.0.0.1:1".into(), "0.5".into(), default.clone()]),
    ];
    let kinds = kinds.into_iter().filter(|(kind, values)| {
        values.iter().any(|value| (*kind != "string" || value.is_str()) && refusal(value.clone()).is_none())
    });
    let mut kinds: Vec<&str> = kinds.map(|(kind, _)| kind).collect();
    // Each integer is a number as well.
    if kinds.contains(&"number") {
        kinds.retain(|kind| *kind != "integer");
    }
    property["type"] = if let [kind] = kinds[..] { kind.into() } else { kinds.into() };
    property
}

/// Why a key does not take a value, if it does not.
fn refusal(defaults: &Table, section: &str, key: &str, value: Value) -> Option<String> {
    let mut tried = defaults.clone();
    *tried.get_mut(section)?.get_mut(key)? = value;
    Config::deserialize(tried).err().map(|error| error.message().to_owned())
}

/// The words that a key takes, from the refusal of another one: ``unknown variant `x`, expected one of `a`, `b` ``.
fn alternatives(refusal: &str) -> Option<Vec<String>> {
    let (_, list) = refusal.strip_prefix("unknown variant ")?.split_once(", expected ")?;
    Some(list.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// The comment above a key.
fn description(section: &str, key: &str) -> String {
    let lines = DEFAULTS.lines().skip_while(|line| *line != format!("[{section}]")).skip(1);
    let mut comment: Vec<&str> = Vec::new();
    for line in lines {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if line.split('=').next().is_some_and(|name| name.trim() == key) {
            break;
        } else {
            comment.clear();
        }
    }
    comment.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validator() -> jsonschema::Validator {
        jsonschema::validator_for(&schema().expect("a schema")).expect("a schema that can be used")
    }

    fn is_valid(text: &str) -> bool {
        let file: Table = text.parse().expect("TOML");
        validator().is_valid(&serde_json::to_value(file).expect("JSON"))
    }

    #[test]
    fn the_defaults_are_valid_and_mistakes_are_not() {
        assert!(is_valid(DEFAULTS));
        for valid in [
            "",
            "[uploads]\nmax_bytes = 1048576",
            "[uploads]\nmax_bytes = \"64MiB\"",
            "[delivery]\nurl_ttl = 60",
            "[janitor]\norphan_share = 0.5",
            "[quota]\nlost_lease = \"release\"",
            "[rate_limits]\nstreaming = 600\nadmin = \"default\"",
        ] {
            assert!(is_valid(valid), "{valid}");
        }
        for mistake in [
            "[uploads]\nmax_byte = 1",
            "[upload]\nmax_bytes = 1",
            "[server]\nkeep_alive = 30",
            "[server]\nworkers = \"four\"",
            "[quota]\nlost_lease = \"relaese\"",
            "[database]\nmigrate_at_start = \"yes\"",
            "[log]\nformat = \"xml\"",
        ] {
            assert!(!is_valid(mistake), "{mistake}");
        }
    }

    #[test]
    fn each_key_is_described_and_takes_something() {
        let schema = schema().expect("a schema");
        for (section, keys) in schema["properties"].as_object().expect("sections") {
            for (key, property) in keys["properties"].as_object().expect("keys") {
                let kinds = &property["type"];
                let takes = kinds.is_string() || kinds.as_array().is_some_and(|kinds| !kinds.is_empty());
                assert!(takes || property["enum"].is_array(), "{section}.{key}: {property}");
                assert_ne!(property["description"], "", "{section}.{key}");
            }
        }
        let mode = &schema["properties"]["delivery"]["properties"]["mode"];
        assert_eq!(mode["enum"], json!(["stream", "presigned", "direct", "accel"]));
        let bind = &schema["properties"]["server"]["properties"]["bind"];
        assert!(bind["description"].as_str().is_some_and(|text| text.starts_with("Address and port to listen on.")));
    }
}
