//! The calls of the ledger, each on the tables in memory.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Flaw, LeaseKey, ModelEpoch, ModelLedger};
use crate::{
    ids::{NodeId, ReceiptId},
    model::{Credit, LeaseSizing, LostLease, NodeEpoch, UsageRow},
    ports::{
        Closed, EpochStanding, Ledger, PortError, PortResult, Pulse, Reclaimed, Refill, RefillRequest, SetAside,
        SettleBatch, Settled,
    },
};

#[async_trait]
impl Ledger for ModelLedger {
    async fn refill(
        &self,
        node: NodeEpoch,
        requests: &[RefillRequest],
        sizing: LeaseSizing,
        now: Timestamp,
    ) -> PortResult<Vec<Refill>> {
        let work = || {
            let mut books = self.books();
            if !books.is_alive(node, self.clock.monotonic()) && !self.has(Flaw::GrantsToFenced) {
                return Err(PortError::Fenced);
            }
            let ids: HashSet<ReceiptId> = requests.iter().map(|request| request.want.receipt_id).collect();
            assert_eq!(ids.len(), requests.len(), "a receipt stands at most once in a round trip");
            Ok(requests.iter().map(|request| books.refill(node, request, sizing, now, self.flaw)).collect())
        };
        self.script.play("refill", requests.len(), work).await
    }

    async fn settle(&self, batch: &SettleBatch) -> PortResult<Settled> {
        let work = || {
            let mut books = self.books();
            let watermark = books.watermarks.get(&batch.node).copied().unwrap_or_default();
            if batch.sequence <= watermark && !self.has(Flaw::SettlesTwice) {
                return Ok(Settled::default());
            }
            let is_taken = |id| books.receipts.contains_key(id) && !books.poison.contains(id);
            if !batch.rows.iter().all(|row| is_taken(&row.receipt_id)) {
                return Err(PortError::rejected("the model ledger", "a row can never be taken"));
            }
            books.watermarks.insert(batch.node, batch.sequence);
            let mut settled = Settled::default();
            for row in &batch.rows {
                if books.rows.insert(row.usage_id, row.clone()).is_none() || self.has(Flaw::SettlesTwice) {
                    books.spend(batch.node.node, row);
                    settled.inserted += 1;
                }
            }
            for release in &batch.releases {
                books.give_back(batch.node.node, release);
            }
            Ok(settled)
        };
        self.script.play("settle", batch.rows.len(), work).await
    }

    async fn set_aside(&self, node: NodeId, row: &UsageRow, reason: &str) -> PortResult<()> {
        let work = || {
            let (mut books, set_aside_at) = (self.books(), self.clock.now());
            books.set_aside.push(SetAside { row: row.clone(), node, set_aside_at, reason: reason.to_owned() });
            Ok(())
        };
        self.script.play("set_aside", 1, work).await
    }

    async fn heartbeat(&self, node: NodeEpoch, ttl: Duration) -> PortResult<()> {
        let work = || {
            let mut books = self.books();
            let known = books.latest(node.node).map(|(epoch, _)| epoch);
            if books.fenced.contains(&node) || known.is_some_and(|known| known > node.epoch) {
                return Err(PortError::Fenced);
            }
            let now = self.clock.monotonic();
            for (earlier, state) in &mut books.nodes {
                state.spared |= earlier.node == node.node && earlier.epoch < node.epoch && state.until > now;
            }
            let begun = ModelEpoch { until: now, lease: ttl, heartbeats: 0, on_time: 0, spared: false };
            let state = books.nodes.entry(node).or_insert(begun);
            state.on_time = if state.until > now { state.on_time + 1 } else { 0 };
            state.until = now + ttl;
            state.lease = ttl;
            state.heartbeats += 1;
            Ok(())
        };
        self.script.play("heartbeat", 1, work).await
    }

    async fn standing(&self, node: NodeId) -> PortResult<Option<EpochStanding>> {
        let work = || {
            let (books, now) = (self.books(), self.clock.monotonic());
            Ok(books.latest(node).map(|(epoch, state)| {
                let alive = state.until > now && !books.fenced.contains(&NodeEpoch { node, epoch });
                EpochStanding { epoch, heartbeats: state.heartbeats, alive }
            }))
        };
        self.script.play("standing", 1, work).await
    }

    async fn leased(&self, node: NodeEpoch) -> PortResult<Credit> {
        let books = self.books();
        let held = books.leases.iter().filter(|(key, _)| key.0 == node);
        Ok(held.fold(Credit::ZERO, |sum, (_, &lease)| sum + lease))
    }

