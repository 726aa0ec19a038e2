//! The port `HeaderRules`: proof of work, target, time, and checkpoints.

use bsv_rs::block::{
    self, BlockHeader, ChainWork as Work, DifficultyError, HeaderAncestry, HeaderLink, median_time_past,
    next_work_required,
};
use penstock_actors::{
    model::{BlockHash, ChainHash, ChainHeader, ChainWork, CheckedHeader, Network, RawHeader},
    ports::{HeaderFault, HeaderRules},
};

use super::network::NetworkConstants;

/// The headers of a period of the difficulty before 2017, and of the network for tests: more than any rule reads.
const CONTEXT: usize = 2_016;

/// The rules of one network.
#[derive(Debug, Clone)]
pub struct NetworkRules {
    constants: NetworkConstants,
    checkpoints: Vec<(u32, BlockHash)>,
}

impl NetworkRules {
    pub fn of(network: Network) -> Self {
        let constants = NetworkConstants::of(network);
        let checkpoint = |(height, id): &(u32, &str)| {
            (*height, id.parse().expect("the checkpoints in this program are 64 hexadecimal digits each"))
        };
        Self { checkpoints: constants.checkpoints.iter().map(checkpoint).collect(), constants }
    }

    /// The first block of the network.
    pub const fn first_header(&self) -> RawHeader {
        RawHeader(self.constants.first_header)
    }
}

impl HeaderRules for NetworkRules {
    fn check(&self, raw: &RawHeader) -> Result<CheckedHeader, HeaderFault> {
        let header = BlockHeader::from_binary(&raw.0).map_err(|_| HeaderFault::Work)?;
        let hash = header.hash();
        block::check_proof_of_work(&hash, header.bits, &self.constants.params.pow_limit)
            .map_err(|_| HeaderFault::Work)?;
        let work = ChainWork(header.work().to_be_bytes());
        Ok(CheckedHeader { raw: *raw, hash: ChainHash::from_wire(hash), work })
    }

    fn follow(&self, header: &CheckedHeader, before: &[ChainHeader]) -> Result<ChainHeader, HeaderFault> {
        let CheckedHeader { raw, hash, work } = *header;
        let Some(parent) = before.last() else {
            return if raw == self.first_header() {
                Ok(ChainHeader { raw, hash, height: 0, total_work: work })
            } else {
                Err(HeaderFault::Checkpoint)
            };
        };
        let height = parent.height + 1;
        if self.checkpoints.iter().any(|(at, block)| *at == height && *block != hash) {
            return Err(HeaderFault::Checkpoint);
        }
        let ancestry = Ancestry(before);
        // A rule that reads a header which is not there has no answer: the header is refused.
        let bits = next_work_required(&self.constants.params, &ancestry, parent.height, raw.time());
        if bits != Ok(raw.bits()) {
            return Err(HeaderFault::Target);
        }
        let median = median_time_past(&ancestry, parent.height).map_err(|_| HeaderFault::Time)?;
        if i64::from(raw.time()) <= median {
            return Err(HeaderFault::Time);
        }
        Ok(ChainHeader { raw, hash, height, total_work: parent.total_work.plus(work) })
    }

    fn context(&self) -> usize {
        CONTEXT
    }
}

/// Headers in order, the last one the parent.
struct Ancestry<'a>(&'a [ChainHeader]);

impl Ancestry<'_> {
    fn at(&self, height: u32) -> Option<&ChainHeader> {
        let first = self.0.first()?.height;
        self.0.get(height.checked_sub(first)? as usize)
    }
}

impl HeaderAncestry for Ancestry<'_> {
    fn link_at(&self, height: u32) -> Option<HeaderLink> {
        self.at(height).map(|header| HeaderLink { height, time: header.raw.time(), bits: header.raw.bits() })
    }

    /// The totals are known, so that no work is added up again.
    fn work_between(&self, first: u32, last: u32) -> Result<Work, DifficultyError> {
        let total = |height| {
            let header = self.at(height).ok_or(DifficultyError::MissingAncestor { height })?;
            Ok(Work::from_be_bytes(header.total_work.0))
        };
        Ok(total(last)?.checked_sub(total(first)?).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
