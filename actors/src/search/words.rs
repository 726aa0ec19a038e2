//! The words of a text: how documents and queries become comparable.
//!
//! Compatibility forms are unified (NFKC), case and the marks over letters are dropped, so `Éclair`, `eclair` and `ｅｃｌａｉｒ`
//! are one word. Whatever is neither a letter, a digit nor a mark separates words. Scripts that are written without spaces
//! give a word for each character, which makes a phrase of what was typed in them.
//!
//! There is no stemming and there are no stop words: both belong to a language, and nobody says which one an asset is in.
//!
//! PostgreSQL computes the same in `penstock_words` (migration V10). A test there feeds both with the same texts, so the
//! tables below change only together with that function, and with a migration that indexes everything anew.

use unicode_normalization::UnicodeNormalization as _;

/// The longest word that is told apart; the rest of a longer one is ignored.
pub const MAX_WORD_CHARS: usize = 64;

/// Dropped wherever they stand: accents and other marks over letters, soft hyphens, joiners, direction marks, variants.
const DROPPED: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{300}', '\u{36f}'),
    ('\u{200c}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{2069}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
];

/// Punctuation, symbols, spaces and controls, in order. Letters that compatibility decomposition takes out of these blocks
/// are gone before this is asked.
const SEPARATORS: &[(char, char)] = &[
    ('\0', '\u{2f}'),
    ('\u{3a}', '\u{40}'),
    ('\u{5b}', '\u{60}'),
    ('\u{7b}', '\u{bf}'),
    ('\u{d7}', '\u{d7}'),
    ('\u{f7}', '\u{f7}'),
    ('\u{2c2}', '\u{2c5}'),
    ('\u{2d2}', '\u{2df}'),
    ('\u{2e5}', '\u{2ff}'),
    ('\u{482}', '\u{482}'),
    ('\u{55a}', '\u{55f}'),
    ('\u{589}', '\u{58f}'),
    ('\u{5be}', '\u{5be}'),
    ('\u{5c0}', '\u{5c0}'),
    ('\u{5c3}', '\u{5c3}'),
    ('\u{5f3}', '\u{5f4}'),
    ('\u{600}', '\u{60f}'),
    ('\u{61b}', '\u{61f}'),
    ('\u{66a}', '\u{66d}'),
    ('\u{6d4}', '\u{6d4}'),
    ('\u{6dd}', '\u{6de}'),
    ('\u{6e9}', '\u{6e9}'),
    ('\u{6fd}', '\u{6fe}'),
    ('\u{700}', '\u{70f}'),
    ('\u{964}', '\u{965}'),
    ('\u{970}', '\u{970}'),
    ('\u{df4}', '\u{df4}'),
    ('\u{e3f}', '\u{e3f}'),
    ('\u{e4f}', '\u{e4f}'),
    ('\u{e5a}', '\u{e5b}'),
    ('\u{f01}', '\u{f17}'),
    ('\u{f3a}', '\u{f3d}'),
    ('\u{104a}', '\u{104f}'),
    ('\u{10fb}', '\u{10fb}'),
    ('\u{1360}', '\u{1368}'),
    ('\u{1390}', '\u{1399}'),
    ('\u{1400}', '\u{1400}'),
    ('\u{166d}', '\u{166e}'),
    ('\u{1680}', '\u{1680}'),
    ('\u{16eb}', '\u{16ed}'),
    ('\u{17d4}', '\u{17db}'),
    ('\u{1800}', '\u{180e}'),
    ('\u{1940}', '\u{1945}'),
    ('\u{19de}', '\u{19ff}'),
    ('\u{2000}', '\u{2bff}'),
    ('\u{2e00}', '\u{3004}'),
    ('\u{3008}', '\u{3020}'),
    ('\u{3030}', '\u{3030}'),
    ('\u{3036}', '\u{3037}'),
    ('\u{303d}', '\u{303f}'),
    ('\u{30a0}', '\u{30a0}'),
    ('\u{30fb}', '\u{30fb}'),
    ('\u{31c0}', '\u{31ef}'),
    ('\u{3200}', '\u{33ff}'),
    ('\u{4dc0}', '\u{4dff}'),
    ('\u{a490}', '\u{a4cf}'),
    ('\u{a700}', '\u{a721}'),
    ('\u{e000}', '\u{f8ff}'),
    ('\u{fd3e}', '\u{fd4f}'),
    ('\u{fdfc}', '\u{fe6f}'),
    ('\u{ffe0}', '\u{ffff}'),
    ('\u{1f000}', '\u{1fbff}'),
    ('\u{e0000}', '\u{10ffff}'),
];

