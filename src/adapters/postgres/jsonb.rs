//! JSON in columns of type `jsonb`, with its numbers as clients sent them.
//!
//! The type normalizes numbers: `1e+400` comes back with four hundred zeros, `-0` comes back without its sign, and a
//! number with too many digits is refused. Such a number is stored as an object with one member whose name holds the
//! number: `{"$number 1e+400": null}`. It is in a name and not in a text, because the search finds texts. A client's
//! own object of that form gets the mark once more before its name.

use std::borrow::Cow;

use penstock_actors::{
    model::Facets,
    ports::{PortError, PortResult},
};
use serde_json::{Map, Number, Value, value::RawValue};

use super::columns::Columns;

const MARK: &str = "$number ";

/// The longest number that the type accepts, in bytes: it has room for 16,383 digits after the point, and for more
/// before it.
const LONGEST: usize = 1000;

impl Columns<'_> {
    pub(super) fn json(&self, name: &str) -> PortResult<Value> {
        self.get::<Value>(name).map(from_jsonb)
    }

    pub(super) fn facets(&self, name: &str) -> PortResult<Facets> {
        let mut facets = self.get::<tokio_postgres::types::Json<Facets>>(name)?.0;
        for facet in facets.iter_mut().filter(|facet| facet.is.get().contains(MARK)) {
            rewrite(&mut facet.is, from_jsonb)
                .map_err(|error| PortError::Corrupt(format!("column {name}: {error}")))?;
        }
        Ok(facets)
    }
}

/// The value in its stored form.
pub(super) fn to_jsonb(value: &Value) -> Cow<'_, Value> {
    if is_kept(value) { Cow::Borrowed(value) } else { Cow::Owned(stored(value.clone())) }
}

/// The facets in their stored form.
pub(super) fn facets_to_jsonb(mut facets: Facets) -> Facets {
    for facet in facets.iter_mut().filter(|facet| may_change(facet.is.get())) {
        rewrite(&mut facet.is, stored).expect("a facet is JSON");
    }
    facets
}

fn rewrite(text: &mut Box<RawValue>, by: impl Fn(Value) -> Value) -> serde_json::Result<()> {
    *text = serde_json::value::to_raw_value(&by(serde_json::from_str(text.get())?))?;
    Ok(())
}

/// A quick check whether a JSON text may hold a value that the type would change.
fn may_change(json: &str) -> bool {
    let mut pairs = json.as_bytes().windows(2);
    json.contains(MARK)
        || pairs.any(|pair| pair == b"-0" || (pair[0].is_ascii_digit() && matches!(pair[1], b'e' | b'E')))
        || json.split(|c: char| !c.is_ascii_digit() && c != '.').any(|run| run.len() >= LONGEST)
}

/// Whether the type returns the value unchanged.
fn is_kept(value: &Value) -> bool {
    match value {
        Value::Number(number) => is_plain(number.as_str()),
        Value::Array(items) => items.iter().all(is_kept),
        Value::Object(members) => !is_marked(members) && members.values().all(is_kept),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn is_plain(number: &str) -> bool {
    let is_zero = || number.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.'));
    number.len() < LONGEST && !number.contains(['e', 'E']) && !(number.starts_with('-') && is_zero())
}

fn is_marked(members: &Map<String, Value>) -> bool {
    members.len() == 1 && members.keys().all(|name| name.starts_with(MARK))
}

fn stored(value: Value) -> Value {
    match value {
        Value::Number(number) if !is_plain(number.as_str()) => named(format!("{MARK}{number}"), Value::Null),
        Value::Array(items) => items.into_iter().map(stored).collect(),
        Value::Object(members) => {
            let mark = if is_marked(&members) { MARK } else { "" };
            members.into_iter().map(|(name, member)| (format!("{mark}{name}"), stored(member))).collect()
        }
        plain => plain,
    }
}

fn from_jsonb(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(from_jsonb).collect(),
        Value::Object(members) if is_marked(&members) => members.into_iter().map(unmarked).next().unwrap_or_default(),
        Value::Object(members) => members.into_iter().map(|(name, member)| (name, from_jsonb(member))).collect(),
        plain => plain,
    }
}

/// The value that a single member with the mark stands for. If it holds no number, it was stored before the mark
/// existed.
fn unmarked((name, member): (String, Value)) -> Value {
    let rest = &name[MARK.len()..];
    if rest.starts_with(MARK) {
        return named(rest.to_owned(), from_jsonb(member));
    }
    match rest.parse::<Number>() {
        Ok(number) if member.is_null() => number.into(),
        _ => named(name, from_jsonb(member)),
    }
}

fn named(name: String, member: Value) -> Value {
    Value::Object(Map::from_iter([(name, member)]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn what_the_type_would_change_is_stored_under_a_mark_and_the_rest_as_it_is() {
        for (given, stands) in [
            (r#"{"a":[1.50,-3,12345678901234567890123]}"#, r#"{"a":[1.50,-3,12345678901234567890123]}"#),
            (r#"{"a":1e400}"#, r#"{"a":{"$number 1e+400":null}}"#),
            ("[-0,-0.0,-0.5]", r#"[{"$number -0":null},{"$number -0.0":null},-0.5]"#),
            (r#"{"$number 5":null}"#, r#"{"$number $number 5":null}"#),
            (r#"{"$number 5":null,"b":1}"#, r#"{"$number 5":null,"b":1}"#),
        ] {
            assert_eq!(*to_jsonb(&read(given)), read(stands));
            assert_eq!(from_jsonb(read(stands)), read(given));
            assert!(given == stands || may_change(given), "{given}");
        }
        let long = read(&format!("[{}]", "7".repeat(200_000)));
        assert_ne!(*to_jsonb(&long), long);
        assert!(may_change(&long.to_string()));
        assert_eq!(from_jsonb(to_jsonb(&long).into_owned()), long);
        let older = read(r#"{"$number of rows":5}"#);
        assert_eq!(from_jsonb(older.clone()), older);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let number = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?(e[+-]?[0-9]{1,5})?".prop_map(|text| read(&text));
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "[a-z$ ]{0,3}".prop_map(Value::from),
            number
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let name = prop_oneof!["[a-z]{0,2}", "(\\$number ){0,2}[0-9e]{0,2}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_stored_comes_back_as_it_was(value in any_value()) {
            let stands = to_jsonb(&value);
            prop_assert!(may_change(&value.to_string()) || *stands == value);
            prop_assert_eq!(from_jsonb(stands.into_owned()), value);
        }
    }
}
