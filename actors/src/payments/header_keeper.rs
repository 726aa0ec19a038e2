//! `HeaderKeeper`: keeps the chain of this node up to date.
//!
//! Each round reads what other instances have added to the store, asks the source for what comes next, checks it ([`batch`]), stores it,
//! and gives it its place in the [`ChainHandle`]. When the source has another branch, the round goes back in growing steps until a header
//! connects. What does not fulfil the rules of the network is refused, whatever the source says.
//!
//! The store is written before the chain in memory, so the store has all that any instance knows. Where it has less work than this
//! node's chain, it was restored from a backup, and the chain is read from it again.
//!
//! **Bound.** One call at a time, of [`HEADERS_A_CALL`] headers; [`BATCHES`] a round. **When the source or the store fails**, the chain stays
//! as it is, and the next round tries again. When the last block is too old by then, payments are refused
//! ([`ChainHandle::is_current`]); nothing else is.

mod batch;

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, Arbiter, AsyncContext, Context, WrapFuture};

use self::batch::{Stop, check};
use super::{chain::NoPlace, chain_handle::ChainHandle};
use crate::{
    clock::Clock,
    ports::{BestChain as _, HEADERS_A_CALL, HeaderFault, HeaderRules, HeaderSource, HeaderStore, PortError},
    supervision::Supervised,
};

/// Batches of one round: more than the longest chain there is has.
const BATCHES: usize = 1_000;

/// How far back a branch may begin: two weeks. So much again is kept below it for the rules.
const BACK: u32 = 2_048;

