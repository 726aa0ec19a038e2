//! The `Content-Range` of a single part (RFC 9110, 14.4), with a known total.

use std::str::FromStr;

/// `bytes FIRST-LAST/TOTAL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) total: u64,
}

/// The text is not the position of a part: another unit, an unknown total, or an impossible position.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidContentRange;

impl FromStr for ContentRange {
    type Err = InvalidContentRange;

    fn from_str(text: &str) -> Result<Self, InvalidContentRange> {
        let places = || {
            let (first, rest) = text.strip_prefix("bytes ")?.split_once('-')?;
            let (last, total) = rest.split_once('/')?;
            Some(Self { first: first.parse().ok()?, last: last.parse().ok()?, total: total.parse().ok()? })
        };
        places().filter(|range| range.first <= range.last && range.last < range.total).ok_or(InvalidContentRange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_or_refused() {
        assert_eq!("bytes 5-9/10".parse(), Ok(ContentRange { first: 5, last: 9, total: 10 }));
        for text in ["", "bytes */10", "bytes 5-9/*", "items 5-9/10", "bytes 9-5/10", "bytes 5-10/10", "bytes 5-9"] {
            assert_eq!(text.parse::<ContentRange>(), Err(InvalidContentRange), "{text}");
        }
    }
}
