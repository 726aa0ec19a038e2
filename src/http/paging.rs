//! Paged lists: how many items a caller asks for, and where the next page begins.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::Problem;
use crate::http::schemas::scalars;

/// The parameters of a page.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Items per page
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
    /// The `nextCursor` of the page before
    #[param(value_type = Option<scalars::Cursor>)]
    pub(super) cursor: Option<String>,
}

/// The number of items on a page: `usual` by default, and at most `most`.
///
/// # Errors
/// `malformed-request` when it is zero or above `most`.
pub(super) fn limit(asked: Option<u32>, usual: u32, most: u32) -> Result<u32, Problem> {
    let limit = asked.unwrap_or(usual);
    if (1..=most).contains(&limit) { Ok(limit) } else { Err(Problem::malformed(format!("limit must be 1 to {most}"))) }
}

/// A cursor: opaque to clients, so that its content may change.
pub(super) fn cursor(place: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(place)
}

/// The content of a [`cursor`], parsed by `read`.
///
/// # Errors
/// `malformed-request` when this node did not write it, or `read` rejects it.
pub(super) fn place<T>(cursor: &str, read: impl FnOnce(Vec<u8>) -> Option<T>) -> Result<T, Problem> {
    URL_SAFE_NO_PAD.decode(cursor).ok().and_then(read).ok_or_else(no_cursor)
}

/// The answer to an invalid cursor.
pub(super) fn no_cursor() -> Problem {
    Problem::malformed("the cursor is not one that this node gave")
}

/// The cursor of an item in a list by time; items of the same moment are distinguished by their id.
pub(super) fn cursor_in_time(at: Timestamp, id: Uuid) -> String {
    let mut place = at.as_microsecond().to_be_bytes().to_vec();
    place.extend_from_slice(id.as_bytes());
    cursor(place)
}

/// The content of a [`cursor_in_time`].
///
/// # Errors
/// `malformed-request` when this node did not write it.
pub(super) fn place_in_time(cursor: &str) -> Result<(Timestamp, Uuid), Problem> {
    place(cursor, |place| {
        let (time, id) = place.split_first_chunk::<8>()?;
        let at = Timestamp::from_microsecond(i64::from_be_bytes(*time)).ok()?;
        Some((at, Uuid::from_slice(id).ok()?))
    })
}
