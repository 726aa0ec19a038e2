//! An entry as bytes: the versions that it depends on, until when it is fresh, and the value, compressed where that
//! saves space.
//!
//! ```text
//! 1 format | 1 number of versions | 8 each, versions | 8 fresh until, ms | 1 coding | value
//! ```
//! Numbers are little-endian. The first byte changes with the format, so that instances of two versions of this program
//! that run side by side treat each other's entries as missing.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use penstock_actors::ports::{SharedValue, TagVersions, Version};

const FORMAT: u8 = 1;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// Values below this size are not compressed: they repeat too little.
const WORTH_IT: usize = 1024;

/// The fastest level: a page of JSON repeats its keys, and every level finds those.
const LEVEL: i32 = 1;

/// The largest value that is shared. It also bounds what a damaged entry can make this program allocate.
pub(super) const MOST: usize = 8 << 20;

pub(super) fn encode(versions: &[Version], value: &SharedValue) -> Vec<u8> {
    let (coding, body) = compress(&value.bytes);
    let mut bytes = Vec::with_capacity(11 + 8 * versions.len() + body.len());
    bytes.push(FORMAT);
    // Entries have few tags; an entry with more tags than fit here is never found valid.
    bytes.push(u8::try_from(versions.len()).unwrap_or(u8::MAX));
    versions.iter().for_each(|version| bytes.extend(version.0.to_le_bytes()));
    bytes.extend(value.fresh_until.as_millisecond().to_le_bytes());
    bytes.push(coding);
    bytes.extend_from_slice(&body);
    bytes
}

fn compress(value: &[u8]) -> (u8, Cow<'_, [u8]>) {
    if value.len() >= WORTH_IT
        && let Ok(compressed) = zstd::bulk::compress(value, LEVEL)
        && compressed.len() < value.len() / 8 * 7
    {
        return (ZSTD, compressed.into());
    }
    (PLAIN, value.into())
}

/// The value, if the entry was stored under these versions.
pub(super) fn decode(bytes: &[u8], seen: &TagVersions) -> Option<SharedValue> {
    let (&[FORMAT, count], rest) = bytes.split_first_chunk()? else { return None };
    if usize::from(count) != seen.0.len() {
        return None;
    }
    let (versions, rest) = rest.split_at_checked(8 * seen.0.len())?;
    let (versions, _) = versions.as_chunks();
    let same = versions.iter().map(|bytes| Some(Version(u64::from_le_bytes(*bytes)))).eq(seen.0.iter().copied());
    if !same {
        return None;
    }
    let (fresh_until, rest) = rest.split_first_chunk()?;
    let fresh_until = Timestamp::from_millisecond(i64::from_le_bytes(*fresh_until)).ok()?;
    let bytes = match rest.split_first()? {
        (&PLAIN, value) => Bytes::copy_from_slice(value),
        (&ZSTD, value) => zstd::bulk::decompress(value, MOST).ok()?.into(),
        _ => return None,
    };
    Some(SharedValue { fresh_until, bytes })
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(bytes: Vec<u8>) -> SharedValue {
        SharedValue {
            fresh_until: Timestamp::from_millisecond(1_800_000_000_001).expect("a time"),
            bytes: bytes.into(),
        }
    }

    #[test]
    fn repetitive_bytes_are_stored_compressed_and_noise_is_not() {
        let page = b"{\"name\":\"A film\",\"mediaType\":\"video/mp4\"},".repeat(100);
        assert!(encode(&[], &value(page.clone())).len() < page.len() / 5);
        let noise: Vec<u8> =
            (0..5000_u64).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..4].to_vec()).collect();
        assert_eq!(encode(&[], &value(noise.clone())).len(), noise.len() + 11);
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_bytes(
            body in prop::collection::vec(any::<u8>(), 0..3000),
            repeats in 1_usize..4,
            versions in prop::collection::vec(any::<u64>(), 0..5),
        ) {
            let versions: Vec<_> = versions.into_iter().map(Version).collect();
            let value = value(body.repeat(repeats));
            let seen = TagVersions(versions.iter().copied().map(Some).collect());
            prop_assert_eq!(decode(&encode(&versions, &value), &seen), Some(value.clone()));
            for which in 0..versions.len() {
                for other in [None, Some(Version(versions[which].0.wrapping_add(1)))] {
                    let mut seen = seen.clone();
                    seen.0[which] = other;
                    prop_assert_eq!(decode(&encode(&versions, &value), &seen), None);
                }
            }
        }

        #[test]
        fn other_bytes_are_taken_for_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200), tags in 0_usize..3) {
            let seen = TagVersions(vec![Some(Version(1)); tags]);
            let _ = decode(&bytes, &seen);
            let cut = encode(&vec![Version(1); tags], &value(bytes));
            for end in 0..11 + 8 * tags {
                prop_assert_eq!(decode(&cut[..end], &seen), None);
            }
        }
    }
}
