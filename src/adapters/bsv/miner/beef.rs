//! Envelopes of payments (BEEF: BRC-62, 95, 96), written.

use penstock_actors::model::{ChainHash, TxId};

use super::wallet::{RawTransaction, push_number};

/// A Merkle path from a transaction to the root of its block (BUMP: BRC-74).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerkleProof {
    pub height: u32,
    /// The place of the transaction in its block.
    pub index: u64,
    pub id: TxId,
    /// The other hash of each level; `None` where there is none, and the hash is paired with itself.
    pub siblings: Vec<Option<ChainHash>>,
}

impl MerkleProof {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_number(&mut bytes, self.height as usize);
        bytes.push(u8::try_from(self.siblings.len().max(1)).unwrap_or(u8::MAX));
        if self.siblings.is_empty() {
            bytes.push(1);
            push_leaf(&mut bytes, 0, 2, Some(&self.id));
        }
        for (level, sibling) in self.siblings.iter().enumerate() {
            let at = self.index >> level;
            let flag = if sibling.is_some() { 0 } else { 1 };
            if level > 0 {
                bytes.push(1);
                push_leaf(&mut bytes, at ^ 1, flag, sibling.as_ref());
                continue;
            }
            bytes.push(2);
            let mut leaves = [(at, 2, Some(&self.id)), (at ^ 1, flag, sibling.as_ref())];
            leaves.sort_by_key(|(at, ..)| *at);
            leaves.into_iter().for_each(|(at, flag, hash)| push_leaf(&mut bytes, at, flag, hash));
        }
        bytes
    }
}

fn push_leaf(bytes: &mut Vec<u8>, at: u64, flag: u8, hash: Option<&ChainHash>) {
    push_number(bytes, usize::try_from(at).unwrap_or(usize::MAX));
    bytes.push(flag);
    bytes.extend(hash.into_iter().flat_map(|hash| hash.as_wire()));
}

/// An envelope that is being written. Each transaction goes after those that it spends.
#[derive(Debug, Clone, Default)]
pub struct Beef {
    proofs: Vec<MerkleProof>,
    transactions: Vec<(RawTransaction, Option<usize>)>,
}

impl Beef {
    pub fn new() -> Self {
        Self::default()
    }

    /// With a transaction that a block has.
    #[must_use]
    pub fn mined(mut self, transaction: &RawTransaction, proof: MerkleProof) -> Self {
        self.transactions.push((transaction.clone(), Some(self.proofs.len())));
        self.proofs.push(proof);
        self
    }

    /// With a transaction that no block has.
    #[must_use]
    pub fn unmined(mut self, transaction: &RawTransaction) -> Self {
        self.transactions.push((transaction.clone(), None));
        self
    }

    /// Version 1.
    pub fn v1(&self) -> Vec<u8> {
        let mut bytes = self.begin(0xefbe_0001);
        for (transaction, proof) in &self.transactions {
            bytes.extend_from_slice(&transaction.0);
            bytes.push(u8::from(proof.is_some()));
            proof.iter().for_each(|proof| push_number(&mut bytes, *proof));
        }
        bytes
    }

    /// Version 2.
    pub fn v2(&self) -> Vec<u8> {
        let mut bytes = self.begin(0xefbe_0002);
        for (transaction, proof) in &self.transactions {
            bytes.push(u8::from(proof.is_some()));
            proof.iter().for_each(|proof| push_number(&mut bytes, *proof));
            bytes.extend_from_slice(&transaction.0);
        }
        bytes
    }

    /// Version 1 with the prefix that names its subject.
    pub fn atomic(&self, subject: &TxId) -> Vec<u8> {
        let mut bytes = vec![1; 4];
        bytes.extend_from_slice(subject.as_wire());
        bytes.extend(self.v1());
        bytes
    }

    fn begin(&self, version: u32) -> Vec<u8> {
        let mut bytes = version.to_le_bytes().to_vec();
        push_number(&mut bytes, self.proofs.len());
        self.proofs.iter().for_each(|proof| bytes.extend(proof.to_bytes()));
        push_number(&mut bytes, self.transactions.len());
        bytes
    }
}
