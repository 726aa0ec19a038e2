//! Messages about wrong values and texts, in the words of this project. The parsers' own messages speak of Rust, and
//! change with their versions, so none of them reaches a client or a person at the command line.

use std::{fs, io, path::Path, time::Duration};

/// Messages of the parsers of numbers, booleans and words, with their replacements.
const PLAIN: [(&str, &str); 6] = [
    ("invalid digit found in string", "must be a whole number"),
    ("cannot parse integer from empty string", "must be a whole number"),
    ("number too large", NO_NUMBER),
    ("number out of range", NO_NUMBER),
    ("provided string was not", "must be true or false"),
    // An object in the place of a word.
    ("wanted ", NO_WORD),
];

/// Messages of the TOML parser that a person can act on, with their replacements.
const OF_TOML: [(&str, &str); 6] = [
    ("duplicate key", "the name occurs twice"),
    ("string values must be quoted", "a text stands in quotes"),
    ("invalid basic string", "the quotes of the text do not close"),
    ("key with no value", "the key has no value"),
    ("unclosed", "a bracket does not close"),
    ("missing comma", "a comma is missing"),
];

/// The JSON parser's text for values that are nested deeper than the 128 levels that it follows.
const TOO_DEEP: &str = "recursion limit exceeded";

/// The message for an unknown word of an enumeration, which a parser reports as a syntax error.
pub(crate) const NO_WORD: &str = "must be one of the allowed words";

/// The message for a number that does not fit 64 bits.
const NO_NUMBER: &str = "is too large a number";

/// Rewrites a parser's message about a value. Messages of this program's own types pass unchanged.
pub(crate) fn of_fault(told: &str) -> String {
    let told = told.rsplit_once(" at line ").map_or(told, |(told, _)| told);
    let begins = |words: &[&str]| words.iter().any(|words| told.starts_with(words));
    if begins(&["invalid type: ", "invalid value: ", "invalid length "])
        && let Some((_, expected)) = told.rsplit_once(", expected ")
    {
        return format!("must be {}", kind(expected));
    }
    // Names from the client or of this API: a client's name may be as long as a body.
    let named = |prefix| told.strip_prefix(prefix).map(|rest| rest.split_once(", ").unwrap_or((rest, "")));
    if begins(&["unknown variant "])
        && let Some((_, words)) = told.rsplit_once(", expected ")
    {
        return format!("must be {words}");
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

/// The message for a limit of the JSON parser. The text is well-formed up to there, so the path says more than a column.
pub(crate) fn of_limit(error: &serde_json::Error) -> Option<&'static str> {
    let told = error.to_string();
    let limits = [(TOO_DEEP, "is nested too deep"), ("number out of range", NO_NUMBER)];
    limits.into_iter().find(|(theirs, _)| told.starts_with(theirs)).map(|(_, ours)| ours)
}

/// The message for a text that is not JSON, with the place.
pub(crate) fn of_json(error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "is not JSON: it ends too early".to_owned();
    }
    let (line, column) = (error.line(), error.column());
    format!("is not JSON, or goes on after it: see line {line}, column {column}")
}

/// The message for a text that is not TOML, with the number of the line. The line may hold a secret, so it is not shown.
pub(crate) fn of_toml(error: &toml::de::Error, text: &str) -> String {
    let lines = |span: std::ops::Range<usize>| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count();
    let line = error.span().map_or(0, lines) + 1;
    let what = OF_TOML.iter().find(|(theirs, _)| error.message().starts_with(theirs));
    format!("line {line}: {}", what.map_or("is not TOML", |(_, ours)| ours))
}

/// Reads a text file.
///
/// # Errors
/// The system's, or that the file is not a text.
pub(crate) fn text_of(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => io::Error::new(error.kind(), "it is not a text in UTF-8"),
        _ => error,
    })
}

/// Parses a duration with its unit.
///
/// # Errors
/// The expected form.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("must be {DURATION}"))
}

/// The form of a duration.
pub(crate) const DURATION: &str = "a time with its unit, such as \"500ms\", \"45s\" or \"2h\"";

/// Parses a whole number.
///
/// # Errors
/// The expected form.
pub(crate) fn count<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| "must be a whole number, not negative and not too large".to_owned())
}

/// The type that a parser expects, in everyday words. A text with an article is from a type of this program.
fn kind(expected: &str) -> &str {
    match expected {
        "a string" | "a borrowed string" | "string or map" | "variant identifier" | "str" | "path string" => "a text",
        "a boolean" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ if expected.starts_with("a ") => expected,
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
    fn what_parsers_say_is_reported_in_plain_words() {
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
            ("unknown variant `x, expected y`, expected `hot` or `cold`", "must be `hot` or `cold`"),
            ("invalid type: integer `75`, expected a time with its unit", "must be a time with its unit"),
            ("invalid type: integer `75`, expected path string", "must be a text"),
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
