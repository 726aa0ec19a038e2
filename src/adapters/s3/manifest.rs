//! The manifest of a content: where its bytes are, how many, and the hashes of their leaves. Its existence makes the
//! content visible. A checksum detects damage to it.
//!
//! ```text
//! 8   "PSTKMF01"           object type and version
//! 2   the length of the data's key, big endian
//! n   the data's key, in the same bucket
//! ..  the leaf list, which names the content and its size and ends with a checksum of its own
//! 32  SHA-256 of all the above
//! ```

use std::sync::Arc;

use penstock_actors::{
    ids::ContentHash,
    model::LeafHash,
    ports::{PortError, PortResult},
};
use sha2::{Digest, Sha256};

use crate::adapters::leaf_list::LeafList;

const MAGIC: &[u8; 8] = b"PSTKMF01";
const HASH_BYTES: usize = 32;

/// The largest manifest that is read: that of an object of 5 TiB, the largest that S3 allows.
pub(super) const LARGEST: usize = (5 << 20) * HASH_BYTES + (64 << 10);

/// The content of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) data: String,
    pub(super) size_bytes: u64,
    pub(super) leaves: Arc<[LeafHash]>,
}

impl Manifest {
    pub(super) fn encode(&self, hash: ContentHash) -> Vec<u8> {
        let list = LeafList::encode(hash, self.size_bytes, &self.leaves);
        let mut text = Vec::with_capacity(MAGIC.len() + 2 + self.data.len() + list.len() + HASH_BYTES);
        text.extend_from_slice(MAGIC);
        // Keys are made by this program and have about a hundred bytes; S3 allows a thousand.
        text.extend_from_slice(&u16::try_from(self.data.len()).unwrap_or(u16::MAX).to_be_bytes());
        text.extend_from_slice(self.data.as_bytes());
        text.extend_from_slice(&list);
        let checksum = Sha256::digest(&text);
        text.extend_from_slice(&checksum);
        text
    }

    /// # Errors
    /// `Corrupt` when this is not exactly what [`encode`](Self::encode) wrote for this content.
    pub(super) fn decode(text: &[u8], hash: ContentHash) -> PortResult<Self> {
        let corrupt = |why| PortError::Corrupt(format!("the manifest of {hash} {why}"));
        let (body, checksum) = text.split_last_chunk::<HASH_BYTES>().ok_or_else(|| corrupt("is truncated"))?;
        if Sha256::digest(body)[..] != checksum[..] {
            return Err(corrupt("does not match its checksum"));
        }
        let (magic, body) = body.split_first_chunk::<8>().ok_or_else(|| corrupt("is truncated"))?;
        if magic != MAGIC {
            return Err(corrupt("is of an unknown version"));
        }
        let (length, body) = body.split_first_chunk::<2>().ok_or_else(|| corrupt("is truncated"))?;
        let key = body.split_at_checked(u16::from_be_bytes(*length).into());
        let (key, list) = key.ok_or_else(|| corrupt("is truncated"))?;
        let data = str::from_utf8(key).map_err(|_| corrupt("names no key"))?.to_owned();
        let LeafList { size_bytes, leaves } = LeafList::decode(list, hash)?;
        Ok(Self { data, size_bytes, leaves })
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_actors::model::LEAF_BYTES;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_manifest_is_read_back_as_it_was_written(
            name: [u8; 32],
            data in "[a-z0-9/]{0,200}",
            leaves in proptest::collection::vec(any::<[u8; 32]>(), 0..9),
        ) {
            let manifest = Manifest { data, size_bytes: leaves.len() as u64 * LEAF_BYTES, leaves: leaves.into() };
            let hash = ContentHash::from_bytes(name);
            prop_assert_eq!(Manifest::decode(&manifest.encode(hash), hash).unwrap(), manifest);
        }

        #[test]
        fn any_flipped_bit_any_lost_end_and_any_other_bytes_are_found(bit: usize, kept: usize, other: Vec<u8>) {
            let hash = ContentHash::from_bytes([7; 32]);
            let manifest = Manifest { data: "data/ab/abcd".to_owned(), size_bytes: 1, leaves: [[1; 32]].into() };
            let mut text = manifest.encode(hash);
            prop_assert!(Manifest::decode(&text[..kept % text.len()], hash).is_err());
            let bit = bit % (text.len() * 8);
            text[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(matches!(Manifest::decode(&text, hash), Err(PortError::Corrupt(_))));
            prop_assert!(Manifest::decode(&other, hash).is_err());
        }
    }

    #[test]
    fn the_manifest_of_other_content_is_refused() {
        let manifest = Manifest { data: "data/ab/abcd".to_owned(), size_bytes: 1, leaves: [[1; 32]].into() };
        let text = manifest.encode(ContentHash::from_bytes([8; 32]));
        assert!(Manifest::decode(&text, ContentHash::from_bytes([7; 32])).is_err());
    }
}