/// Han, Hiragana, Katakana.
const UNSPACED: &[(char, char)] = &[
    ('\u{3005}', '\u{3007}'),
    ('\u{3041}', '\u{30fa}'),
    ('\u{30fc}', '\u{30ff}'),
    ('\u{3400}', '\u{4dbf}'),
    ('\u{4e00}', '\u{9fff}'),
    ('\u{f900}', '\u{faff}'),
    ('\u{20000}', '\u{3ffff}'),
];

fn is_in(table: &[(char, char)], character: char) -> bool {
    let after = table.partition_point(|&(first, _)| first <= character);
    after > 0 && table[after - 1].1 >= character
}

/// Whether a character counts for nothing, wherever it stands.
pub(super) fn is_dropped(character: char) -> bool {
    is_in(DROPPED, character)
}

/// Whether a character separates words.
pub(super) fn is_separator(character: char) -> bool {
    is_in(SEPARATORS, character)
}

/// Whether a character is a word by itself: its script is written without spaces.
pub fn is_unspaced(character: char) -> bool {
    is_in(UNSPACED, character)
}

/// The words of a text, in their order.
pub fn words(text: &str) -> Vec<String> {
    let folded = text
        .nfkd()
        .flat_map(char::to_lowercase)
        .filter(|&character| !is_dropped(character))
        .nfc()
        // The same letter at the end of a word and before it.
        .map(|character| if character == 'ς' { 'σ' } else { character });
    let mut words = Vec::new();
    let mut word = String::new();
    let mut chars = 0;
    for character in folded {
        let (separates, unspaced) = (is_separator(character), is_unspaced(character));
        if (separates || unspaced) && chars > 0 {
            words.push(std::mem::take(&mut word));
            chars = 0;
        }
        if unspaced && !separates {
            words.push(character.into());
        } else if !separates {
            chars += 1;
            if chars <= MAX_WORD_CHARS {
                word.push(character);
            }
        }
    }
    if chars > 0 {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_marks_and_forms_do_not_tell_words_apart() {
        assert_eq!(
            words("São E\u{301}t\u{e9} ＡＢＣ İstanbul ΟΔΟΣ ﬁn co\u{ad}op"),
            ["sao", "ete", "abc", "istanbul", "οδοσ", "fin", "coop"]
        );
    }

    #[test]
    fn whatever_is_no_letter_digit_or_mark_separates() {
        assert_eq!(
            words("Tide-Tables: CC-BY-4.0 v1.2_3 a@b.org\t½🌊x\0y"),
            ["tide", "tables", "cc", "by", "4", "0", "v1", "2", "3", "a", "b", "org", "1", "2", "x", "y"]
        );
        assert_eq!(words(" !?… 🌊 \u{0} "), [""; 0]);
    }

    #[test]
    fn scripts_without_spaces_give_a_word_for_each_character() {
        assert_eq!(words("東京タワー2号"), ["東", "京", "タ", "ワ", "ー", "2", "号"]);
        assert_eq!(words("한국어 हिन्दी عربي"), ["한국어", "हिन्दी", "عربي"]);
    }

    #[test]
    fn the_tables_are_in_order_so_that_they_can_be_searched() {
        for table in [DROPPED, SEPARATORS, UNSPACED] {
            assert!(table.iter().all(|(first, last)| first <= last));
            assert!(table.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }

    proptest! {
        /// Adapters quote words and join them by spaces: nothing in a word may need an escape.
        #[test]
        fn a_word_is_never_empty_or_long_and_holds_nothing_that_separates(text in "\\PC{0,200}|[ -~\\x00-\\x1f]{0,200}") {
            for word in words(&text) {
                let chars = word.chars().count();
                prop_assert!((1..=MAX_WORD_CHARS).contains(&chars), "{:?}", word);
                prop_assert!(!word.chars().any(is_separator), "{:?}", word);
            }
        }

        #[test]
        fn words_of_words_are_the_same_words(text in "\\PC{0,200}") {
            let once = words(&text);
            prop_assert_eq!(words(&once.join(" ")), once);
        }
    }
}
