//! The names of lineage: namespaces, and the jobs and datasets in them.
//!
//! A key is a hash of a name. So a key can be computed from the name without a look-up between an event and its rows,
//! and two instances that see a name for the first time at the same moment agree on its key.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The longest word that search can tell apart, in bytes. Longer words are cut.
const WORD_BYTES: usize = 64;

/// Words of a name that are indexed for search: more than any name that a person would look for has.
const WORDS: usize = 64;

/// A job or a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    Job,
    Dataset,
}

impl NodeKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Dataset => "dataset",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Job, Self::Dataset].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The key of a [`NodeName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeKey(pub [u8; 16]);

/// The key of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceKey(pub [u8; 16]);

impl NamespaceKey {
    pub fn of(namespace: &str) -> Self {
        Self(digest(&[b"namespace", namespace.as_bytes()]))
    }
}

/// A job or a dataset by its name. Neither part is empty, has control characters, or is longer than the bounds of
/// [`EventBounds`](crate::lineage::event::EventBounds) allow. Every other character is allowed, `/`, `:` and `%` included.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeName {
    pub kind: NodeKind,
    pub namespace: String,
    pub name: String,
}

impl NodeName {
    pub fn new(kind: NodeKind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    pub fn job(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(NodeKind::Job, namespace, name)
    }

    pub fn dataset(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(NodeKind::Dataset, namespace, name)
    }

    pub fn key(&self) -> NodeKey {
        NodeKey(digest(&[self.kind.as_str().as_bytes(), self.namespace.as_bytes(), self.name.as_bytes()]))
    }

    /// The words by which search finds it.
    pub fn words(&self) -> String {
        let mut words = words_of(&self.namespace);
        words.extend(words_of(&self.name));
        words.sort_unstable();
        words.dedup();
        words.truncate(WORDS);
        words.join(" ")
    }
}

/// `kind:NAMESPACE:NAME`, with `%` and `:` in the two names percent-encoded, so the text can be split at its colons.
impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind.as_str(), Encoded(&self.namespace), Encoded(&self.name))
    }
}

struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(place) = rest.find(['%', ':']) {
            f.write_str(&rest[..place])?;
            f.write_str(if rest.as_bytes()[place] == b'%' { "%25" } else { "%3A" })?;
            rest = &rest[place + 1..];
        }
        f.write_str(rest)
    }
}

/// The words of a text: runs of letters and digits in lower case, each once, at most [`WORD_BYTES`] long. Names are
/// split here and not by a database, so that every database finds the same.
pub fn words_of(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut words: Vec<String> = Vec::new();
    for word in lower.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let end =
            word.char_indices().map(|(at, letter)| at + letter.len_utf8()).take_while(|end| *end <= WORD_BYTES).last();
        let word = &word[..end.unwrap_or(0)];
        if !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
        if words.len() == WORDS {
            break;
        }
    }
    words
}

/// 128 bits of SHA-256 over parts, each after its length, so that two lists of parts never hash the same text.
fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hash.finalize()[..16]);
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_two_names_share_a_text_or_a_key(a in "[a:%/]{0,4}", b in "[a:%/]{0,4}", c in "[a:%/]{0,4}", d in "[a:%/]{0,4}") {
            let (one, other) = (NodeName::job(a, b), NodeName::job(c, d));
            prop_assert_eq!(one == other, one.to_string() == other.to_string());
            prop_assert_eq!(one == other, one.key() == other.key());
            prop_assert_eq!(one.to_string().matches(':').count(), 2);
        }

        #[test]
        fn words_are_short_lower_and_few(text in "\\PC{0,300}") {
            let words = words_of(&text);
            prop_assert!(words.len() <= WORDS);
            prop_assert!(words.iter().all(|word| word.len() <= WORD_BYTES && word.chars().all(char::is_alphanumeric)));
        }
    }

    #[test]
    fn a_name_is_found_by_its_parts() {
        let name = NodeName::dataset("postgres://Host:5432", "public.Users_2026 users");
        assert_eq!(name.words(), "2026 5432 host postgres public users");
        assert_ne!(name.key(), NodeName::job("postgres://Host:5432", "public.Users_2026 users").key());
    }
}
