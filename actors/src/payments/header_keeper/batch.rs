//! Headers of a source, checked: which are new, and why the others are not taken.

use jiff::{SignedDuration, Timestamp};

use crate::{
    model::{ChainHeader, RawHeader},
    payments::chain::Chain,
    ports::{HeaderFault, HeaderRules},
};

/// How far the clock of a miner may be ahead: what the network allows.
const MINER_AHEAD: SignedDuration = SignedDuration::from_hours(2);

/// Why the rest of a batch is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The first header that is new has no parent in the chain.
    Unconnected,
    Refused {
        height: u32,
        fault: HeaderFault,
    },
    /// It may be valid later.
    Ahead {
        height: u32,
    },
    /// It does not follow the header before it in the batch.
    Broken {
        height: u32,
    },
    /// The chain has too many of its height.
    Crowded {
        height: u32,
    },
}

/// The new headers of a batch, up to the first that is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) headers: Vec<ChainHeader>,
    pub(super) stop: Option<Stop>,
}

/// Checks the headers that the source has from this height on.
pub(super) fn check(rules: &dyn HeaderRules, chain: &Chain, from: u32, raw: &[RawHeader], now: Timestamp) -> Checked {
    let mut batch = Batch { rules, chain, latest: now + MINER_AHEAD, before: Vec::new(), new: 0 };
    let stop = (from..).zip(raw).find_map(|(height, raw)| batch.take(height, raw).err());
    let known = batch.before.len() - batch.new;
    Checked { headers: batch.before.split_off(known), stop }
}

struct Batch<'a> {
    rules: &'a dyn HeaderRules,
    chain: &'a Chain,
    latest: Timestamp,
    /// What comes before the next header: first what the chain has, then what is new.
    before: Vec<ChainHeader>,
    new: usize,
}

impl Batch<'_> {
    fn take(&mut self, height: u32, raw: &RawHeader) -> Result<(), Stop> {
        let refused = |fault| Stop::Refused { height, fault };
        let header = self.rules.check(raw).map_err(refused)?;
        if self.new == 0 {
            if self.chain.find(height, &header.hash).is_some() {
                return Ok(());
            }
            self.before = self.context(height, raw)?;
        } else if self.before.last().is_some_and(|last| last.hash != raw.previous()) {
            return Err(Stop::Broken { height });
        }
        if !self.chain.has_room(height) {
            return Err(Stop::Crowded { height });
        }
        let context = self.before.len().saturating_sub(self.rules.context());
        let header = self.rules.follow(&header, &self.before[context..]).map_err(refused)?;
        if Timestamp::from_second(raw.time().into()).is_ok_and(|time| time > self.latest) {
            return Err(Stop::Ahead { height });
        }
        self.before.push(header);
        self.new += 1;
        Ok(())
    }

    /// What comes before the first new header.
    fn context(&self, height: u32, raw: &RawHeader) -> Result<Vec<ChainHeader>, Stop> {
        let Some(below) = height.checked_sub(1) else { return Ok(Vec::new()) };
        let parent = self.chain.find(below, &raw.previous()).ok_or(Stop::Unconnected)?;
        Ok(self.chain.lineage(parent, self.rules.context()))
    }
}
