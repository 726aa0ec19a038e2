//! Whose words a message is in: this project's, or those of a library that it is made with.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

/// What libraries say, and no client and no person at the command line should read.
const THEIRS: [&str; 34] = [
    "invalid type",
    "invalid value:",
    "invalid digit",
    "invalid length",
    "invalid character",
    "invalid utf-8",
    "expected ",
    " at line ",
    "EOF",
    "trailing ",
    "surrogate",
    "hex escape",
    "control character (",
    "recursion",
    "struct ",
    "u32",
    "u64",
    "i64",
    "parsing",
    "parse ",
    "unknown variant",
    "unknown field",
    "missing field",
    "duplicate ",
    "not of type",
    "stream did not contain",
    "fill whole buffer",
    "deflate",
    "time unit",
    "TOML parse",
    "unquoted",
    "error sending request",
    "builder error",
    "client error",
];

/// How this project begins to say what is wrong with a value.
const OURS: [&str; 13] = [
    "must ",
    "is ",
    "has ",
    "lies ",
    "`",
    "a content hash is ",
    "a member ",
    "a status is ",
    "a tier is ",
    "an identity key is ",
    "the id of ",
    "there is ",
    "names ",
];

/// Fails when a message has a library's words in it.
pub(crate) fn assert_none_of_theirs(told: &str, of: &str) {
    let theirs = THEIRS.iter().find(|words| told.contains(*words));
    assert!(theirs.is_none(), "{of}: {theirs:?} in: {told}");
}

/// Fails when what is told of a value begins as nothing does that this project says of values. An id is told in its kind's words.
pub(crate) fn assert_ours(told: &str, of: &str) {
    assert_none_of_theirs(told, of);
    let is_of_an_id = told.contains(" is a UUID, such as ");
    assert!(is_of_an_id || OURS.iter().any(|words| told.starts_with(words)), "{of}: {told}");
}
