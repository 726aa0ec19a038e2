//! The text of a search box, read as web searches read it.
//!
//! | typed | means |
//! |---|---|
//! | `tide tables` | both words, in any order |
//! | `"tide tables"`, `“tide tables”` | side by side, in this order |
//! | `tide or tables` | either; `or` binds less tightly than standing side by side |
//! | `tide -tables` | not this word or `"phrase"` |
//! | `CC-BY-4.0` | words joined by punctuation are a phrase |
//!
//! The last word also matches longer words that begin with it, unless it is quoted, negated or a single letter. There
//! are no syntax errors: a quote without its pair, an operator without its operand and the like are ignored.

use serde::Serialize;

use super::{characters::is_unspaced, words::words};

/// Words in one query. More words say nothing about an asset, and each costs one or more look-ups in an index.
const MAX_WORDS: usize = 32;

/// The fewest letters with which the last word matches longer words.
const PREFIX_CHARS: usize = 2;

/// A parsed query. It has at least one alternative.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct TextQuery {
    alternatives: Vec<Alternative>,
}

/// The terms that an asset must have and must not have. At least one of the lists has an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Alternative {
    pub wanted: Vec<Term>,
    pub unwanted: Vec<Term>,
}

/// Words side by side; at least one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Term {
    pub words: Vec<String>,
    /// The last word matches all words that begin with it.
    pub prefix: bool,
}

/// Why a text is not a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextQueryError {
    #[error("there is no word in it: search looks for letters and digits")]
    NoWords,
    #[error("it has more than {MAX_WORDS} words")]
    TooManyWords,
}

impl TextQuery {
    /// Parses a query.
    ///
    /// # Errors
    /// When it has no word, or too many.
    pub fn parse(typed: &str) -> Result<Self, TextQueryError> {
        let mut alternatives = vec![Alternative::default()];
        let mut last_may_be_prefix = false;
        let mut after_or = false;
        let mut rest = typed;
        loop {
            rest = rest.trim_start_matches(is_space);
            let Some(token) = Token::take(&mut rest) else { break };
            let current = alternatives.last_mut().expect("there is always one");
            if token.is_or() && !current.is_empty() && !after_or && !rest.trim_matches(is_space).is_empty() {
                alternatives.push(Alternative::default());
                after_or = true;
                continue;
            }
            let words = words(token.text);
            if words.is_empty() {
                continue;
            }
            after_or = false;
            last_may_be_prefix = !token.quoted && !token.negated;
            let side = if token.negated { &mut current.unwanted } else { &mut current.wanted };
            side.push(Term { words, prefix: false });
        }
        alternatives.retain(|alternative| !alternative.is_empty());
        let terms = || alternatives.iter().flat_map(|one| one.wanted.iter().chain(&one.unwanted));
        match terms().map(|term| term.words.len()).sum::<usize>() {
            0 => return Err(TextQueryError::NoWords),
            1..=MAX_WORDS => {}
            _ => return Err(TextQueryError::TooManyWords),
        }
        if last_may_be_prefix && let Some(last) = alternatives.last_mut().and_then(|one| one.wanted.last_mut()) {
            last.prefix = last.words.last().is_some_and(|word| may_be_prefix(word));
        }
        Ok(Self { alternatives })
    }

    pub fn alternatives(&self) -> &[Alternative] {
        &self.alternatives
    }

    /// The word that matches all words that begin with it. There is at most one: the last word typed.
    pub fn prefix(&self) -> Option<&str> {
        let last = self.alternatives.last().and_then(|one| one.wanted.last());
        last.filter(|term| term.prefix).and_then(|term| term.words.last()).map(String::as_str)
    }

    /// The terms that a match may have.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Term> {
        self.alternatives.iter().flat_map(|one| &one.wanted)
    }
}

impl Alternative {
    fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.unwanted.is_empty()
    }
}

fn may_be_prefix(word: &str) -> bool {
    word.chars().count() >= PREFIX_CHARS && !word.starts_with(is_unspaced)
}

/// Control characters separate like spaces, so none of them reaches a database.
fn is_space(character: char) -> bool {
    character.is_whitespace() || character.is_control()
}

/// Quotes as keyboards and telephones produce them: English, German, French and fullwidth. Languages differ in which
/// one opens and which one closes a phrase, so each may do either.
const QUOTES: &[char] = &['"', '“', '”', '„', '‟', '«', '»', '＂'];

/// A run of characters, or the text between quotes.
struct Token<'a> {
    text: &'a str,
    quoted: bool,
    negated: bool,
}

impl<'a> Token<'a> {
    /// Takes the first token off a text that does not begin with a space.
    fn take(rest: &mut &'a str) -> Option<Self> {
        let text = *rest;
        let bare = text.trim_start_matches('-');
        // A dash negates the term that directly follows it; alone it is a dash.
        let negated = bare.len() < text.len() && !bare.is_empty() && !bare.starts_with(is_space);
        let text = if negated { bare } else { text };
        if let Some((phrase, behind)) = text.strip_prefix(QUOTES).and_then(|inside| inside.split_once(QUOTES)) {
            *rest = behind;
            return Some(Self { text: phrase, quoted: true, negated });
        }
        // A quote without its pair is ignored.
        let text = text.strip_prefix(QUOTES).unwrap_or(text);
        if text.is_empty() {
            *rest = text;
            return None;
        }
        let end = text.find(|character| is_space(character) || QUOTES.contains(&character)).unwrap_or(text.len());
        *rest = &text[end..];
        Some(Self { text: &text[..end], quoted: false, negated })
    }

