//! The list that a store keeps beside a blob: its size and the SHA-256 of each leaf, with a checksum that detects
//! damage to the list itself.
//!
//! ```text
//! 8   "PSTKLV01"           file type and version
//! 32  the content hash     detects a list beside the wrong blob
//! 8   the size, big endian
//! 32  per leaf, in order
//! 32  SHA-256 of all the above
//! ```

use std::sync::Arc;

use penstock_actors::{
    ids::ContentHash,
    model::{LeafHash, leaf_count},
    ports::{PortError, PortResult},
};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"PSTKLV01";
const HASH_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + HASH_BYTES + size_of::<u64>();

/// A blob's size and leaves, as its list holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeafList {
    pub(super) size_bytes: u64,
    pub(super) leaves: Arc<[LeafHash]>,
}

impl LeafList {
    /// The length of the list of a blob of this size.
    pub(super) const fn encoded_len(size_bytes: u64) -> u64 {
        (HEADER_BYTES + HASH_BYTES) as u64 + leaf_count(size_bytes) * HASH_BYTES as u64
    }

    pub(super) fn encode(hash: ContentHash, size_bytes: u64, leaves: &[LeafHash]) -> Vec<u8> {
        let mut text = Vec::with_capacity(HEADER_BYTES + (leaves.len() + 1) * HASH_BYTES);
        text.extend_from_slice(MAGIC);
        text.extend_from_slice(hash.as_bytes());
        text.extend_from_slice(&size_bytes.to_be_bytes());
        text.extend_from_slice(leaves.as_flattened());
        let checksum = Sha256::digest(&text);
        text.extend_from_slice(&checksum);
        text
    }

    /// # Errors
    /// `Corrupt` when this is not exactly what [`encode`](Self::encode) wrote for this content.
    pub(super) fn decode(text: &[u8], hash: ContentHash) -> PortResult<Self> {
        let corrupt = |why| PortError::Corrupt(format!("the leaf list of {hash} {why}"));
        let (body, checksum) = text.split_last_chunk::<HASH_BYTES>().ok_or_else(|| corrupt("is truncated"))?;
        if Sha256::digest(body)[..] != checksum[..] {
            return Err(corrupt("does not match its checksum"));
        }
        let (magic, body) = body.split_first_chunk::<8>().ok_or_else(|| corrupt("is truncated"))?;
        let (name, body) = body.split_first_chunk::<HASH_BYTES>().ok_or_else(|| corrupt("is truncated"))?;
        let (size, body) = body.split_first_chunk::<8>().ok_or_else(|| corrupt("is truncated"))?;
        if magic != MAGIC {
            return Err(corrupt("is of an unknown version"));
        }
        if name != hash.as_bytes() {
            return Err(corrupt("is of other content"));
        }
        let size_bytes = u64::from_be_bytes(*size);
        let (leaves, rest) = body.as_chunks::<HASH_BYTES>();
        if !rest.is_empty() || leaves.len() as u64 != leaf_count(size_bytes) {
            return Err(corrupt("does not fit the size"));
        }
        Ok(Self { size_bytes, leaves: leaves.into() })
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_actors::model::LEAF_BYTES;
    use proptest::prelude::*;

    fn sealed(mut text: Vec<u8>) -> Vec<u8> {
        let checksum = Sha256::digest(&text);
        text.extend_from_slice(&checksum);
        text
    }

    proptest! {
        #[test]
        fn a_list_is_read_back_as_it_was_written(name: [u8; 32], leaves in proptest::collection::vec(any::<[u8; 32]>(), 0..9)) {
            let hash = ContentHash::from_bytes(name);
            let size_bytes = leaves.len() as u64 * LEAF_BYTES;
            let text = LeafList::encode(hash, size_bytes, &leaves);
            prop_assert_eq!(text.len() as u64, LeafList::encoded_len(size_bytes));
            let read = LeafList::decode(&text, hash).unwrap();
            prop_assert_eq!(read, LeafList { size_bytes, leaves: leaves.into() });
        }

        #[test]
        fn any_flipped_bit_and_any_lost_end_is_found(bit in 0_usize..(80 + 64) * 8, kept in 0_usize..(80 + 64)) {
            let hash = ContentHash::from_bytes([7; 32]);
            let mut text = LeafList::encode(hash, LEAF_BYTES + 1, &[[1; 32], [2; 32]]);
            prop_assert!(LeafList::decode(&text[..kept], hash).is_err());
            text[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(matches!(LeafList::decode(&text, hash), Err(PortError::Corrupt(_))));
        }

        #[test]
        fn bytes_from_anywhere_are_refused(text: Vec<u8>) {
            prop_assert!(LeafList::decode(&text, ContentHash::from_bytes([7; 32])).is_err());
            prop_assert!(LeafList::decode(&sealed(text), ContentHash::from_bytes([7; 32])).is_err());
        }
    }

    #[test]
    fn a_list_of_other_content_of_another_version_or_of_another_length_is_refused() {
        let hash = ContentHash::from_bytes([7; 32]);
        let refusal = |text: Vec<u8>| LeafList::decode(&text, hash).unwrap_err().to_string();
        let other = LeafList::encode(ContentHash::from_bytes([8; 32]), 1, &[[1; 32]]);
        assert!(refusal(other).ends_with("is of other content"));
        assert!(refusal(LeafList::encode(hash, LEAF_BYTES + 1, &[[1; 32]])).ends_with("does not fit the size"));
        let mut newer = LeafList::encode(hash, 1, &[[1; 32]]);
        newer.truncate(newer.len() - HASH_BYTES);
        newer[7] = b'9';
        assert!(refusal(sealed(newer)).ends_with("is of an unknown version"));
    }
}
