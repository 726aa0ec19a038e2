//! The document of a policy as it arrives: any JSON without duplicate members. Of two members with one name parsers use
//! one, and not all parsers use the same, so it would be unclear which rules the policy has.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{Validate, Violations};

/// A document in the policy language.
pub(super) struct Document(pub(super) Value);

impl Validate for Document {
    /// The policy language has its own parser, which reports all flaws with their paths.
    fn validate(&self, _: &mut Violations) {}
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Self)
    }
}

/// Accepts any value.
struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, into: &mut fmt::Formatter<'_>) -> fmt::Result {
        into.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(Document(value)) = values.next_element()? {
            read.push(value);
        }
        Ok(read.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some((name, Document(value))) = members.next_entry::<String, _>()? {
            if read.contains_key(&name) {
                return Err(A::Error::custom("a member occurs twice"));
            }
            read.insert(name, value);
        }
        let may_be_number = read.len() == 1 && read.values().all(Value::is_string);
        let read = Value::Object(read);
        // A number whose text the parser keeps arrives as a map with one text, under a name that only the parser knows.
        if may_be_number { Value::deserialize(read).map_err(A::Error::custom) } else { Ok(read) }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Option<Value> {
        serde_json::from_str(text).ok().map(|Document(value)| value)
    }

    #[test]
    fn a_member_that_is_there_twice_is_refused_at_any_depth() {
        assert_eq!(read(r#"{"rules":[],"rules":[]}"#), None);
        assert_eq!(read(r#"{"rules":[{"id":"a","id":"b"}]}"#), None);
        assert_eq!(read(r#"[{"a":1},{"a":1}]"#), Some(json!([{ "a": 1 }, { "a": 1 }])));
    }

    proptest! {
        #[test]
        fn everything_else_is_read_as_others_read_it(
            number in any::<f64>(), whole in any::<i64>(), large in any::<u64>(), text in ".*", truth in any::<bool>(),
        ) {
            let value = json!({ "a": [number, whole, large, null], "b": { "c": text, "d": truth }, "e": { "f": number } });
            let text = value.to_string().replacen('[', "[12345678901234567890.10,1e400,", 1);
            prop_assert_eq!(read(&text), serde_json::from_str(&text).ok());
        }
    }
}
