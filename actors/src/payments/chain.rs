//! `Chain`: the headers of the last weeks with their branches, and the Merkle roots of the best chain from its first block on.
//!
//! The chain with the most work is the best; of two with the same work, the one that was known first. A header takes its place after
//! its parent. When a side branch gets more work than the best chain, it becomes the best: a reorganisation, as deep as the number of
//! blocks that left the best chain.
//!
//! This is arithmetic: the caller has checked each header by the rules of the network.
//!
//! **Bound.** 32 bytes for each block of the best chain, and at most [`SIBLINGS`] headers for each of the last [`KEPT`] heights.

use std::collections::BTreeMap;

use crate::model::{BlockHash, ChainHeader, MerkleRoot};

/// Heights whose headers stay in memory: four weeks of blocks. The rules need those of two weeks before a header, so a branch may begin
/// two weeks back.
pub const KEPT: u32 = 4_032;

/// Headers of one height. Each cost the work that the rules ask for, so on the networks that matter there are one or two.
pub const SIBLINGS: usize = 16;

/// The blocks whose times make the time of the chain.
const MEDIAN_OF: usize = 11;

/// What a header did to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It was there before.
    Known,
    /// It is in a branch that has less work than the best, or as much.
    Aside,
    /// It is the new tip, upon the old one.
    Tip,
    /// Its branch is the best now. So many blocks left the best chain.
    Reorganised { depth: u32 },
}

/// Why a header has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    #[error("the block before it is not known")]
    NoParent,
    #[error("its branch left the best chain more than {KEPT} blocks ago")]
    TooOld,
    #[error("there are {SIBLINGS} blocks of its height")]
    TooMany,
}

/// Headers and roots.
#[derive(Debug, Default)]
pub struct Chain {
    roots: Vec<MerkleRoot>,
    recent: BTreeMap<u32, Vec<ChainHeader>>,
    best: Option<ChainHeader>,
}

impl Chain {
    /// The tip of the best chain.
    pub const fn best(&self) -> Option<&ChainHeader> {
        self.best.as_ref()
    }

    /// The Merkle root of the block at this height of the best chain.
    pub fn root(&self, height: u32) -> Option<MerkleRoot> {
        self.roots.get(height as usize).copied()
    }

    /// The roots of the best chain from this height on, with their heights.
    pub fn roots_from(&self, height: u32) -> impl Iterator<Item = (u32, MerkleRoot)> {
        (height..).zip(self.roots.iter().skip(height as usize).copied())
    }

    /// A header of the last [`KEPT`] heights.
    pub fn find(&self, height: u32, hash: &BlockHash) -> Option<&ChainHeader> {
        self.recent.get(&height)?.iter().find(|header| header.hash == *hash)
    }

    /// Whether one more header of this height would have a place.
    pub fn has_room(&self, height: u32) -> bool {
        self.recent.get(&height).is_none_or(|siblings| siblings.len() < SIBLINGS)
    }

    /// The header and those before it, the oldest first: at most `count`, and as far back as headers are kept.
    pub fn lineage(&self, last: &ChainHeader, count: usize) -> Vec<ChainHeader> {
        let mut headers = Vec::with_capacity(count.min(KEPT as usize));
        let mut next = Some(last);
        while let Some(header) = next.filter(|_| headers.len() < count) {
            headers.push(*header);
            next = self.parent(header);
        }
        headers.reverse();
        headers
    }

    /// The median of the times of the last eleven blocks, in seconds since 1970.
    pub fn median_time_past(&self) -> Option<u32> {
        let mut times: Vec<_> =
            self.lineage(self.best.as_ref()?, MEDIAN_OF).iter().map(|header| header.raw.time()).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    /// Gives a header its place.
    ///
    /// # Errors
    /// When it has none. Nothing is changed then.
    pub fn add(&mut self, header: ChainHeader) -> Result<Added, NoPlace> {
        if self.find(header.height, &header.hash).is_some() {
            return Ok(Added::Known);
        }
        if self.best.is_some_and(|best| header.height + KEPT <= best.height) {
            return Err(NoPlace::TooOld);
        }
        if header.height > 0 && self.parent(&header).is_none() {
            return Err(NoPlace::NoParent);
        }
        if !self.has_room(header.height) {
            return Err(NoPlace::TooMany);
        }
        let added = self.place_by_work(&header)?;
        self.recent.entry(header.height).or_default().push(header);
        self.forget_old();
        Ok(added)
    }

    fn place_by_work(&mut self, header: &ChainHeader) -> Result<Added, NoPlace> {
        let Some(best) = self.best else {
            self.become_best(header, &[], 0);
            return Ok(Added::Tip);
        };
        if header.total_work <= best.total_work {
            return Ok(Added::Aside);
        }
        if header.raw.previous() == best.hash {
            self.become_best(header, &[], header.height);
            return Ok(Added::Tip);
        }
        let (fork, branch) = self.branch_to(header, &best).ok_or(NoPlace::TooOld)?;
        self.become_best(header, &branch, fork + 1);
        Ok(Added::Reorganised { depth: best.height - fork })
    }

    /// The height of the last block that both chains have, and the roots after it up to the block before `header`.
    fn branch_to(&self, header: &ChainHeader, best: &ChainHeader) -> Option<(u32, Vec<MerkleRoot>)> {
        let mut branch = Vec::new();
        let mut new = self.parent(header)?;
        let mut old = self.find(best.height, &best.hash)?;
        while new.hash != old.hash {
            let (new_height, old_height) = (new.height, old.height);
            if new_height >= old_height {
                branch.push(new.raw.merkle_root());
                new = self.parent(new)?;
            }
            if old_height >= new_height {
                old = self.parent(old)?;
            }
        }
        branch.reverse();
        Some((new.height, branch))
    }

    /// The roots from `height` on are those of `branch` and of the header.
    fn become_best(&mut self, header: &ChainHeader, branch: &[MerkleRoot], height: u32) {
        self.roots.truncate(height as usize);
        self.roots.extend_from_slice(branch);
        self.roots.push(header.raw.merkle_root());
        self.best = Some(*header);
    }

    fn parent(&self, header: &ChainHeader) -> Option<&ChainHeader> {
        self.find(header.height.checked_sub(1)?, &header.raw.previous())
    }

    fn forget_old(&mut self) {
        let Some(best) = self.best else { return };
        while let Some(oldest) = self.recent.first_entry().filter(|oldest| *oldest.key() + KEPT <= best.height) {
            oldest.remove();
        }
    }
}

#[cfg(test)]
mod tests;
