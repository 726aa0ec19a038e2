//! Contents whose bytes are known: pseudo-random, so that nothing on the way can compress or guess them, and the same for
//! the same seed, so that two runs on one node store nothing twice.

use std::fmt::Write;

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// A content, held in memory: each stream is compared with it byte by byte.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) hash: String,
    pub(crate) bytes: Bytes,
}

impl Content {
    pub(crate) fn new(seed: u64, size_bytes: usize) -> Self {
        let mut bytes = vec![0; size_bytes];
        let mut state = seed;
        for word in bytes.chunks_mut(8) {
            let next = split_mix(&mut state).to_le_bytes();
            word.copy_from_slice(&next[..word.len()]);
        }
        Self::of(bytes.into())
    }

    /// One whose bytes are there.
    pub(crate) fn of(bytes: Bytes) -> Self {
        let mut hash = String::with_capacity(64);
        for byte in Sha256::digest(&bytes) {
            let _ = write!(hash, "{byte:02x}");
        }
        Self { hash, bytes }
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): eight good bytes for three multiplications.
pub(crate) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_content() {
        assert_eq!(Content::new(7, 1001).hash, Content::new(7, 1001).hash);
        assert_ne!(Content::new(7, 1001).hash, Content::new(8, 1001).hash);
        assert_eq!(Content::new(7, 1001).len(), 1001);
    }

    #[test]
    fn the_name_is_the_sha_256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Content::new(1, 0).hash, empty);
    }
}
