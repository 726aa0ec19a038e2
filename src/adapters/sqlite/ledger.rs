//! The port `Ledger`: leases and settlement, one file per call.
//!
//! The writer thread runs one job at a time, so the steps of a job need no locks of their own: the rows that it reads
//! do not change before it writes.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::NodeId,
    model::{Credit, LeaseSizing, LostLease, NodeEpoch, UsageRow},
    ports::{Closed, EpochStanding, Ledger, PortResult, Pulse, Reclaimed, Refill, RefillRequest, SettleBatch, Settled},
};
use rusqlite::Connection;

use super::{SqliteStore, leases, set_aside};

pub(super) mod close;
pub(super) mod nodes;
pub(super) mod reclaim;
pub(super) mod refill;
pub(super) mod settle;

#[cfg(test)]
mod tests;

#[async_trait]
impl Ledger for SqliteStore {
    async fn refill(
        &self,
        node: NodeEpoch,
        requests: &[RefillRequest],
        sizing: LeaseSizing,
        now: Timestamp,
    ) -> PortResult<Vec<Refill>> {
        let only_loads = requests.iter().all(|request| request.want.want.is_zero());
        let requests = requests.to_vec();
        let refill = move |conn: &Connection| refill::refill(conn, node, &requests, sizing, now);
        // A call that takes no lease need not wait for calls that do.
        if only_loads { self.workers.read("load", refill).await } else { self.workers.write("refill", refill).await }
    }

    async fn settle(&self, batch: &SettleBatch) -> PortResult<Settled> {
        let batch = batch.clone();
        self.workers.write("settle", move |conn| settle::settle(conn, &batch)).await
    }

    async fn set_aside(&self, node: NodeId, row: &UsageRow, reason: &str) -> PortResult<()> {
        let (row, reason) = (row.clone(), reason.to_owned());
        self.workers.write("set_aside", move |conn| Ok(set_aside::set_aside(conn, node, &row, &reason)?)).await
    }

    async fn heartbeat(&self, node: NodeEpoch, ttl: Duration) -> PortResult<()> {
        self.workers.write("heartbeat", move |conn| nodes::heartbeat(conn, node, ttl)).await
    }

    async fn standing(&self, node: NodeId) -> PortResult<Option<EpochStanding>> {
        self.workers.read("standing", move |conn| Ok(nodes::standing(conn, node)?)).await
    }

    async fn declare_dead(&self, node: NodeEpoch) -> PortResult<()> {
        self.workers.write("declare_dead", move |conn| Ok(nodes::declare_dead(conn, node)?)).await
    }

    async fn pulses(&self) -> PortResult<Vec<Pulse>> {
        self.workers.read("pulses", |conn| Ok(nodes::pulses(conn)?)).await
    }

    async fn leased(&self, node: NodeEpoch) -> PortResult<Credit> {
        self.workers.read("leased", move |conn| Ok(leases::held(conn, node)?)).await
    }

    async fn note_unknown(&self, node: NodeEpoch, unknown: Credit) -> PortResult<()> {
        self.workers.write("note_unknown", move |conn| Ok(nodes::note_unknown(conn, node, unknown)?)).await
    }

    async fn reclaim(
        &self,
        by: NodeEpoch,
        silent: &[Pulse],
        mode: LostLease,
        now: Timestamp,
        limit: u32,
    ) -> PortResult<Reclaimed> {
        let (silent, step) = (silent.to_vec(), reclaim::ReclaimStep { now, limit });
        let reclaim = move |conn: &Connection| {
            if nodes::fence_silent(conn, by, &silent)? {
                reclaim::reclaim(conn, mode, step)
            } else {
                Ok(Reclaimed::default())
            }
        };
        self.workers.write("reclaim", reclaim).await
    }

    async fn close(&self, node: NodeEpoch, limit: u32) -> PortResult<Closed> {
        self.workers.write("close", move |conn| close::close(conn, node, limit)).await
    }
}
