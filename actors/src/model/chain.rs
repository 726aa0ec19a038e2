//! Transactions, outputs and blocks, as far as the node keeps them. It reads none of their rules here: a verifier of another
//! crate does ([`PaymentVerifier`](crate::ports::PaymentVerifier), [`HeaderRules`](crate::ports::HeaderRules)).

use std::{fmt, str::FromStr};

use crate::ids::hash_of;

/// The text is not 64 hexadecimal characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of a transaction or a block is 64 hexadecimal characters")]
pub struct InvalidHash;

/// A double SHA-256, in the order of the wire. As text it is reversed, as every explorer shows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainHash([u8; 32]);

impl ChainHash {
    pub const fn from_wire(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_wire(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for ChainHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let mut bytes = hash_of(text).ok_or(InvalidHash)?;
        bytes.reverse();
        Ok(Self(bytes))
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The id of a transaction.
pub type TxId = ChainHash;

/// The id of a block: the hash of its header.
pub type BlockHash = ChainHash;

/// The root of the Merkle tree over a block's transactions.
pub type MerkleRoot = ChainHash;

/// One output of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outpoint {
    pub txid: TxId,
    /// The index of the output.
    pub vout: u32,
}

impl fmt::Display for Outpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.txid, self.vout)
    }
}

/// What an output pays, and to which script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxOutput {
    pub satoshis: u64,
    pub locking_script: Vec<u8>,
}

/// The network whose rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Main,
    Test,
    /// A private chain: blocks cost nothing to make.
    Regtest,
}

/// The expected number of hashes behind a chain, as an unsigned number of 256 bits, the highest byte first. So the order of the
/// bytes is the order of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ChainWork(pub [u8; 32]);

impl ChainWork {
    /// The sum; the largest number if it has no room. No chain gets there.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let mut sum = [0; 32];
        let mut carry = 0;
        for (at, byte) in sum.iter_mut().enumerate().rev() {
            let digit = u16::from(self.0[at]) + u16::from(other.0[at]) + u16::from(carry);
            [carry, *byte] = digit.to_be_bytes();
        }
        if carry > 0 { Self([u8::MAX; 32]) } else { Self(sum) }
    }
}

/// The bytes of a header.
pub const HEADER_BYTES: usize = 80;

/// A block's header, as it is hashed: version (4 bytes), the hash of the block before it (32), the Merkle root (32), time (4),
/// target (4) and nonce (4). Numbers begin with their lowest byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawHeader(pub [u8; HEADER_BYTES]);

impl RawHeader {
    pub fn previous(&self) -> BlockHash {
        ChainHash(self.field::<4, 32>())
    }

    pub fn merkle_root(&self) -> MerkleRoot {
        ChainHash(self.field::<36, 32>())
    }

    /// When the block was made, in seconds since 1970, by its miner's clock.
    pub fn time(&self) -> u32 {
        u32::from_le_bytes(self.field::<68, 4>())
    }

    /// The target, in its compact form.
    pub fn bits(&self) -> u32 {
        u32::from_le_bytes(self.field::<72, 4>())
    }

    fn field<const AT: usize, const LENGTH: usize>(&self) -> [u8; LENGTH] {
        std::array::from_fn(|byte| self.0[AT + byte])
    }
}

impl fmt::Debug for RawHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "header after {} with {}", self.previous(), self.merkle_root())
    }
}

/// A header that was looked at alone: its proof of work holds for the target that it claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedHeader {
    pub raw: RawHeader,
    pub hash: BlockHash,
    /// What this block alone adds to a chain.
    pub work: ChainWork,
}

/// A header with its place in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHeader {
    pub raw: RawHeader,
    pub hash: BlockHash,
    pub height: u32,
    /// The work of the chain up to and with this block.
    pub total_work: ChainWork,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_hash_survives_its_text(bytes: [u8; 32]) {
            let hash = ChainHash::from_wire(bytes);
            prop_assert_eq!(hash.to_string().parse(), Ok(hash));
        }

        #[test]
        fn every_other_text_is_refused(text in "[0-9a-fA-F]{62,66}|\\PC{0,80}") {
            let plain = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            prop_assert_eq!(text.parse::<ChainHash>().is_ok(), plain);
        }
    }

    proptest! {
        #[test]
        fn work_adds_up_as_numbers_do(a: u128, b: u128) {
            let work = |number: u128| {
                let mut bytes = [0; 32];
                bytes[16..].copy_from_slice(&number.to_be_bytes());
                ChainWork(bytes)
            };
            let sum = work(a).plus(work(b));
            prop_assert_eq!(u128::from_be_bytes(sum.0[16..].try_into().expect("16 bytes")), a.wrapping_add(b));
            prop_assert_eq!(sum.0[15], u8::from(a.checked_add(b).is_none()));
            prop_assert_eq!(work(a).cmp(&work(b)), a.cmp(&b));
        }
    }

    #[test]
    fn a_sum_of_work_without_room_is_the_largest_number() {
        let most = ChainWork([u8::MAX; 32]);
        assert_eq!(most.plus(most), most);
    }

    #[test]
    fn the_fields_of_a_header_are_where_the_network_has_them() {
        let mut raw = [0; HEADER_BYTES];
        for (at, byte) in (0..).zip(raw.iter_mut()) {
            *byte = at;
        }
        let raw = RawHeader(raw);
        assert_eq!(raw.previous().as_wire()[0], 4);
        assert_eq!(raw.merkle_root().as_wire()[0], 36);
        assert_eq!((raw.time(), raw.bits()), (0x4746_4544, 0x4b4a_4948));
    }

    #[test]
    fn the_text_of_the_first_block_is_as_explorers_show_it() {
        let text = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
        let hash: BlockHash = text.parse().expect("64 digits");
        assert_eq!(hash.as_wire()[0], 0x6f);
        assert_eq!(hash.to_string(), text);
    }
}
