//! A little of everything, in a few seconds: whether a node keeps its promises at all.

use std::{ops::Range, sync::Arc};

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    bench::{Bench, Findings},
    check::Check,
    client::Connection,
    content::Content,
    measure::{Phase, PhaseReport, Tally},
    stream::{Ended, Wanted, stream},
};

/// One byte; a size beside every power of two; one that has several leaves and an odd last one.
const SIZES: [usize; 3] = [1, 65_537, 3 * (1 << 20) + 1];

/// Clients at the same time, and streams of each: enough to be at once, few enough for a slow machine.
pub(crate) const CLIENTS: usize = 8;
const STREAMS_EACH: usize = 12;

/// Streams that the tier of this scenario pays for.
const QUOTA_STREAMS: u64 = 3;

/// The tier of this scenario.
const TIER: &str = "load-test-smoke";

/// Streams, ranges, an exact quota and a refund.
pub(crate) struct Smoke;

impl Smoke {
    pub(crate) async fn run(&self, bench: &Bench) -> anyhow::Result<Findings> {
        let contents = SIZES.map(|size| Arc::new(Content::new(size as u64, size)));
        let mut tally = Tally::new();
        let mut wanted = Vec::new();
        for content in &contents {
            wanted.extend(bench.prepare(content, "unlimited", 1).await?);
        }
        let [_, middle, large] = &contents;
        let phases = vec![
            self.stream_whole(bench, &wanted, &mut tally).await?,
            self.stream_ranges(bench, large, &mut tally).await?,
        ];
        let checks =
            vec![self.use_up_a_quota(bench, middle, &mut tally).await?, self.refund(bench, middle, &mut tally).await?];
        Ok(Findings { phases, checks, tally, ..Findings::new() })
    }

    /// Several clients, each with a connection that it uses again.
    async fn stream_whole(&self, bench: &Bench, wanted: &[Wanted], all: &mut Tally) -> anyhow::Result<PhaseReport> {
        let phase = Phase::begin("whole");
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (target, wanted) = (bench.api.target.clone(), wanted.to_vec());
            clients.spawn(async move {
                let mut tally = Tally::new();
                let mut connection = Connection::open(&target, None).await?;
                for wanted in wanted.iter().cycle().skip(client).take(STREAMS_EACH) {
                    tally.record(&wanted.receipt_id, &stream(&target, &mut connection, wanted).await);
                }
                anyhow::Ok(tally)
            });
        }
        let mut tally = Tally::new();
        while let Some(client) = clients.join_next().await {
            tally.merge(client??);
        }
        let report = phase.end(&tally);
        all.merge(tally);
        Ok(report)
    }

    /// The first byte, the last one, a part over the edge of a leaf, and everything.
    async fn stream_ranges(
        &self,
        bench: &Bench,
        content: &Arc<Content>,
        all: &mut Tally,
    ) -> anyhow::Result<PhaseReport> {
        let wanted = bench.prepare(content, "unlimited", 1).await?.remove(0);
        let (end, leaf) = (content.len(), 1 << 20);
        let ranges: [Range<u64>; 4] = [0..1, end - 1..end, leaf - 7..leaf + 9, 0..end];
        let phase = Phase::begin("ranges");
        let mut tally = Tally::new();
        let mut connection = Connection::open(&bench.api.target, None).await?;
        for range in ranges {
            let wanted = Wanted { range: Some(range), ..wanted.clone() };
            tally.record(&wanted.receipt_id, &stream(&bench.api.target, &mut connection, &wanted).await);
        }
        let report = phase.end(&tally);
        all.merge(tally);
        Ok(report)
    }

    /// A tier that pays for a few streams and one byte less than one more.
    async fn use_up_a_quota(&self, bench: &Bench, content: &Arc<Content>, all: &mut Tally) -> anyhow::Result<Check> {
        let limit = content.len() * (QUOTA_STREAMS + 1) - 1;
        bench.api.put_quota_policy(TIER, &json!({"bytesPerMonth": limit})).await?;
        let wanted = bench.prepare(content, TIER, 1).await?.remove(0);
        let mut right = 0;
        let refused = loop {
            let ended = one(bench, &wanted, all).await?;
            match ended.fault {
                None if right < QUOTA_STREAMS => right += 1,
                None => break "nothing was refused".to_owned(),
                Some(fault) => break fault.to_string(),
            }
        };
        Ok(Check::new(
            format!(
                "a quota of {limit} bytes pays for {QUOTA_STREAMS} streams of {} and refuses the next",
                content.len()
            ),
            right == QUOTA_STREAMS && refused.starts_with("refused: 429 "),
            format!("{right} streams, then {refused}"),
        ))
    }

    /// A refunded receipt gives nothing more.
    async fn refund(&self, bench: &Bench, content: &Arc<Content>, all: &mut Tally) -> anyhow::Result<Check> {
        let wanted = bench.prepare(content, "unlimited", 1).await?.remove(0);
        let before = one(bench, &wanted, all).await?.fault;
        bench.api.set_status(&wanted.receipt_id, "refunded").await?;
        let after = one(bench, &wanted, all).await?.fault;
        let text =
            |fault: Option<crate::fault::Fault>| fault.map_or_else(|| "streamed".into(), |fault| fault.to_string());
        let (before, after) = (text(before), text(after));
        Ok(Check::new(
            "a refunded receipt gives nothing more",
            before == "streamed" && after.starts_with("refused: 403 "),
            format!("{before} before, {after} after"),
        ))
    }
}

/// One stream on a connection of its own, counted.
async fn one(bench: &Bench, wanted: &Wanted, tally: &mut Tally) -> anyhow::Result<Ended> {
    let mut connection = Connection::open(&bench.api.target, None).await?;
    let ended = stream(&bench.api.target, &mut connection, wanted).await;
    tally.record(&wanted.receipt_id, &ended);
    Ok(ended)
}
