//! A thousand streams at one moment, then as many as fit.
//!
//! Phase `hold`: every client opens a connection, asks, reads the first bytes, and then reads nothing until all of them have
//! got so far. At that moment a thousand streams are in the middle of their bodies; then all read on to their ends. Phase
//! `rush`: a thousand clients, each with a connection that it keeps, stream one content after the other until time is up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::task::JoinSet;

use crate::{
    bench::{Bench, Findings},
    check::Check,
    client::{Connection, Target},
    content::Content,
    fault::Fault,
    hold::{hold, midway},
    measure::{Phase, PhaseReport, Tally},
    metrics,
    stream::{Ended, Wanted, stream},
};

/// After a fault a client takes a breath, so that a node that refuses everything is not asked a million times.
const AFTER_FAULT: Duration = Duration::from_millis(100);

/// The sizes of a run.
#[derive(Debug, Clone)]
pub(crate) struct Thousand {
    pub(crate) streams: usize,
    /// Far above what the buffers on the way take in, so that a held stream is in the middle for the node too.
    pub(crate) held_sizes: Vec<usize>,
    /// A page, a picture, a segment of a film: the small ones are answered from memory, and cost requests, not bytes.
    pub(crate) small_sizes: Vec<usize>,
    /// Few receipts for many streams, as one receipt serves the many requests of a player.
    pub(crate) receipts_per_content: usize,
    pub(crate) rush: Duration,
}

impl Thousand {
    pub(crate) fn new(rush: Duration) -> Self {
        Self {
            streams: 1000,
            held_sizes: vec![8 << 20, (8 << 20) + 4097],
            small_sizes: vec![64 << 10, 256 << 10, 1 << 20],
            receipts_per_content: 2,
            rush,
        }
    }

    pub(crate) async fn run(&self, bench: &Bench) -> anyhow::Result<Findings> {
        let held = self.prepare(bench, &self.held_sizes).await?;
        let mut all = self.prepare(bench, &self.small_sizes).await?;
        all.extend_from_slice(&held);

        let mut findings = Findings::new();
        self.hold(bench, &held, &mut findings).await?;
        let rushed = self.rush(bench, all.into(), &mut findings.tally).await?;
        findings.phases.push(rushed);
        Ok(findings)
    }

    async fn prepare(&self, bench: &Bench, sizes: &[usize]) -> anyhow::Result<Vec<Wanted>> {
        let mut wanted = Vec::new();
        for &size in sizes {
            let content = Arc::new(Content::new(size as u64, size));
            wanted.extend(bench.prepare(&content, "unlimited", self.receipts_per_content).await?);
        }
        Ok(wanted)
    }

    /// Opens all, holds all, and reads all to their ends.
    async fn hold(&self, bench: &Bench, wanted: &[Wanted], findings: &mut Findings) -> anyhow::Result<()> {
        let phase = Phase::begin("hold");
        let mut tally = Tally::new();
        let held = hold(&bench.api.target, wanted, self.streams, &mut tally).await?;
        let midway = midway(&held);
        findings.held_bytes = bench.resident().map(|resident| resident.now);
        let counted = bench.api.metrics().await.and_then(|text| metrics::sum(&text, metrics::ACTIVE_STREAMS));
        findings.checks.push(self.held_at_once(midway, counted));

        let mut finishing = JoinSet::new();
        for held in held {
            finishing.spawn(held.finish());
        }
        while let Some(finished) = finishing.join_next().await {
            let (receipt_id, ended) = finished.context("a client was stopped")?;
            tally.record(&receipt_id, &ended);
        }
        findings.phases.push(phase.end(&tally));
        findings.tally.merge(tally);
        Ok(())
    }

    fn held_at_once(&self, midway: usize, counted_by_node: Option<f64>) -> Check {
        let by_node = counted_by_node.map_or_else(String::new, |count| format!("; the node counts {count}"));
        Check::new(
            format!("{} streams are in the middle of their bodies at one moment", self.streams),
            midway == self.streams,
            format!("{midway}{by_node}"),
        )
    }

    /// As fast as possible until time is up; what has begun by then is read to its end.
    async fn rush(&self, bench: &Bench, wanted: Arc<[Wanted]>, all: &mut Tally) -> anyhow::Result<PhaseReport> {
        let phase = Phase::begin("rush");
        let until = Instant::now() + self.rush;
        let mut clients = JoinSet::new();
        for client in 0..self.streams {
            clients.spawn(stream_until(until, bench.api.target.clone(), wanted.clone(), client));
        }
        let mut tally = Tally::new();
        while let Some(client) = clients.join_next().await {
            tally.merge(client.context("a client was stopped")?);
        }
        let report = phase.end(&tally);
        all.merge(tally);
        Ok(report)
    }
}

/// One client of the rush. Each begins at another content, so that at any moment all of them are asked for.
async fn stream_until(until: Instant, target: Target, wanted: Arc<[Wanted]>, client: usize) -> Tally {
    let mut tally = Tally::new();
    let mut connection = None;
    let mut turn = client;
    while Instant::now() < until {
        let wanted = &wanted[turn % wanted.len()];
        turn += 1;
        let ended = match connect(&mut connection, &target).await {
            Ok(connection) => stream(&target, connection, wanted).await,
            Err(fault) => Ended { received: 0, first_byte: None, total: Duration::ZERO, fault: Some(fault) },
        };
        tally.record(&wanted.receipt_id, &ended);
        if ended.fault.is_some() {
            connection = None;
            tokio::time::sleep(AFTER_FAULT).await;
        }
    }
    tally
}

/// The connection that is there, or a new one.
async fn connect<'a>(connection: &'a mut Option<Connection>, target: &Target) -> Result<&'a mut Connection, Fault> {
    let open = match connection.take() {
        Some(open) => open,
        None => Connection::open(target, None).await?,
    };
    Ok(connection.insert(open))
}
