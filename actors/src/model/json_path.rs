//! Paths to a member of a JSON document, as errors name them: `job.facets["a b"]`.

use std::fmt::Write as _;

/// Appends a member to a path, in brackets where its name is not a plain word.
pub fn push_member(path: &mut String, member: &str) {
    let plain = !member.is_empty() && member.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    // Writing to a String cannot fail.
    let _ = match (plain, path.is_empty()) {
        (true, true) => write!(path, "{member}"),
        (true, false) => write!(path, ".{member}"),
        (false, _) => write!(path, "[{member:?}]"),
    };
}
