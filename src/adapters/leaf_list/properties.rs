//! What holds for every file beside a blob.

use super::*;

/// The bytes with the checksum that makes them a file of this node.
pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &Sha256::digest(bytes)].concat()
}

/// # Panics
/// When bytes are taken for a list that this node would not write.
pub(crate) fn check(hash: ContentHash, bytes: &[u8]) {
    for text in [bytes.to_vec(), sealed(bytes)] {
        if let Ok(LeafList { size_bytes, leaves }) = LeafList::decode(&text, hash) {
            assert_eq!(LeafList::encode(hash, size_bytes, &leaves), text);
            assert_eq!(LeafList::encoded_len(size_bytes), text.len() as u64);
        }
    }
}
