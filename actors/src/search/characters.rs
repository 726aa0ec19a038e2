//! The tables of [`words`](super::words()): ranges of characters, in order.
//!
//! `penstock_words` in PostgreSQL has the same ranges (migration V31), and a test there compares the two character by
//! character. So a table changes only together with that function, and with a migration that rebuilds the catalogue's index.

/// Dropped at any place: the accents and points written over, under and through letters, by their canonical combining classes
/// in Unicode 14 (1, 7, 10 to 36, 200 to 240); soft hyphens, tatweel, joiners, direction marks, variation selectors.
///
/// Vowel signs and tone marks without which a script cannot be read stay: the classes 0, 8, 9, and 84 to 132.
const DROPPED: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{300}', '\u{36f}'),
    ('\u{483}', '\u{487}'),
    ('\u{591}', '\u{5bd}'),
    ('\u{5bf}', '\u{5bf}'),
    ('\u{5c1}', '\u{5c2}'),
    ('\u{5c4}', '\u{5c5}'),
    ('\u{5c7}', '\u{5c7}'),
    ('\u{610}', '\u{61a}'),
    ('\u{640}', '\u{640}'),
    ('\u{64b}', '\u{65f}'),
    ('\u{670}', '\u{670}'),
    ('\u{6d6}', '\u{6dc}'),
    ('\u{6df}', '\u{6e4}'),
    ('\u{6e7}', '\u{6e8}'),
    ('\u{6ea}', '\u{6ed}'),
    ('\u{711}', '\u{711}'),
    ('\u{730}', '\u{74a}'),
    ('\u{7eb}', '\u{7f3}'),
    ('\u{7fd}', '\u{7fd}'),
    ('\u{816}', '\u{819}'),
    ('\u{81b}', '\u{823}'),
    ('\u{825}', '\u{827}'),
    ('\u{829}', '\u{82d}'),
    ('\u{859}', '\u{85b}'),
    ('\u{898}', '\u{89f}'),
    ('\u{8ca}', '\u{8e1}'),
    ('\u{8e3}', '\u{8ff}'),
    ('\u{93c}', '\u{93c}'),
    ('\u{951}', '\u{954}'),
    ('\u{9bc}', '\u{9bc}'),
    ('\u{9fe}', '\u{9fe}'),
    ('\u{a3c}', '\u{a3c}'),
    ('\u{abc}', '\u{abc}'),
    ('\u{b3c}', '\u{b3c}'),
    ('\u{c3c}', '\u{c3c}'),
    ('\u{cbc}', '\u{cbc}'),
    ('\u{f18}', '\u{f19}'),
    ('\u{f35}', '\u{f35}'),
    ('\u{f37}', '\u{f37}'),
    ('\u{f39}', '\u{f39}'),
    ('\u{f82}', '\u{f83}'),
    ('\u{f86}', '\u{f87}'),
    ('\u{fc6}', '\u{fc6}'),
    ('\u{1037}', '\u{1037}'),
    ('\u{108d}', '\u{108d}'),
    ('\u{135d}', '\u{135f}'),
    ('\u{17dd}', '\u{17dd}'),
    ('\u{180b}', '\u{180e}'),
    ('\u{18a9}', '\u{18a9}'),
    ('\u{1939}', '\u{193b}'),
    ('\u{1a17}', '\u{1a18}'),
    ('\u{1a75}', '\u{1a7c}'),
    ('\u{1a7f}', '\u{1a7f}'),
    ('\u{1ab0}', '\u{1abd}'),
    ('\u{1abf}', '\u{1ace}'),
    ('\u{1b34}', '\u{1b34}'),
    ('\u{1b6b}', '\u{1b73}'),
    ('\u{1be6}', '\u{1be6}'),
    ('\u{1c37}', '\u{1c37}'),
    ('\u{1cd0}', '\u{1cd2}'),
    ('\u{1cd4}', '\u{1ce0}'),
    ('\u{1ce2}', '\u{1ce8}'),
    ('\u{1ced}', '\u{1ced}'),
    ('\u{1cf4}', '\u{1cf4}'),
    ('\u{1cf8}', '\u{1cf9}'),
    ('\u{1dc0}', '\u{1dff}'),
    ('\u{200c}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{2069}'),
    ('\u{20d0}', '\u{20dc}'),
    ('\u{20e1}', '\u{20e1}'),
    ('\u{20e5}', '\u{20f0}'),
    ('\u{2cef}', '\u{2cf1}'),
    ('\u{2de0}', '\u{2dff}'),
    ('\u{302a}', '\u{302f}'),
    ('\u{a66f}', '\u{a66f}'),
    ('\u{a674}', '\u{a67d}'),
    ('\u{a69e}', '\u{a69f}'),
    ('\u{a6f0}', '\u{a6f1}'),
    ('\u{a8e0}', '\u{a8f1}'),
    ('\u{a92b}', '\u{a92d}'),
    ('\u{a9b3}', '\u{a9b3}'),
    ('\u{aab0}', '\u{aab0}'),
    ('\u{aab2}', '\u{aab4}'),
    ('\u{aab7}', '\u{aab8}'),
    ('\u{aabe}', '\u{aabf}'),
    ('\u{aac1}', '\u{aac1}'),
    ('\u{fb1e}', '\u{fb1e}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{fe20}', '\u{fe2f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{101fd}', '\u{101fd}'),
    ('\u{102e0}', '\u{102e0}'),
    ('\u{10376}', '\u{1037a}'),
    ('\u{10a0d}', '\u{10a0d}'),
    ('\u{10a0f}', '\u{10a0f}'),
    ('\u{10a38}', '\u{10a3a}'),
    ('\u{10ae5}', '\u{10ae6}'),
    ('\u{10d24}', '\u{10d27}'),
    ('\u{10eab}', '\u{10eac}'),
    ('\u{10f46}', '\u{10f50}'),
    ('\u{10f82}', '\u{10f85}'),
    ('\u{110ba}', '\u{110ba}'),
    ('\u{11100}', '\u{11102}'),
    ('\u{11173}', '\u{11173}'),
    ('\u{111ca}', '\u{111ca}'),
    ('\u{11236}', '\u{11236}'),
    ('\u{112e9}', '\u{112e9}'),
    ('\u{1133b}', '\u{1133c}'),
    ('\u{11366}', '\u{1136c}'),
    ('\u{11370}', '\u{11374}'),
    ('\u{11446}', '\u{11446}'),
    ('\u{1145e}', '\u{1145e}'),
    ('\u{114c3}', '\u{114c3}'),
    ('\u{115c0}', '\u{115c0}'),
    ('\u{116b7}', '\u{116b7}'),
    ('\u{1183a}', '\u{1183a}'),
    ('\u{11943}', '\u{11943}'),
    ('\u{11d42}', '\u{11d42}'),
    ('\u{16af0}', '\u{16af4}'),
    ('\u{16b30}', '\u{16b36}'),
    ('\u{1bc9e}', '\u{1bc9e}'),
    ('\u{1d165}', '\u{1d169}'),
    ('\u{1d16d}', '\u{1d172}'),
    ('\u{1d17b}', '\u{1d182}'),
    ('\u{1d185}', '\u{1d18b}'),
    ('\u{1d1aa}', '\u{1d1ad}'),
    ('\u{1d242}', '\u{1d244}'),
    ('\u{1e000}', '\u{1e006}'),
    ('\u{1e008}', '\u{1e018}'),
    ('\u{1e01b}', '\u{1e021}'),
    ('\u{1e023}', '\u{1e024}'),
    ('\u{1e026}', '\u{1e02a}'),
    ('\u{1e130}', '\u{1e136}'),
    ('\u{1e2ae}', '\u{1e2ae}'),
    ('\u{1e2ec}', '\u{1e2ef}'),
    ('\u{1e8d0}', '\u{1e8d6}'),
    ('\u{1e944}', '\u{1e94a}'),
];