/// What the keeper depends on.
#[derive(Clone)]
pub struct KeeperDeps {
    pub chain: ChainHandle,
    pub rules: Arc<dyn HeaderRules>,
    pub source: Arc<dyn HeaderSource>,
    pub store: Arc<dyn HeaderStore>,
    pub clock: Arc<dyn Clock>,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("the source of headers: {0}")]
    Source(#[source] PortError),
    #[error("the store of headers: {0}")]
    Store(#[source] PortError),
    #[error("the source says that its chain has {tip} blocks after the first, and gives no header at height {height}")]
    Withheld { tip: u32, height: u32 },
    #[error("the header at height {height} is refused: {fault}")]
    Refused { height: u32, fault: HeaderFault },
    #[error("the header at height {height} is more than two hours ahead of this node's clock")]
    Ahead { height: u32 },
    #[error("the header at height {height} does not follow the one before it")]
    Broken { height: u32 },
    #[error("the chain of the source has no block of the last {BACK} in common with this node's")]
    Foreign,
    #[error("the header at height {height}: {why}")]
    NoPlace { height: u32, why: NoPlace },
    #[error("the headers were not checked to the end")]
    Unchecked,
}

impl KeeperDeps {
    /// One round; returns how many headers were new.
    ///
    /// # Errors
    /// Why it ended early. What was added until then stays.
    pub async fn round(&self) -> Result<usize, KeeperError> {
        let known = self.follow_store().await?;
        let new = self.follow_source().await?;
        Ok(known + new)
    }

    /// Reads what other instances have added, or all at the start.
    async fn follow_store(&self) -> Result<usize, KeeperError> {
        let stored = self.store.best_header().await.map_err(KeeperError::Store)?;
        let own = self.chain.look(|chain| chain.best().copied());
        let has_less = own.is_some_and(|own| stored.is_none_or(|stored| stored.total_work < own.total_work));
        if has_less {
            tracing::warn!(
                "the store of headers has less than this node's chain; the chain is read from the store again"
            );
            self.chain.clear();
        }
        let Some(stored) = stored else { return Ok(0) };
        if self.chain.look(|chain| chain.find(stored.height, &stored.hash).is_some()) {
            return Ok(0);
        }
        let page = u32::try_from(HEADERS_A_CALL).unwrap_or(u32::MAX);
        // A heavier branch may be shorter.
        let mut from = self.chain.tip().map_or(0, |tip| tip.saturating_add(1).min(stored.height));
        let mut back = StepsBack::default();
        let mut count = 0;
        while from <= stored.height {
            let headers = self.store.headers_from(from, page).await.map_err(KeeperError::Store)?;
            match self.chain.add(&headers) {
                Ok(()) => {
                    count += headers.len();
                    from = from.saturating_add(page);
                }
                // A branch that begins below this node's tip.
                Err((_, NoPlace::NoParent)) => from = back.from(from).ok_or(KeeperError::Foreign)?,
                Err((height, why)) => return Err(KeeperError::NoPlace { height, why }),
            }
        }
        Ok(count)
    }

    async fn follow_source(&self) -> Result<usize, KeeperError> {
        let tip = self.source.tip().await.map_err(KeeperError::Source)?;
        self.chain.note_source(tip);
        let mut from = self.chain.tip().map_or(0, |own| own.saturating_add(1).min(tip));
        let mut back = StepsBack::default();
        let mut count = 0;
        for _ in 0..BATCHES {
            let raw = self.source.headers(from, HEADERS_A_CALL).await.map_err(KeeperError::Source)?;
            if raw.is_empty() && from <= tip {
                return Err(KeeperError::Withheld { tip, height: from });
            }
            let length = u32::try_from(raw.len()).unwrap_or(u32::MAX);
            let (chain, rules, now) = (self.chain.clone(), Arc::clone(&self.rules), self.clock.now());
            let checking =
                tokio::task::spawn_blocking(move || chain.look(|chain| check(&*rules, chain, from, &raw, now)));
            let checked = checking.await.map_err(|_| KeeperError::Unchecked)?;
            if !checked.headers.is_empty() {
                self.store.add_headers(&checked.headers).await.map_err(KeeperError::Store)?;
                self.chain.add(&checked.headers).map_err(|(height, why)| KeeperError::NoPlace { height, why })?;
                count += checked.headers.len();
                self.chain.note_source(tip);
            }
            match checked.stop {
                None => {
                    from = from.saturating_add(length);
                    if from > tip {
                        return Ok(count);
                    }
                }
                Some(Stop::Unconnected) => from = back.from(from).ok_or(KeeperError::Foreign)?,
                Some(Stop::Refused { height, fault }) => {
                    self.chain.note_refused();
                    return Err(KeeperError::Refused { height, fault });
                }
                Some(Stop::Ahead { height }) => return Err(KeeperError::Ahead { height }),
                Some(Stop::Crowded { height }) => return Err(KeeperError::NoPlace { height, why: NoPlace::TooMany }),
                Some(Stop::Broken { height }) => return Err(KeeperError::Broken { height }),
            }
        }
        Ok(count)
    }
}

/// Steps that double, [`BACK`] in all.
#[derive(Debug, Default)]
struct StepsBack {
    gone: u32,
}

impl StepsBack {
    fn from(&mut self, height: u32) -> Option<u32> {
        let step = self.gone.max(1);
        self.gone += step;
        (height > 0 && self.gone <= BACK).then(|| height.saturating_sub(step))
    }
}

/// The actor that does rounds.
pub struct HeaderKeeper {
    deps: KeeperDeps,
    poll: Duration,
    /// Whether the last round failed, which is logged once.
    is_failing: bool,
}

impl HeaderKeeper {
    /// On an arbiter of its own. `poll`: from the end of one round to the next.
    pub fn start(deps: KeeperDeps, poll: Duration) -> Supervised<Self> {
        let arbiter = Arbiter::new().handle();
        Supervised::start("header keeper", &arbiter, move |_| Self { deps: deps.clone(), poll, is_failing: false })
    }

    fn round(&mut self, ctx: &mut Context<Self>) {
        let deps = self.deps.clone();
        let round = async move { deps.round().await };
        ctx.spawn(round.into_actor(self).map(|outcome, keeper, ctx| {
            keeper.note(&outcome);
            ctx.run_later(keeper.poll, Self::round);
        }));
    }

    fn note(&mut self, outcome: &Result<usize, KeeperError>) {
        let source = self.deps.source.name();
        let was_failing = std::mem::replace(&mut self.is_failing, outcome.is_err());
        match outcome {
            Ok(0) if !was_failing => {}
            Ok(count) => {
                let standing = self.deps.chain.standing();
                tracing::info!(source, count, height = standing.height, "the headers of the chain are up to date");
            }
            // Logged once: the next rounds would repeat it.
            Err(error) if !was_failing => {
                tracing::warn!(
                    source,
                    %error,
                    "the headers of the chain are not up to date; the node tries again, and refuses payments on chain once the last block is \
                     too old"
                );
            }
            Err(_) => {}
        }
    }
}

impl Actor for HeaderKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.round(ctx);
    }
}

#[cfg(test)]
mod tests;
