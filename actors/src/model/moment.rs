//! Moments in text.

use jiff::{Timestamp, civil::DateTime, fmt::temporal::Pieces};
use serde::{Deserialize, Deserializer, de::Error as _};

/// The error for a text that is not a moment.
pub const NO_MOMENT: &str = "must be a time such as 2030-01-31T12:00:00Z";

/// The last year that can be represented. It ends a day early.
const LAST_YEAR: i16 = 9999;

/// The last moment that the columns of both databases hold without loss.
pub const LAST: Timestamp = Timestamp::constant(253_402_207_200, 0);

/// Parses a moment in RFC 3339. Many clients write 9999-12-31T23:59:59Z for "never", which lies just beyond the last
/// moment that can be represented in every time zone: it becomes [`LAST`].
pub fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.min(LAST));
    }
    let pieces = Pieces::parse(text).ok()?;
    let at = DateTime::from_parts(pieces.date(), pieces.time()?);
    let is_past_the_last = at.year() == LAST_YEAR && pieces.to_numeric_offset()?.to_timestamp(at).is_err();
    is_past_the_last.then_some(LAST)
}

/// An optional moment.
///
/// # Errors
/// When the value is not a moment.
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| moment(&text).ok_or_else(|| D::Error::custom(NO_MOMENT))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_a_moment_and_nonsense_is_none() {
        let last = LAST;
        assert_eq!(last.to_string(), "9999-12-30T22:00:00Z");
        assert_eq!(
            Timestamp::from_microsecond(last.as_microsecond()).ok(),
            Some(last),
            "no part of it is lost in a column"
        );
        for never in [
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.999Z",
            "9999-12-31T00:00:00+00:00",
            "9999-12-30T23:59:59-12:00",
            "9999-12-30T22:00:00.9999999Z",
        ] {
            assert_eq!(moment(never), Some(last), "{never}");
        }
        assert_eq!(moment("9999-12-30T21:59:59Z").map(|at| at < last), Some(true));
        assert_eq!(moment("2030-01-31T12:00:00+01:00").map(Timestamp::as_second), Some(1_896_087_600));
        for none in [
            "",
            "tomorrow",
            "9999-12-31",
            "9999-13-31T00:00:00Z",
            "9999-12-31T23:59:59",
            "10000-01-01T00:00:00Z",
            "253402300799",
        ] {
            assert_eq!(moment(none), None, "{none}");
        }
    }
}