/// Punctuation, symbols, spaces and controls, in order. Letters that compatibility decomposition makes of characters in
/// these blocks have been decomposed before this table is used.
const SEPARATORS: &[(char, char)] = &[
    ('\0', '\u{2f}'),
    ('\u{3a}', '\u{40}'),
    ('\u{5b}', '\u{60}'),
    ('\u{7b}', '\u{bf}'),
    ('\u{d7}', '\u{d7}'),
    ('\u{f7}', '\u{f7}'),
    ('\u{2b9}', '\u{2bf}'),
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

/// Letters with a stroke, which Unicode does not decompose, and the letter without it.
const STROKED: &[(char, char)] = &[
    ('ð', 'd'),
    ('ø', 'o'),
    ('đ', 'd'),
    ('ħ', 'h'),
    ('ł', 'l'),
    ('ŧ', 't'),
    ('ƀ', 'b'),
    ('ƚ', 'l'),
    ('ƶ', 'z'),
    ('ǥ', 'g'),
    ('ȼ', 'c'),
    ('ɇ', 'e'),
    ('ɉ', 'j'),
    ('ɍ', 'r'),
    ('ɏ', 'y'),
    ('ɨ', 'i'),
    ('ɫ', 'l'),
    ('ɵ', 'o'),
    ('ʉ', 'u'),
    ('ᵽ', 'p'),
    ('ⱡ', 'l'),
    ('ⱥ', 'a'),
    ('ⱦ', 't'),
    ('ꝁ', 'k'),
];

/// Letters that are written as two on keyboards that lack them.
const LIGATURES: &[(char, [char; 2])] = &[('æ', ['a', 'e']), ('þ', ['t', 'h']), ('œ', ['o', 'e'])];

fn is_in(table: &[(char, char)], character: char) -> bool {
    let after = table.partition_point(|&(first, _)| first <= character);
    after > 0 && table[after - 1].1 >= character
}

/// Whether a character separates words.
pub(super) fn is_separator(character: char) -> bool {
    is_in(SEPARATORS, character)
}

/// Whether a character is a word by itself: its script is written without spaces.
pub fn is_unspaced(character: char) -> bool {
    is_in(UNSPACED, character)
}

/// A character of a decomposed text in the form in which it is compared: dropped, or in lower case and without strokes.
///
/// It goes through upper case, which yields Unicode's full case folding for letters whose upper case has two letters:
/// `ß` and `ẞ` become `ss`, and `ı` and `i` become one letter.
pub(super) fn folded(character: char) -> impl Iterator<Item = char> {
    let kept = Some(character).filter(|&character| !is_in(DROPPED, character));
    // `ẞ` has no other upper case than itself.
    let lower = kept.into_iter().flat_map(char::to_lowercase);
    lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).flat_map(spelled)
}

/// A letter without its stroke, or as two letters.
fn spelled(letter: char) -> impl Iterator<Item = char> {
    let [first, second] = match LIGATURES.binary_search_by_key(&letter, |&(ligature, _)| ligature) {
        Ok(at) => LIGATURES[at].1.map(Some),
        Err(_) => match STROKED.binary_search_by_key(&letter, |&(stroked, _)| stroked) {
            Ok(at) => [Some(STROKED[at].1), None],
            Err(_) => [Some(letter), None],
        },
    };
    [first, second].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_in_order_so_that_they_can_be_searched() {
        for table in [DROPPED, SEPARATORS, UNSPACED] {
            assert!(table.iter().all(|(first, last)| first <= last));
            assert!(table.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
        assert!(STROKED.is_sorted_by_key(|&(stroked, _)| stroked));
        assert!(LIGATURES.is_sorted_by_key(|&(ligature, _)| ligature));
    }
}
