//! Messages about wrong values, in the words of this API. The parsers' own messages speak of Rust, and change with
//! their versions.

use serde::{Deserialize, Deserializer};

/// Messages of the parsers of numbers and booleans, with their replacements.
const PLAIN: [(&str, &str); 4] = [
    ("invalid digit found in string", "must be a whole number"),
    ("cannot parse integer from empty string", "must be a whole number"),
    ("number too large", "is too large a number"),
    ("provided string was not", "must be true or false"),
];

/// Rewrites a message of a parser of bodies or queries. Messages of this program's own types pass unchanged.
pub(super) fn of_fault(told: &str) -> String {
    let told = told.rsplit_once(" at line ").map_or(told, |(told, _)| told);
    let wrong = told.strip_prefix("invalid type: ").or_else(|| told.strip_prefix("invalid value: "));
    if let Some((_, expected)) = wrong.and_then(|wrong| wrong.rsplit_once(", expected ")) {
        return format!("must be {}", kind(expected));
    }
    // Names from the client or of this API: a client's name may be as long as a body.
    let named = |prefix| told.strip_prefix(prefix).map(|rest| rest.split_once(", ").unwrap_or((rest, "")));
    if let Some((_, others)) = named("unknown variant ") {
        return format!("must be one of {}", listed(others));
    }
    if let Some((name, others)) = named("unknown field ") {
        return format!("{} is not known here; there are {}", short(name), listed(others));
    }
    if let Some((name, _)) = named("missing field ") {
        return format!("{name} is missing");
    }
    if let Some((name, _)) = named("duplicate field ") {
        return format!("{name} occurs twice");
    }
    let plain = PLAIN.iter().find(|(theirs, _)| told.starts_with(theirs));
    plain.map_or(told, |(_, ours)| ours).to_owned()
}

/// The message for an unknown word of an enumeration, which a parser reports as a syntax error.
pub(super) const NO_WORD: &str = "must be one of the allowed words";

/// The message for a number that does not fit 64 bits.
pub(super) const NO_NUMBER: &str = "is too large a number";

/// A value that may be omitted: null means the same, as everywhere in this API.
///
/// # Errors
/// The errors of the value.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The type that a parser expects, in everyday words.
fn kind(expected: &str) -> &'static str {
    match expected {
        "a string" | "a borrowed string" | "string or map" | "variant identifier" | "str" => "a text",
        "a boolean" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ => "of another type",
    }
}

/// The names that a parser expects: `expected one of ..`, `expected .. or ..`.
fn listed(others: &str) -> &str {
    let names = others.strip_prefix("expected ").unwrap_or("none");
    names.strip_prefix("one of ").unwrap_or(names)
}

fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(64)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parsers_say_is_said_in_our_words() {
        for (theirs, ours) in [
            ("invalid type: null, expected a string at line 1 column 9", "must be a text"),
            ("invalid type: string \"a, expected u64\", expected u32", "must be a whole number that is not negative"),
            (
                "invalid value: integer `-1`, expected u64 at line 1 column 3",
                "must be a whole number that is not negative",
            ),
            ("invalid type: sequence, expected struct CreateAsset", "must be an object"),
            ("unknown field `a`, expected one of `b`, `c`", "`a` is not known here; there are `b`, `c`"),
            ("unknown field `a`, expected `b` or `c`", "`a` is not known here; there are `b` or `c`"),
            ("unknown field `a`, there are no fields", "`a` is not known here; there are none"),
            ("unknown variant `x`, expected one of `hot`, `cold`", "must be one of `hot`, `cold`"),
            ("missing field `name` at line 1 column 2", "`name` is missing"),
            ("duplicate field `name` at line 1 column 2", "`name` occurs twice"),
            ("invalid digit found in string", "must be a whole number"),
            (
                "a content hash is 64 hexadecimal characters at line 1 column 2",
                "a content hash is 64 hexadecimal characters",
            ),
        ] {
            assert_eq!(of_fault(theirs), ours);
        }
    }
}
