//! What holds for every value in Redis.

use super::*;

/// # Panics
/// When bytes become a value that is too large, or that does not survive being stored.
pub(crate) fn check(bytes: &[u8]) {
    let versions = bytes.get(2..).unwrap_or_default().as_chunks().0.iter().map(|version| u64::from_le_bytes(*version));
    let versions: Vec<_> = versions.take(bytes.get(1).copied().unwrap_or_default().into()).map(Version).collect();
    let seen = TagVersions(versions.iter().copied().map(Some).collect());
    let Some(value) = decode(bytes, &seen) else { return };
    assert!(value.bytes.len() <= MOST);
    assert_eq!(decode(&encode(&versions, &value), &seen).as_ref(), Some(&value));
    for which in 0..versions.len() {
        let mut other = seen.clone();
        other.0[which] = None;
        assert_eq!(decode(bytes, &other), None, "a tag has no such version any more");
    }
}
