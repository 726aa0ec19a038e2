//! What holds for every search.

use super::*;

/// # Panics
/// When typed text may reach PostgreSQL as syntax.
pub(crate) fn check(query: &TextQuery) {
    for place in [SearchScope::Name, SearchScope::NameOrDescription, SearchScope::Anywhere] {
        let Some(text) = tsquery(query, place) else { continue };
        let mut depth = 0_usize;
        // Every second part is the inside of a pair of quotes.
        for (number, part) in text.split('\'').enumerate() {
            if number % 2 == 1 {
                let word = part.trim_start_matches(['^', '=']);
                let is_plain = word == "*" || word.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != '\\');
                assert!(is_plain && !word.is_empty(), "{text}");
                continue;
            }
            assert!(part.chars().all(|c| " ()&|!<->{}^=".contains(c)), "{text}");
            for c in part.chars() {
                match c {
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
            }
        }
        assert_eq!(depth, 0, "{text}");
        assert_eq!(text.split('\'').count() % 2, 1, "{text}");
    }
}
