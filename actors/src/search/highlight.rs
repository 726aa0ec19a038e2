//! The passage of a text in which a query's words were found.
//!
//! It is returned in pieces, without markup: producers wrote these texts, and a caller that puts pieces onto a page
//! needs no escaping rule to do so safely.

use std::collections::HashSet;

use serde::Serialize;
use unicode_normalization::char::decompose_compatible;

use super::{
    characters::{folded, is_separator, is_unspaced},
    query::TextQuery,
    words::words,
};

/// How much of a text is shown: two lines of a list.
const PASSAGE_CHARS: usize = 200;

/// How much of that precedes the first hit, so that the hit is read in its sentence.
const LEAD_CHARS: usize = 60;

/// Bytes of text searched for one query. A page of a hundred assets of 2 KiB each has less, and few pages have more. A
/// page of the largest assets, requested again and again, must not keep a thread busy.
const LOOKED_THROUGH: usize = 256 << 10;

/// A part of a passage. All parts in order make the passage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Piece {
    pub text: String,
    /// Whether this is a hit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hit: bool,
}

/// Finds the passages for one query, in one text after the other. After [`LOOKED_THROUGH`] bytes it skips the rest.
#[derive(Debug)]
pub struct Highlighter<'a> {
    /// The words that a match may have.
    words: HashSet<&'a str>,
    prefix: Option<&'a str>,
    left: usize,
}

impl<'a> Highlighter<'a> {
    pub fn of(query: &'a TextQuery) -> Self {
        let words = query.wanted().flat_map(|term| &term.words).map(String::as_str).collect();
        Self { words, prefix: query.prefix(), left: LOOKED_THROUGH }
    }

    /// The passage of `text` around the first word that the query wants, cut to some 200 characters, with an ellipsis
    /// at each cut. `None` when none of its words occurs, or the text exceeds the bytes that may still be searched.
    pub fn passage(&mut self, text: &str) -> Option<Vec<Piece>> {
        self.left = self.left.checked_sub(text.len())?;
        let mut runs = Runs { rest: text };
        let mut lead = Vec::new();
        let found = loop {
            let run = runs.next()?;
            if self.has(run) {
                break run;
            }
            lead.push(run);
        };
        // First backwards from the hit, then forwards, in whole runs, as far as there is room.
        let mut from = lead.len();
        let mut shown = 0;
        while from > 0 {
            let longer = shown + lead[from - 1].chars().count();
            if longer > LEAD_CHARS {
                break;
            }
            shown = longer;
            from -= 1;
        }
        let mut passage = Passage::default();
        passage.add(if from > 0 { "…" } else { "" }, false);
        lead[from..].iter().for_each(|run| passage.add(run, false));
        passage.add(found, true);
        shown += found.chars().count();
        for run in runs {
            shown += run.chars().count();
            if shown > PASSAGE_CHARS {
                passage.add("…", false);
                break;
            }
            passage.add(run, self.has(run));
        }
        Some(passage.pieces)
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

/// The runs of a text, such that each word of [`words`] lies in one run: runs of separators, and runs of other
/// characters. A character that is a word by itself is a run by itself.
struct Runs<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Runs<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut so_far: Option<Shape> = None;
        let mut end = self.rest.len();
        for (at, character) in self.rest.char_indices() {
            // A dropped character belongs to the run before it.
            let Some(shape) = Shape::of(character) else { continue };
            if so_far.is_some_and(|so_far| !so_far.goes_on_with(shape)) {
                end = at;
                break;
            }
            so_far = Some(so_far.map_or(shape, |so_far| so_far.and(shape)));
        }
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(run).filter(|run| !run.is_empty())
    }
}

