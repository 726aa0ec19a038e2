//! Cursors: a place in the results of one search, as an opaque text.
//!
//! A cursor carries a digest of its search and a checksum, so that a cursor that was cut, mistyped or taken from
//! another search is refused instead of answered with a wrong page. It needs no secret: a made-up place shows nothing
//! that the client could not list anyway. But it must be a possible place, because databases calculate with it.

use penstock_actors::{
    ports::{SearchFilter, SearchPosition},
    search::MatchedField,
};

use crate::http::{Problem, paging};

/// The version of this format. Another format gets another number, and the old one is still read for one release.
const VERSION: u8 = 1;

const DIGEST: usize = 8;
const CHECKSUM: usize = 6;

/// Version, rank, newest, number, digest of the search, checksum.
const LENGTH: usize = 1 + 1 + 8 + 8 + DIGEST + CHECKSUM;

pub(super) fn write(place: SearchPosition, filter: &SearchFilter) -> String {
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend([VERSION, place.found.rank()]);
    bytes.extend(place.newest.to_be_bytes());
    bytes.extend(place.number.to_be_bytes());
    bytes.extend(digest(filter));
    bytes.extend(checksum(&bytes));
    paging::cursor(bytes)
}

/// # Errors
/// `malformed-request` when it is not a cursor, or belongs to another search.
pub(super) fn read(text: &str, filter: &SearchFilter) -> Result<SearchPosition, Problem> {
    let (place, digest_of_its_own) = paging::place(text, decode)?;
    if digest_of_its_own != digest(filter) {
        return Err(Problem::malformed(
            "the cursor belongs to another search: q and the filters must stay as they were",
        ));
    }
    // Without words, every asset counts as found in the last place.
    if filter.text.is_none() && place.found != MatchedField::PolicyMeta {
        return Err(paging::no_cursor());
    }
    Ok(place)
}

fn decode(bytes: Vec<u8>) -> Option<(SearchPosition, [u8; DIGEST])> {
    let bytes: [u8; LENGTH] = bytes.try_into().ok()?;
    let (body, sum) = bytes.split_at(LENGTH - CHECKSUM);
    if sum != checksum(body) || body[0] != VERSION {
        return None;
    }
    let found = MatchedField::of_rank(body[1])?;
    let (newest, rest) = body[2..].split_first_chunk()?;
    let (number, digest) = rest.split_first_chunk()?;
    let place = SearchPosition { newest: i64::from_be_bytes(*newest), found, number: i64::from_be_bytes(*number) };
    may_be(place).then_some((place, digest.try_into().ok()?))
}

/// Whether an adapter can have given this place. Assets are numbered from zero on. A page that ended early ends before
/// a number that is at most the one after the newest.
fn may_be(place: SearchPosition) -> bool {
    let after_newest = place.newest.checked_add(1);
    place.newest >= 0 && after_newest.is_some_and(|after| (0..=after).contains(&place.number))
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    shortened(blake3::Hasher::new().update(b"penstock catalogue cursor").update(body))
}

/// A digest of the parsed words and the filters, so that different spellings of the same search match.
fn digest(filter: &SearchFilter) -> [u8; DIGEST] {
    // Only a map whose keys are not texts fails here, and there is none.
    let text = serde_json::to_vec(filter).unwrap_or_default();
    shortened(blake3::Hasher::new().update(&text))
}

fn shortened<const N: usize>(hasher: &blake3::Hasher) -> [u8; N] {
    let mut short = [0; N];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..N]);
    short
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use penstock_actors::search::TextQuery;
    use proptest::prelude::*;

    use super::*;

    fn filter(typed: &str) -> SearchFilter {
        SearchFilter { text: TextQuery::parse(typed).ok(), ..SearchFilter::default() }
    }

    const PLACE: SearchPosition = SearchPosition { newest: 1 << 40, found: MatchedField::Description, number: 7 };

    #[test]
    fn a_cursor_belongs_to_one_search() {
        let text = write(PLACE, &filter("tide tables"));
        assert_eq!(read(&text, &filter("Tide  TABLES")).ok(), Some(PLACE), "the same words");
        for other in [
            filter("tide"),
            filter("tables tide"),
            filter("\"tide tables\""),
            filter("tide or tables"),
            SearchFilter::default(),
        ] {
            assert!(read(&text, &other).is_err(), "{other:?}");
        }
        assert!(read(&text, &SearchFilter { max_price: Some(5), ..filter("tide tables") }).is_err());
    }

    #[test]
    fn a_place_that_there_cannot_be_is_refused_although_its_checksum_is_right() {
        let at = |newest, number| read(&write(SearchPosition { newest, number, ..PLACE }, &filter("a")), &filter("a"));
        for (newest, number) in [(i64::MAX, 7), (i64::MAX, i64::MAX), (7, 9), (7, i64::MAX), (-1, 0), (-1, -1), (7, -1)]
        {
            assert!(at(newest, number).is_err(), "{number} of {newest}");
        }
        for (newest, number) in [(0, 0), (7, 7), (7, 8), (i64::MAX - 1, i64::MAX)] {
            assert!(at(newest, number).is_ok(), "{number} of {newest}");
        }
        let all = SearchFilter::default();
        for found in MatchedField::ALL {
            let text = write(SearchPosition { found, ..PLACE }, &all);
            assert_eq!(read(&text, &all).is_ok(), found == MatchedField::PolicyMeta, "{found:?} without words");
        }
    }

    /// A place as adapters give it.
    fn place() -> impl Strategy<Value = SearchPosition> {
        (0..i64::MAX, 1_u8..=3).prop_flat_map(|(newest, rank)| {
            let found = MatchedField::of_rank(rank).expect("a rank");
            (0..=newest + 1).prop_map(move |number| SearchPosition { newest, found, number })
        })
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(place in place()) {
            prop_assert_eq!(read(&write(place, &filter("a")), &filter("a")).ok(), Some(place));
        }

        #[test]
        fn what_was_made_up_or_changed_is_refused(made_up in "\\PC{0,60}", at in 0_usize..43, other in "[A-Za-z0-9_-]") {
            prop_assert!(read(&made_up, &filter("a")).is_err());
            let text = write(PLACE, &filter("a"));
            let mut changed = text.clone();
            changed.replace_range(at..=at, &other);
            // The last character has unused bits.
            prop_assert!(changed == text || read(&changed, &filter("a")).is_err());
        }
    }
}
