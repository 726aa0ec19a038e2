//! The words of a text: the form in which documents and queries are compared.
//!
//! Compatibility forms are unified (NFKC), case is folded, and accents, points and strokes are dropped. So `Éclair`,
//! `eclair` and `ｅｃｌａｉｒ` are one word, as are `Straße` and `STRASSE`, `Łódź` and `lodz`, `مُحَمَّد` and `محمد`. Every
//! character that is neither a letter, a digit nor a mark separates words, including every kind of apostrophe. In
//! scripts without spaces each character is a word, so text typed in them becomes a phrase.
//!
//! There is no stemming and there are no stop words: both depend on the language, and the language of an asset is not known.
//!
//! PostgreSQL computes the same in `penstock_words` (migration V31). A test there gives both the same texts.

use unicode_normalization::UnicodeNormalization as _;

use super::characters::{folded, is_separator, is_unspaced};

/// The longest word that search can tell apart; the rest of a longer one is ignored.
pub const MAX_WORD_CHARS: usize = 64;

/// The words of a text, in their order.
pub fn words(text: &str) -> Vec<String> {
    let folded = text.nfkd().flat_map(folded).nfc();
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
    fn full_case_folding_strokes_and_the_marks_of_all_scripts_do_not_tell_words_apart() {
        for (one, other) in [
            ("Straße STRAẞE", "strasse STRASSE"),
            ("Łódź København Đà", "lodz kobenhavn da"),
            ("Œuvre Æther Þór", "oeuvre aether thor"),
            ("مُحَمَّد كتـــاب", "محمد كتاب"),
            ("שָׁלוֹם", "שלום"),
            ("ΟΔΌΣ ᾳ", "οδος α"),
            ("IĞDIR ırmak", "ığdır IRMAK"),
            ("ज़मीन", "जमीन"),
            ("ﬁn ǅ", "FIN dž"),
            ("п’ять l’eau d\u{2bc}heure", "п'ять l'eau d'heure"),
        ] {
            assert_eq!(words(one), words(other), "{one}");
        }
        // Text that cannot be read without its marks keeps them.
        for (one, other) in [("หมู", "หมา"), ("か", "が"), ("हिन्दी", "हनद")] {
            assert_ne!(words(one), words(other), "{one}");
        }
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

    proptest! {
        /// Adapters quote words and join them with spaces: no character of a word may need an escape.
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
