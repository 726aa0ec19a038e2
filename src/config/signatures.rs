//! `[signatures]`: requests that are signed with an identity key.

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::{problem::Rules, value};

/// The time between the oldest and the newest acceptable request must allow for the transmission.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// Signed requests are remembered this long; a day would fill the memory.
const LONGEST_WINDOW: Duration = Duration::from_mins(15);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signatures {
    /// The addresses under which clients reach this installation; empty: it accepts no signed requests.
    pub audience: String,
    /// How old a signed request may be.
    #[serde(deserialize_with = "value::duration")]
    pub window: Duration,
    /// How far a signer's clock may be ahead.
    #[serde(deserialize_with = "value::duration")]
    pub ahead: Duration,
    /// Requests that are remembered.
    #[serde(deserialize_with = "value::count")]
    pub remembered: u32,
}

impl Signatures {
    /// The addresses one by one.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.audience.split(',').map(str::trim).filter(|audience| !audience.is_empty())
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(
            self.audiences().all(is_origin),
            &["signatures.audience"],
            "be addresses by comma, each as in \"https://node.example.com\": scheme, host, and a port that is not the \
             scheme's own, in lower case",
        );
        rules.require(
            (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&self.window),
            &["signatures.window"],
            "be 1s to 15min",
        );
        rules.require(
            self.ahead <= self.window,
            &["signatures.ahead", "signatures.window"],
            "be no longer than signatures.window",
        );
        rules.at_least_one(self.remembered, &["signatures.remembered"]);
    }
}

/// Whether a text is an origin in the form in which clients derive it from the address that they call.
pub(super) fn is_origin(text: &str) -> bool {
    Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_spelling() {
        for text in ["https://node.example.com", "http://127.0.0.1:8080", "https://[::1]:8443"] {
            assert!(is_origin(text), "{text}");
        }
        for text in [
            "node.example.com",
            "https://node.example.com/",
            "https://node.example.com/v1",
            "https://node.example.com:443",
            "https://Node.example.com",
            "ftp://node.example.com",
            "https://user@node.example.com",
        ] {
            assert!(!is_origin(text), "{text}");
        }
    }
}
