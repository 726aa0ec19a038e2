//! What holds for every cursor.

use penstock_actors::search::TextQuery;

use super::*;

/// # Panics
/// When a text is taken that this node has not written, or a place does not survive its text.
pub(crate) fn check(text: &str, typed: &str, newest: i64, number: i64) {
    let filter = SearchFilter { text: TextQuery::parse(typed).ok(), ..SearchFilter::default() };
    if let Ok(place) = read(text, &filter) {
        assert_eq!(write(place, &filter), text);
    }
    for found in MatchedField::ALL {
        let place = SearchPosition { newest, found, number };
        let can_be = may_be(place) && (filter.text.is_some() || found == MatchedField::PolicyMeta);
        let written = write(place, &filter);
        assert_eq!(read(&written, &filter).ok(), can_be.then_some(place));
        assert!(read(&written, &SearchFilter { min_price: Some(1), ..filter.clone() }).is_err());
    }
}
