//! Rules for the values of a request. All violations are collected, so that a client can fix them at once.

use std::{borrow::Cow, ops::RangeInclusive};

use penstock_actors::ids::is_plain_name;
use serde_json::Value;

use super::{Problem, problem::Violation};

/// Every satoshi there will ever be: 21 million coins of 10^8.
pub const MAX_SATOSHIS: u64 = 2_100_000_000_000_000;

/// A body that checks its own rules.
pub trait Validate {
    fn validate(&self, violations: &mut Violations);
}

/// The rules that a request breaks.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Notes a violation unless `holds`.
    pub fn require(&mut self, holds: bool, path: impl Into<String>, detail: impl Into<Cow<'static, str>>) {
        if !holds {
            self.0.push(Violation { path: path.into(), detail: detail.into() });
        }
    }

    /// A text for people, on one line, with a number of characters in this range.
    pub fn line(&mut self, path: &'static str, text: &str, chars: RangeInclusive<usize>) {
        let (least, most) = (*chars.start(), *chars.end());
        self.require(chars.contains(&text.chars().count()), path, format!("must have {least} to {most} characters"));
        self.require(!text.chars().any(char::is_control), path, "must not have control characters");
    }

    /// A text of at most this many bytes.
    pub fn text(&mut self, path: &'static str, text: &str, bytes: usize) {
        self.require(text.len() <= bytes, path, format!("must have at most {bytes} bytes"));
        // PostgreSQL cannot store it.
        self.require(!text.contains('\0'), path, "must not have NUL characters");
    }

    pub fn satoshis(&mut self, path: &'static str, satoshis: u64) {
        self.require(satoshis <= MAX_SATOSHIS, path, format!("must be at most {MAX_SATOSHIS}"));
    }

    /// The name of a tier.
    pub fn tier(&mut self, path: &'static str, name: &str) {
        self.require(is_tier_name(name), path, "must have 1 to 64 characters out of a-z, 0-9 and -");
    }

    pub fn media_type(&mut self, path: impl Into<String>, text: &str) {
        self.require(is_media_type(text), path, "must be a media type, such as video/mp4");
    }

    /// A JSON object of at most this many bytes as text.
    pub fn object(&mut self, path: &'static str, value: &Value, bytes: usize) {
        self.require(value.is_object(), path, "must be an object");
        self.require(value.to_string().len() <= bytes, path, format!("must have at most {bytes} bytes as JSON"));
        self.require(!holds_nul(value), path, "must not have NUL characters");
    }

    /// # Errors
    /// `validation-failed` when there are violations.
    pub fn into_result(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0.into()) }
    }
}

pub fn is_tier_name(name: &str) -> bool {
    is_plain_name(name)
}

/// `type/subtype` with parameters, valid in a header. 255 characters are more than any registered type has.
pub fn is_media_type(text: &str) -> bool {
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let is_token =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b));
    text.len() <= 255
        // Trimmed as the search does, which trims only spaces.
        && essence.trim_end_matches(' ').split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
        && parameters.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

/// A media type, or a family of them such as `video/*`.
pub fn is_media_range(text: &str) -> bool {
    match text.strip_suffix("/*") {
        Some(family) => is_media_type(&format!("{family}/any")),
        None => is_media_type(text) && !text.contains(';'),
    }
}

/// The parser has bounded the depth to 128.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_tiers_are_plain() {
        for (name, allowed) in [("standard", true), ("tier-2", true), ("", false), ("Gold", false), ("a b", false)] {
            assert_eq!(is_tier_name(name), allowed, "{name:?}");
        }
        assert!(is_tier_name(&"a".repeat(64)) && !is_tier_name(&"a".repeat(65)));
    }

    #[test]
    fn media_types_can_be_sent_in_a_header() {
        for good in ["video/mp4", "text/plain; charset=utf-8", "text/plain ;a=b", "application/vnd.api+json"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in [
            "",
            "video",
            "/mp4",
            "video/",
            "video/*",
            "text/plain\r\nx: y",
            "vidéo/mp4",
            "a b/c",
            "text/csv\n",
            "text/csv\t;a=b",
            "text/csv\u{a0}",
        ] {
            assert!(!is_media_type(bad), "{bad:?}");
        }
        assert!(is_media_range("video/*") && is_media_range("text/plain"));
        assert!(!is_media_range("*/*") && !is_media_range("text/plain; charset=utf-8"));
    }

    #[test]
    fn what_no_database_stores_is_found_at_any_depth() {
        let mut violations = Violations::default();
        violations.object("policyMeta", &json!({ "a": [{ "b\0": 1 }] }), 100);
        assert!(violations.into_result().is_err());
    }

    #[test]
    fn all_violations_are_reported_at_once() {
        let mut violations = Violations::default();
        violations.line("name", "", 1..=256);
        violations.satoshis("priceSatoshis", MAX_SATOSHIS + 1);
        violations.tier("quotaTier", "standard");
        assert_eq!(
            violations.0.iter().map(|broken| broken.path.as_str()).collect::<Vec<_>>(),
            ["name", "priceSatoshis"]
        );
    }
}
