//! The passage of a text in which a query's words were found.
//!
//! It comes in pieces rather than with markup in it: texts are what producers wrote, and a caller that puts pieces onto a page
//! needs no rule of escaping to do so safely.

use std::collections::HashSet;

use serde::Serialize;

use super::{
    query::TextQuery,
    words::{is_separator, is_unspaced, words},
};

/// How much of a text is shown: two lines of a list.
const PASSAGE_CHARS: usize = 200;

/// How much of that stands before the first word that was found, so that it is read in its sentence.
const LEAD_CHARS: usize = 60;

/// A part of a passage. One after the other they are the passage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Piece {
    pub text: String,
    /// Whether this is what was looked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hit: bool,
}

/// The passage of `text` around the first word that the query wants, cut to some 200 characters and with an ellipsis where it
/// was cut; `None` when none of its words is there.
pub fn highlight(query: &TextQuery, text: &str) -> Option<Vec<Piece>> {
    let wanted = Wanted::of(query);
    let runs: Vec<_> = Runs { rest: text }.map(|run| (run, wanted.has(run))).collect();
    let first_hit = runs.iter().position(|&(_, hit)| hit)?;

    // Back from the first hit, then on from it, by whole runs, as far as there is room.
    let mut from = first_hit;
    let mut lead = 0;
    while from > 0 {
        lead += runs[from - 1].0.chars().count();
        if lead > LEAD_CHARS {
            break;
        }
        from -= 1;
    }
    let mut to = from;
    let mut shown = 0;
    while to < runs.len() {
        shown += runs[to].0.chars().count();
        if shown > PASSAGE_CHARS && to > first_hit {
            break;
        }
        to += 1;
    }
    let mut passage = Passage::default();
    passage.add(if from > 0 { "…" } else { "" }, false);
    runs[from..to].iter().for_each(|&(run, hit)| passage.add(run, hit));
    passage.add(if to < runs.len() { "…" } else { "" }, false);
    Some(passage.pieces)
}

/// The words that a match may have been found by.
struct Wanted<'a> {
    words: HashSet<&'a str>,
    prefix: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(query: &'a TextQuery) -> Self {
        let words = query.wanted().flat_map(|term| &term.words).map(String::as_str).collect();
        Self { words, prefix: query.prefix() }
    }

    fn has(&self, run: &str) -> bool {
        words(run).iter().any(|word| {
            self.words.contains(word.as_str()) || self.prefix.is_some_and(|prefix| word.starts_with(prefix))
        })
    }
}

#[derive(Default)]
struct Passage {
    pieces: Vec<Piece>,
}

impl Passage {
    fn add(&mut self, text: &str, hit: bool) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(last) if last.hit == hit => last.text.push_str(text),
            _ => self.pieces.push(Piece { text: text.to_owned(), hit }),
        }
    }
}

/// The runs of a text: of characters that separate words, and of others; what is a word by itself is a run by itself.
struct Runs<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Runs<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let kind = |character| (is_separator(character), is_unspaced(character));
        let first = kind(self.rest.chars().next()?);
        let mut ends = self.rest.char_indices().skip(1);
        let end = ends.find(|&(_, character)| first.1 || kind(character) != first);
        let (run, rest) = self.rest.split_at(end.map_or(self.rest.len(), |(end, _)| end));
        self.rest = rest;
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The passage with brackets around what was found.
    fn passage(typed: &str, text: &str) -> Option<String> {
        let pieces = highlight(&TextQuery::parse(typed).expect("a query"), text)?;
        Some(
            pieces
                .iter()
                .map(|piece| if piece.hit { format!("[{}]", piece.text) } else { piece.text.clone() })
                .collect(),
        )
    }

    #[test]
    fn words_are_found_as_they_are_written() {
        for (typed, text, shown) in [
            ("tide tables", "Tide tables, 2026", "[Tide] [tables], 2026"),
            ("tab", "Tables and tabs and stabs", "[Tables] and [tabs] and stabs"),
            ("\"tab\"", "Tables and tab", "Tables and [tab]"),
            ("sao ete", "São Paulo en Été", "[São] Paulo en [Été]"),
            ("tide -sea", "sea tide", "sea [tide]"),
            ("a or b", "b & a", "[b] & [a]"),
            ("東京", "新東京駅", "新[東京]駅"),
            ("<b>", "a <b>bold</b> b", "a <[b]>bold</[b]> [b]"),
        ] {
            assert_eq!(passage(typed, text).as_deref(), Some(shown), "{typed}");
        }
        assert_eq!(passage("tide", "nothing of it"), None);
        assert_eq!(passage("-tide", "tide"), None);
        assert_eq!(passage("tide", ""), None);
    }

    #[test]
    fn a_long_text_is_cut_around_the_first_word_that_was_found() {
        let text = format!("{}tide{}", "before ".repeat(100), " after".repeat(100));
        let shown = passage("tide", &text).expect("found");
        assert!(shown.starts_with("…before ") || shown.starts_with("… before "), "{shown}");
        assert!(shown.contains(" [tide] after") && shown.ends_with('…'), "{shown}");
        assert!(shown.chars().count() <= PASSAGE_CHARS + 4, "{shown}");
        let word = "x".repeat(1000);
        assert_eq!(passage(&word, &word), Some(format!("[{word}]")), "a hit is never cut");
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_text_as_it_was(text in "[a-c \"é東-]{0,300}", typed in "[a-c]{1,3}") {
            let query = TextQuery::parse(&typed).expect("a word");
            if let Some(pieces) = highlight(&query, &text) {
                prop_assert!(pieces.iter().any(|piece| piece.hit));
                let whole: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
                prop_assert!(text.contains(whole.trim_matches('…')));
            }
        }
    }
}
