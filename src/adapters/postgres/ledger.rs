//! The port `Ledger`: leases and settlement, one file per call.
//!
//! The functions of the migrations `ledger_functions`, which explains their locks, and `refills_once` do the work. These
//! files pass their arguments as one array per column, so that one statement takes any number of rows.

mod close;
mod nodes;
mod reclaim;
mod refill;
mod settle;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::NodeId,
    model::{Credit, LeaseSizing, LostLease, NodeEpoch, UsageRow},
    ports::{Closed, EpochStanding, Ledger, PortResult, Pulse, Reclaimed, Refill, RefillRequest, SettleBatch, Settled},
};

use super::{PostgresStore, leases, set_aside};

/// A lease for more than this is a mistake or the absence of a limit (2^50 bytes are a PiB). The sum of as many such
/// leases as a receipt may have at once still fits 63 bits.
const MOST_WANTED: u64 = 1 << 50;

#[async_trait]
impl Ledger for PostgresStore {
    async fn refill(
        &self,
        node: NodeEpoch,
        requests: &[RefillRequest],
        sizing: LeaseSizing,
        now: Timestamp,
    ) -> PortResult<Vec<Refill>> {
        refill::refill(self, node, requests, sizing, now).await
    }

    async fn settle(&self, batch: &SettleBatch) -> PortResult<Settled> {
        settle::settle(self, batch).await
    }

    async fn set_aside(&self, node: NodeId, row: &UsageRow, reason: &str) -> PortResult<()> {
        set_aside::set_aside(self, node, row, reason).await
    }

    async fn heartbeat(&self, node: NodeEpoch, ttl: Duration) -> PortResult<()> {
        nodes::heartbeat(self, node, ttl).await
    }

    async fn standing(&self, node: NodeId) -> PortResult<Option<EpochStanding>> {
        nodes::standing(self, node).await
    }

    async fn declare_dead(&self, node: NodeEpoch) -> PortResult<()> {
        nodes::declare_dead(self, node).await
    }

    async fn pulses(&self) -> PortResult<Vec<Pulse>> {
        nodes::pulses(self).await
    }

    async fn leased(&self, node: NodeEpoch) -> PortResult<Credit> {
        leases::held(self, node).await
    }

    async fn note_unknown(&self, node: NodeEpoch, unknown: Credit) -> PortResult<()> {
        nodes::note_unknown(self, node, unknown).await
    }

    async fn reclaim(
        &self,
        by: NodeEpoch,
        silent: &[Pulse],
        mode: LostLease,
        now: Timestamp,
        limit: u32,
    ) -> PortResult<Reclaimed> {
        reclaim::reclaim(self, by, silent, mode, now, limit).await
    }

    async fn close(&self, node: NodeEpoch, limit: u32) -> PortResult<Closed> {
        close::close(self, node, limit).await
    }
}