    async fn pulses(&self) -> PortResult<Vec<Pulse>> {
        let work = || {
            let (books, now) = (self.books(), self.clock.monotonic());
            let live = books.nodes.iter().filter(|(node, _)| !books.fenced.contains(node));
            let pulse = |(&node_epoch, of): (&NodeEpoch, &ModelEpoch)| {
                let is_latest = books.latest(node_epoch.node).is_none_or(|(latest, _)| latest == node_epoch.epoch);
                let alive = is_latest && of.until > now;
                Pulse { node_epoch, heartbeats: of.heartbeats, lease: Some(of.lease), alive }
            };
            Ok(live.map(pulse).collect())
        };
        self.script.play("pulses", 1, work).await
    }

    async fn note_unknown(&self, node: NodeEpoch, unknown: Credit) -> PortResult<()> {
        let work = || {
            let (mut books, now) = (self.books(), self.clock.now());
            books.compared.insert(node, (unknown, now));
            Ok(())
        };
        self.script.play("note_unknown", 1, work).await
    }

    async fn declare_dead(&self, node: NodeEpoch) -> PortResult<()> {
        let work = || {
            let (mut books, now) = (self.books(), self.clock.monotonic());
            if let Some(state) = books.nodes.get_mut(&node) {
                state.until = state.until.min(now);
                books.fenced.insert(node);
            }
            Ok(())
        };
        self.script.play("declare_dead", 1, work).await
    }

    async fn reclaim(
        &self,
        by: NodeEpoch,
        silent: &[Pulse],
        mode: LostLease,
        _: Timestamp,
        limit: u32,
    ) -> PortResult<Reclaimed> {
        let work = || {
            let (mut books, now) = (self.books(), self.clock.monotonic());
            let asks_nobody = self.has(Flaw::ReclaimsAtOnce) || self.has(Flaw::TrustsOneClock);
            if !books.may_reclaim(by, now) && !asks_nobody {
                return Ok(Reclaimed::default());
            }
            let others = |life: &NodeEpoch| *life != by;
            if self.has(Flaw::ReclaimsAtOnce) {
                let live: Vec<NodeEpoch> = books.nodes.keys().copied().filter(others).collect();
                books.fenced.extend(live);
            }
            if self.has(Flaw::TrustsOneClock) {
                let late = books.nodes.iter().filter(|(_, life)| life.until <= now);
                let late: Vec<NodeEpoch> = late.map(|(&life, _)| life).filter(others).collect();
                books.fenced.extend(late);
            }
            for pulse in silent {
                let heartbeats = books.nodes.get(&pulse.node_epoch).map(|state| state.heartbeats);
                if heartbeats == Some(pulse.heartbeats)
                    && pulse.node_epoch != by
                    && books.is_late(pulse.node_epoch, now)
                {
                    books.fenced.insert(pulse.node_epoch);
                }
            }
            let dead = |key: &LeaseKey| books.fenced.contains(&key.0);
            let mut keys: Vec<LeaseKey> = books.leases.keys().copied().filter(dead).collect();
            let more = keys.len() > limit as usize;
            keys.truncate(limit as usize);
            let mut reclaimed = Reclaimed { more, ..Reclaimed::default() };
            for key in keys {
                let held = books.leases.remove(&key).unwrap_or_default();
                let spared = mode == LostLease::Charge && books.nodes.get(&key.0).is_some_and(|state| state.spared);
                let mode = if spared { LostLease::Release } else { mode };
                let charged = if mode == LostLease::Charge { held } else { Credit::ZERO };
                books.change(key.1, key.2, |used, reserved| {
                    *reserved -= held;
                    *used += charged;
                });
                if mode == LostLease::Charge {
                    books.charged.insert(key, held);
                }
                reclaimed.leases += 1;
                reclaimed.credit += held;
                if spared {
                    reclaimed.spared_leases += 1;
                    reclaimed.spared += held;
                }
            }
            Ok(reclaimed)
        };
        self.script.play("reclaim", 1, work).await
    }

    async fn close(&self, node: NodeEpoch, limit: u32) -> PortResult<Closed> {
        let work = || {
            let mut books = self.books();
            books.fenced.insert(node);
            let now = self.clock.monotonic();
            if let Some(state) = books.nodes.get_mut(&node) {
                state.until = now;
            }
            let all = books.leases.keys().chain(books.charged.keys());
            let mut keys: Vec<LeaseKey> = all.copied().filter(|key| key.0 == node).collect();
            let more = keys.len() > limit as usize;
            keys.truncate(limit as usize);
            let mut closed = Closed { more, ..Closed::default() };
            for key in keys {
                let held = books.leases.remove(&key).unwrap_or_default();
                let charged = books.charged.remove(&key).unwrap_or_default();
                books.change(key.1, key.2, |used, reserved| {
                    *reserved -= held;
                    *used -= charged;
                });
                closed.leases += u64::from(!held.is_zero());
                closed.credit += held;
                closed.uncharged_leases += u64::from(!charged.is_zero());
                closed.uncharged += charged;
            }
            Ok(closed)
        };
        self.script.play("close", 1, work).await
    }
}
