//! Catalogue search: parsing and highlighting, as plain data and pure functions.
//!
//! - [`words()`]: the words of a text, in the form in which they are compared
//! - [`TextQuery`]: the typed text, in the syntax of web searches, parsed once for every database
//! - [`Highlighter`]: the passage of a text in which a query's words were found
//!
//! Results have an order that every database can keep exactly, page by page, while assets are added: first by where the words
//! were found ([`MatchedField`]), then newest first. A score that depends on the rest of the catalogue could not be kept like that.

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod characters;
mod highlight;
mod query;
mod words;

pub use characters::is_unspaced;
pub use highlight::{Highlighter, Piece};
pub use query::{Alternative, Term, TextQuery, TextQueryError};
pub use words::{MAX_WORD_CHARS, words};

/// Where the words of a query were found: the primary order of the results, best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MatchedField {
    /// Some of them only in the texts of `policy_meta`.
    PolicyMeta,
    /// All in the name or the description, some only in the description.
    Description,
    /// All in the name.
    Name,
}

impl MatchedField {
    /// Best first.
    pub const ALL: [Self; 3] = [Self::Name, Self::Description, Self::PolicyMeta];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Description => "description",
            Self::PolicyMeta => "policyMeta",
        }
    }

    /// The number in cursors and statements: larger is better.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Name => 3,
            Self::Description => 2,
            Self::PolicyMeta => 1,
        }
    }

    pub fn of_rank(rank: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|found| found.rank() == rank)
    }
}

/// The texts in a JSON value, at any depth, without the names of members.
pub fn texts(value: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    collect(value, &mut found);
    found
}

/// The parsers of these values bound their depth to 128.
fn collect<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(members) => members.values().for_each(|member| collect(member, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_texts_of_a_value_are_found_at_any_depth() {
        let value = json!({ "a": "one", "b": [1, "two", { "three": "four" }], "c": null, "d": true });
        assert_eq!(texts(&value), ["one", "two", "four"]);
        assert_eq!(texts(&json!({})), [""; 0]);
    }

    #[test]
    fn ranks_tell_the_places_apart() {
        assert!(MatchedField::Name > MatchedField::Description && MatchedField::Description > MatchedField::PolicyMeta);
        for found in MatchedField::ALL {
            assert_eq!(MatchedField::of_rank(found.rank()), Some(found));
        }
        assert_eq!(MatchedField::of_rank(0), None);
    }
}