    fn is_or(&self) -> bool {
        !self.quoted && !self.negated && self.text.eq_ignore_ascii_case("or")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The query in a notation for tests: `a&"b c"&!d|e*`.
    fn read(typed: &str) -> String {
        let term = |term: &Term| {
            let words = term.words.join(" ");
            let words = if term.words.len() > 1 { format!("\"{words}\"") } else { words };
            if term.prefix { format!("{words}*") } else { words }
        };
        match TextQuery::parse(typed) {
            Err(error) => error.to_string(),
            Ok(query) => {
                let alternatives = query.alternatives.iter().map(|one| {
                    let unwanted = one.unwanted.iter().map(|unwanted| format!("!{}", term(unwanted)));
                    one.wanted.iter().map(term).chain(unwanted).collect::<Vec<_>>().join("&")
                });
                alternatives.collect::<Vec<_>>().join("|")
            }
        }
    }

    #[test]
    fn the_syntax_is_that_of_web_searches() {
        for (typed, means) in [
            ("tide", "tide*"),
            ("Tide  TABLES", "tide&tables*"),
            ("\"tide tables\"", "\"tide tables\""),
            ("tide \"of the\" year", "tide&\"of the\"&year*"),
            ("“tide tables”", "\"tide tables\""),
            ("-„tide tables“ sea", "sea*&!\"tide tables\""),
            ("«tide tables» or ＂a sea＂", "\"tide tables\"|\"a sea\""),
            ("tide “sea", "tide&sea*"),
            ("don’t", "\"don t\""),
            ("tide or tables", "tide|tables*"),
            ("a b OR c d", "a&b|c&d"),
            ("tide -tables", "tide&!tables"),
            ("-tables tide", "tide*&!tables"),
            ("-\"tide tables\" sea", "sea*&!\"tide tables\""),
            ("-tide", "!tide"),
            ("CC-BY-4.0", "\"cc by 4 0\""),
            ("deep-se", "\"deep se\"*"),
            ("a@b.org", "\"a b org\"*"),
            ("東京", "\"東 京\""),
            ("tide x", "tide&x"),
        ] {
            assert_eq!(read(typed), means, "{typed}");
        }
    }

    #[test]
    fn what_is_no_syntax_is_passed_over() {
        for (typed, means) in [
            ("or tide", "or&tide*"),
            ("tide or", "tide&or*"),
            ("tide or or sea", "tide|or&sea*"),
            ("tide or -", "tide*"),
            ("tide - sea", "tide&sea*"),
            ("--tide sea", "sea*&!tide"),
            ("\"tide sea", "tide&sea*"),
            ("tide\" sea", "tide&sea*"),
            ("tide\"deep sea\"salt", "tide&\"deep sea\"&salt*"),
            ("\"\" tide \"!\"", "tide*"),
            ("tide & | ! ( ) : * <-> \\ '", "tide*"),
            ("name:tide NEAR(sea) ^x", "\"name tide\"&\"near sea\"&x"),
            ("ti\0de", "ti&de*"),
            ("\u{202e}edit\u{202c} سلام", "edit&سلام*"),
        ] {
            assert_eq!(read(typed), means, "{typed}");
        }
    }

    #[test]
    fn a_text_without_words_and_one_with_too_many_are_refused() {
        for typed in ["", "   ", "\"\"", "- -- \"", "🌊", "&|!()", "\0\u{1}\u{7f}"] {
            assert_eq!(TextQuery::parse(typed), Err(TextQueryError::NoWords), "{typed:?}");
        }
        assert!(TextQuery::parse(&"a ".repeat(MAX_WORDS)).is_ok());
        assert_eq!(TextQuery::parse(&"a ".repeat(MAX_WORDS + 1)), Err(TextQueryError::TooManyWords));
        assert_eq!(TextQuery::parse(&"a-".repeat(5000)), Err(TextQueryError::TooManyWords));
    }

    proptest! {
        #[test]
        fn every_text_is_read_or_refused(typed in "\\PC{0,100}|[a-c\"\\- \\x00or&|!()*:<>^']{0,100}") {
            if let Ok(query) = TextQuery::parse(&typed) {
                prop_assert!(!query.alternatives.is_empty());
                let mut prefixes = 0;
                for one in &query.alternatives {
                    prop_assert!(!one.is_empty());
                    for term in one.wanted.iter().chain(&one.unwanted) {
                        prop_assert!(!term.words.is_empty());
                        prefixes += usize::from(term.prefix);
                    }
                }
                prop_assert_eq!(prefixes, usize::from(query.prefix().is_some()));
            }
        }

        /// Queries in ordinary notation are understood as meant.
        #[test]
        fn plain_words_are_all_wanted(given in proptest::collection::vec("[b-n]{1,8}", 1..8)) {
            let query = TextQuery::parse(&given.join(" ")).expect("words");
            let wanted: Vec<_> = query.wanted().map(|term| term.words.join(" ")).collect();
            prop_assert_eq!(wanted, given);
        }
    }
}
