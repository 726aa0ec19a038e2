//! A private chain: blocks by the rules of `regtest`, which cost nothing to make, for the demonstration and for tests.
//!
//! [`wallet`] makes transactions for it, and [`beef`] the envelopes that prove them.

pub mod beef;
pub mod wallet;

use bsv_rs::{
    block::{merkle_parent, merkle_root},
    primitives::sha256d,
};
use penstock_actors::{
    model::{ChainHash, ChainHeader, MerkleRoot, Network, RawHeader, TxId},
    ports::{BestChain, HeaderRules as _},
};

use self::{
    beef::MerkleProof,
    wallet::{Coin, RawTransaction},
};
use super::header_rules::NetworkRules;

/// What a block pays its miner.
pub const SUBSIDY: u64 = 5_000_000_000;

/// The times of the last blocks, whose median a block must be after.
const MEDIAN_OF: u32 = 11;

/// A block: its header and the ids of its transactions.
#[derive(Debug, Clone)]
pub struct Block {
    pub header: ChainHeader,
    transactions: Vec<TxId>,
}

/// A chain of blocks, from the first block of `regtest` on.
#[derive(Debug, Clone)]
pub struct PrivateChain {
    rules: NetworkRules,
    blocks: Vec<Block>,
    /// Distinguishes the blocks of branches.
    branch: u32,
}

impl PrivateChain {
    /// The first block alone.
    pub fn new() -> Self {
        let rules = NetworkRules::of(Network::Regtest);
        let raw = rules.first_header();
        let first = rules.check(&raw).and_then(|header| rules.follow(&header, &[]));
        let header = first.expect("the first block fulfils the rules of its network");
        Self { rules, blocks: vec![Block { header, transactions: vec![raw.merkle_root()] }], branch: 0 }
    }

    /// This chain up to a height, to mine another branch upon it. Branches with different numbers have different blocks.
    #[must_use]
    pub fn branch_at(&self, height: u32, branch: u32) -> Self {
        let kept = self.blocks.iter().take(height as usize + 1).cloned().collect();
        Self { rules: self.rules.clone(), blocks: kept, branch }
    }

    /// The height of the last block.
    pub fn height(&self) -> u32 {
        self.last().height
    }

    pub fn last(&self) -> &ChainHeader {
        &self.blocks.last().expect("a chain has its first block").header
    }

    /// The headers from this height on.
    pub fn headers_from(&self, height: u32) -> Vec<ChainHeader> {
        self.blocks.iter().skip(height as usize).map(|block| block.header).collect()
    }

    /// Mines a block with these transactions behind its coinbase, which pays `script`. Its time is `time`, in seconds since 1970, or the
    /// first one that the rules allow. Returns what the coinbase pays; it can be spent a hundred blocks later.
    pub fn mine(&mut self, transactions: &[RawTransaction], script: &[u8], time: u32) -> (RawTransaction, Coin) {
        let height = self.height() + 1;
        let (coinbase, coin) = RawTransaction::coinbase(height, self.branch, SUBSIDY, script);
        let ids: Vec<_> = std::iter::once(&coinbase).chain(transactions).map(RawTransaction::id).collect();
        let leaves: Vec<_> = ids.iter().map(|id| *id.as_wire()).collect();
        let before = self.headers_from(height.saturating_sub(MEDIAN_OF));
        let time = time.max(median_time(&before) + 1);
        let mut raw = RawHeader([0; 80]);
        raw.0[0] = 1;
        raw.0[4..36].copy_from_slice(self.last().hash.as_wire());
        raw.0[36..68].copy_from_slice(&merkle_root(&leaves).root);
        raw.0[68..72].copy_from_slice(&time.to_le_bytes());
        raw.0[72..76].copy_from_slice(&self.last().raw.bits().to_le_bytes());
        let header = (0..u32::MAX).find_map(|nonce: u32| {
            raw.0[76..].copy_from_slice(&nonce.to_le_bytes());
            self.rules.check(&raw).and_then(|header| self.rules.follow(&header, &before)).ok()
        });
        let header = header.expect("every second number fulfils the target of a private chain");
        self.blocks.push(Block { header, transactions: ids });
        (coinbase, coin)
    }

    /// Proves that a block has this transaction. `None` if none has it.
    pub fn proof(&self, id: &TxId) -> Option<MerkleProof> {
        let block = self.blocks.iter().rev().find(|block| block.transactions.contains(id))?;
        let index = block.transactions.iter().position(|other| other == id)?;
        let mut level: Vec<_> = block.transactions.iter().map(|id| *id.as_wire()).collect();
        let mut siblings = Vec::new();
        let mut at = index;
        while level.len() > 1 {
            siblings.push(level.get(at ^ 1).map(|hash| ChainHash::from_wire(*hash)));
            level = level.chunks(2).map(|pair| merkle_parent(&pair[0], pair.last().unwrap_or(&pair[0]))).collect();
            at /= 2;
        }
        Some(MerkleProof { height: block.header.height, index: index as u64, id: *id, siblings })
    }
}

impl BestChain for PrivateChain {
    fn merkle_root(&self, height: u32) -> Option<MerkleRoot> {
        self.blocks.get(height as usize).map(|block| block.header.raw.merkle_root())
    }

    fn tip(&self) -> Option<u32> {
        Some(self.height())
    }

    fn median_time_past(&self) -> Option<u32> {
        Some(median_time(&self.headers_from((self.height() + 1).saturating_sub(MEDIAN_OF))))
    }
}

/// The median of the times of headers, of which there is one at least.
fn median_time(headers: &[ChainHeader]) -> u32 {
    let mut times: Vec<_> = headers.iter().map(|header| header.raw.time()).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

impl Default for PrivateChain {
    fn default() -> Self {
        Self::new()
    }
}

/// The double SHA-256 of bytes.
fn hash_of(bytes: &[u8]) -> ChainHash {
    ChainHash::from_wire(sha256d(bytes))
}
