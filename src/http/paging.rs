//! Lists page by page: how many items a caller asks for, and where the next page begins.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::Problem;

/// What a call for a list says of the page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    pub(super) limit: Option<u32>,
    pub(super) cursor: Option<String>,
}

/// Items that a page is to have: `usual` unless the caller says otherwise, and no more than `most`.
///
/// # Errors
/// `malformed-request` when it is none, or more.
pub(super) fn limit(asked: Option<u32>, usual: u32, most: u32) -> Result<u32, Problem> {
    let limit = asked.unwrap_or(usual);
    if (1..=most).contains(&limit) { Ok(limit) } else { Err(Problem::malformed(format!("limit must be 1 to {most}"))) }
}

/// A cursor: opaque to clients, so that what it is made of may change.
pub(super) fn cursor(place: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(place)
}

/// What a [`cursor`] was made of, by way of `read`.
///
/// # Errors
/// `malformed-request` when it was not made here, or `read` finds nothing in it.
pub(super) fn place<T>(cursor: &str, read: impl FnOnce(Vec<u8>) -> Option<T>) -> Result<T, Problem> {
    URL_SAFE_NO_PAD.decode(cursor).ok().and_then(read).ok_or_else(no_cursor)
}

/// What a text is answered with that no list goes on behind.
pub(super) fn no_cursor() -> Problem {
    Problem::malformed("the cursor is not one that this node gave")
}

/// The cursor of an item in a list by time, where those of one moment are told apart by their id.
pub(super) fn cursor_in_time(at: Timestamp, id: Uuid) -> String {
    let mut place = at.as_microsecond().to_be_bytes().to_vec();
    place.extend_from_slice(id.as_bytes());
    cursor(place)
}

/// What a [`cursor_in_time`] was made of.
///
/// # Errors
/// `malformed-request` when it was not made here.
pub(super) fn place_in_time(cursor: &str) -> Result<(Timestamp, Uuid), Problem> {
    place(cursor, |place| {
        let (time, id) = place.split_first_chunk::<8>()?;
        let at = Timestamp::from_microsecond(i64::from_be_bytes(*time)).ok()?;
        Some((at, Uuid::from_slice(id).ok()?))
    })
}