/// The parts of a character after the decomposition that [`words`] applies: `½` begins and ends with a digit, `℃`
/// begins with a sign and ends with a letter.
#[derive(Clone, Copy)]
struct Shape {
    first: CharacterKind,
    last: CharacterKind,
    /// It consists of separators only.
    separates: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CharacterKind {
    Separator,
    Unspaced,
    /// Changes the kana before it.
    Voicing,
    Other,
}

impl CharacterKind {
    fn of(character: char) -> Self {
        match character {
            '\u{3099}' | '\u{309a}' => Self::Voicing,
            _ if is_separator(character) => Self::Separator,
            _ if is_unspaced(character) => Self::Unspaced,
            _ => Self::Other,
        }
    }
}

impl Shape {
    /// `None` for a dropped character.
    fn of(character: char) -> Option<Self> {
        let mut whole: Option<Self> = None;
        decompose_compatible(character, |part| {
            for part in folded(part) {
                let kind = CharacterKind::of(part);
                let shape = Self { first: kind, last: kind, separates: kind == CharacterKind::Separator };
                whole = Some(whole.map_or(shape, |whole| whole.and(shape)));
            }
        });
        whole
    }

    fn and(self, next: Self) -> Self {
        Self { first: self.first, last: next.last, separates: self.separates && next.separates }
    }

    fn goes_on_with(self, next: Self) -> bool {
        match (self.last, next.first) {
            (CharacterKind::Separator, CharacterKind::Separator) => self.separates && next.separates,
            (CharacterKind::Other, CharacterKind::Other) | (CharacterKind::Unspaced, CharacterKind::Voicing) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The passage with brackets around hits.
    fn passage(typed: &str, text: &str) -> Option<String> {
        let pieces = Highlighter::of(&TextQuery::parse(typed).expect("a query")).passage(text)?;
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
            ("strasse", "Die Straße, die", "Die [Straße], die"),
            ("محمد", "عن مُحَمَّد", "عن [مُحَمَّد]"),
            ("l'eau", "L’eau de", "[L]’[eau] de"),
            ("a or b", "b & a", "[b] & [a]"),
            ("東京", "新東京駅", "新[東京]駅"),
            ("<b>", "a <b>bold</b> b", "a <[b]>bold</[b]> [b]"),
            // Each is one word in the index.
            ("می\u{200c}خواهم", "نمی, می\u{200c}خواهم.", "نمی, [می\u{200c}خواهم]."),
            ("coop", "\u{ad}a co\u{ad}op", "\u{ad}a [co\u{ad}op]"),
            ("m2", "12 m² wide", "12 [m²] wide"),
            ("1a", "1ª, 2ª", "[1ª], 2ª"),
            ("\"pentm\"", "Pen™ pen", "[Pen™] pen"),
            ("が", "か\u{3099}か", "[か\u{3099}]か"),
            ("\"c\"", "5℃ (C)", "5[℃] ([C])"),
            ("1", "⑴, ½", "[⑴], [½]"),
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

    #[test]
    fn beyond_so_much_text_nothing_is_looked_for() {
        let query = TextQuery::parse("tide").expect("a word");
        let mut highlighter = Highlighter::of(&query);
        let large = format!("{} tide", "x".repeat(LOOKED_THROUGH / 2));
        assert!(highlighter.passage(&large).is_some());
        assert!(highlighter.passage(&large).is_none(), "it exceeds the bytes that are left");
        assert!(highlighter.passage("tide").is_some(), "a short one still fits");
        assert!((0..LOOKED_THROUGH).any(|_| highlighter.passage("tide").is_none()));
    }

    proptest! {
        /// Every word of the index can be highlighted.
        #[test]
        fn the_words_of_the_runs_are_those_of_the_text(
            text in "[a-b 0-1\"é東かｶ゛ﾞ½²™ª⑴℃ﬁ\u{3099}\u{ad}\u{200c}\u{200d}\u{301}-]{0,30}|\\PC{0,60}"
        ) {
            let runs: Vec<_> = Runs { rest: &text }.collect();
            prop_assert_eq!(runs.concat(), text.as_str());
            prop_assert_eq!(runs.iter().flat_map(|run| words(run)).collect::<Vec<_>>(), words(&text));
        }

        #[test]
        fn the_pieces_are_the_text_as_it_was(text in "[a-c \"é東-]{0,300}", typed in "[a-c]{1,3}") {
            let query = TextQuery::parse(&typed).expect("a word");
            if let Some(pieces) = Highlighter::of(&query).passage(&text) {
                prop_assert!(pieces.iter().any(|piece| piece.hit));
                let whole: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
                prop_assert!(text.contains(whole.trim_matches('…')));
            }
        }
    }
}
