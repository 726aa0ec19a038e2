//! Ten instances that share everything, and clients that ask whichever of them at random.
//!
//! Phase `leased`: receipts with quotas in every window, whose credit is leased. Phase `slotted`: the same with a limit of concurrent
//! streams, which the instances count together. Both count the round trips that the instances make to the database and to Redis.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    bench::{Bench, Findings},
    check::Check,
    client::{Connection, Target},
    content::{Content, split_mix},
    measure::{Phase, Tally},
    metrics,
    stream::{Ended, Wanted, stream},
};

/// What the promises are made for.
pub(crate) const INSTANCES: usize = 10;

pub(crate) const CLIENTS: usize = 64;

/// After a fault a client takes a breath, so that a node that refuses everything is not asked a million times.
const AFTER_FAULT: Duration = Duration::from_millis(100);

/// Round trips to the database for a stream, on the average.
const DATABASE_TRIPS: f64 = 0.05;

/// Round trips to Redis for a stream, where the instances count its concurrency together.
const REDIS_TRIPS: f64 = 1.0;

/// The sizes of a run.
#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    pub(crate) sizes: Vec<usize>,
    /// Several for each content: a receipt is asked for on every instance.
    pub(crate) receipts_per_content: usize,
    pub(crate) seconds: Duration,
}

/// Round trips of all instances so far.
#[derive(Debug, Clone, Copy)]
struct Trips {
    database: f64,
    redis: f64,
}

impl Fleet {
    pub(crate) fn new(seconds: Duration) -> Self {
        Self { sizes: vec![4 << 10, 64 << 10], receipts_per_content: 10, seconds }
    }

    pub(crate) async fn run(&self, bench: &Bench) -> anyhow::Result<Findings> {
        let mut findings = Findings::new();
        // Far above what a run streams: it is the leasing that is measured, not the refusals.
        let quota = json!({
            "bytesPerHour": 1_u64 << 40, "bytesPerDay": 1_u64 << 40, "bytesPerMonth": 1_u64 << 40,
            "requestsPerHour": 1_000_000_000, "requestsPerDay": 1_000_000_000, "requestsPerMonth": 1_000_000_000,
        });
        let mut slotted = quota.clone();
        slotted["maxConcurrentStreams"] = json!(CLIENTS);
        for (phase, limits, redis) in [("leased", &quota, 0.0), ("slotted", &slotted, REDIS_TRIPS)] {
            self.phase(phase, limits, redis, bench, &mut findings).await?;
        }
        Ok(findings)
    }

    async fn phase(
        &self,
        name: &'static str,
        limits: &Value,
        redis: f64,
        bench: &Bench,
        findings: &mut Findings,
    ) -> anyhow::Result<()> {
        let tier = format!("load-test-{name}");
        bench.api.put_quota_policy(&tier, limits).await?;
        let mut wanted = Vec::new();
        for &size in &self.sizes {
            let content = Arc::new(Content::new(size as u64, size));
            wanted.extend(bench.prepare(&content, &tier, self.receipts_per_content).await?);
        }
        let (wanted, peers): (Arc<[Wanted]>, Arc<[Target]>) = (wanted.into(), bench.targets().into());

        let before = trips(bench).await?;
        let phase = Phase::begin(name);
        let until = Instant::now() + self.seconds;
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            clients.spawn(wander_until(until, Arc::clone(&peers), Arc::clone(&wanted), client as u64));
        }
        let mut tally = Tally::new();
        while let Some(client) = clients.join_next().await {
            tally.merge(client.context("a client was stopped")?);
        }
        findings.phases.push(phase.end(&tally));
        let after = trips(bench).await?;
        let streams = tally.streams.max(1) as f64;
        let (database, to_redis) =
            ((after.database - before.database) / streams, (after.redis - before.redis) / streams);
        findings.checks.push(Check::new(
            format!("{name}: at most {DATABASE_TRIPS} round trips to the database for a stream"),
            database <= DATABASE_TRIPS,
            format!("{database:.4}"),
        ));
        findings.checks.push(Check::new(
            format!("{name}: at most {redis} round trips to Redis for a stream, but for timers"),
            // Probes, polls and refreshes go on a few times a second, whether anybody streams or not.
            to_redis <= redis.max(DATABASE_TRIPS),
            format!("{to_redis:.4}"),
        ));
        findings.tally.merge(tally);
        Ok(())
    }
}

/// What all instances say of their round trips. Where there is no Redis there are none to it.
async fn trips(bench: &Bench) -> anyhow::Result<Trips> {
    let mut sum = Trips { database: 0.0, redis: 0.0 };
    for api in &bench.instances {
        let text = api.metrics().await.context("an instance shows no metrics")?;
        sum.database += metrics::sum(&text, "penstock_db_queries_total").unwrap_or_default();
        sum.redis += metrics::sum(&text, "penstock_redis_round_trips_total").unwrap_or_default();
    }
    Ok(sum)
}

/// One client: each stream from an instance at random, over a connection that it keeps to each.
async fn wander_until(until: Instant, peers: Arc<[Target]>, wanted: Arc<[Wanted]>, client: u64) -> Tally {
    let mut tally = Tally::new();
    let mut connections: HashMap<usize, Connection> = HashMap::new();
    let mut chance = client;
    while Instant::now() < until {
        let peer = split_mix(&mut chance) as usize % peers.len();
        let wanted = &wanted[split_mix(&mut chance) as usize % wanted.len()];
        let open = match connections.remove(&peer) {
            Some(open) => Ok(open),
            None => Connection::open(&peers[peer], None).await,
        };
        let ended = match open {
            Ok(mut connection) => {
                let ended = stream(&peers[peer], &mut connection, wanted).await;
                if ended.fault.is_none() {
                    connections.insert(peer, connection);
                }
                ended
            }
            Err(fault) => Ended { received: 0, first_byte: None, total: Duration::ZERO, fault: Some(fault) },
        };
        tally.record(&wanted.receipt_id, &ended);
        if ended.fault.is_some() {
            tokio::time::sleep(AFTER_FAULT).await;
        }
    }
    tally
}
