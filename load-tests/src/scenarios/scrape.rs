//! What a look at the metrics costs while very many streams run.
//!
//! Phase `alone`: a node without streams is asked for `/metrics` again and again. Phase `held`: the same, while every client holds a
//! stream in the middle of its body. The clients then leave, so that the run needs no time for bytes that nobody measures.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::BodyExt;

use crate::{
    bench::{Bench, Findings},
    check::Check,
    client::Connection,
    content::Content,
    fault::{Fault, refusal},
    hold::{Held, hold, midway},
    latency::Percentiles,
    measure::{Phase, Tally},
    metrics,
    stream::Ended,
};

/// The node of the run may serve all of the streams, and wait for their clients as long as the run takes.
pub(crate) const SETTINGS: [(&str, &str); 3] = [
    ("PENSTOCK_STREAMS__MAX_STREAMS", "24000"),
    ("PENSTOCK_SERVER__MAX_CONNECTIONS", "24000"),
    ("PENSTOCK_SERVER__STALL_TIMEOUT", "10m"),
];

/// The promise.
const ANSWERED_WITHIN: Duration = Duration::from_millis(10);

/// The sizes of a run.
#[derive(Debug, Clone)]
pub(crate) struct Scrape {
    pub(crate) streams: usize,
    /// Far above what the buffers on the way take in.
    pub(crate) size: usize,
    /// One receipt cannot take all streams of a node.
    pub(crate) receipts: usize,
    pub(crate) scrapes: usize,
}

impl Scrape {
    pub(crate) fn new() -> Self {
        Self { streams: 10_000, size: 8 << 20, receipts: 50, scrapes: 500 }
    }

    pub(crate) async fn run(&self, bench: &Bench) -> anyhow::Result<Findings> {
        let content = Arc::new(Content::new(self.size as u64, self.size));
        let wanted = bench.prepare(&content, "unlimited", self.receipts).await?;
        let mut findings = Findings::new();
        self.scrape("alone", bench, &mut findings).await?;

        let mut left = Tally::new();
        let held = hold(&bench.api.target, &wanted, self.streams, &mut left).await?;
        findings.held_bytes = bench.resident().map(|resident| resident.now);
        self.check_held(&held, bench, &mut findings).await;
        let times = self.scrape("held", bench, &mut findings).await?;
        self.check_held(&held, bench, &mut findings).await;
        findings.checks.push(Check::new(
            format!("99 of 100 looks at the metrics take less than {} ms", ANSWERED_WITHIN.as_millis()),
            times.p99 < ANSWERED_WITHIN.as_secs_f64() * 1e3,
            format!("{:.2} ms, and half of them {:.2} ms", times.p99, times.p50),
        ));
        held.into_iter().for_each(|held| held.leave(&mut left));
        findings.tally.merge(left);
        Ok(findings)
    }

    /// Asks one time after the other, over one connection.
    async fn scrape(&self, name: &str, bench: &Bench, findings: &mut Findings) -> anyhow::Result<Percentiles> {
        let mut connection = Connection::open(&bench.api.target, None).await?;
        let (phase, mut tally) = (Phase::begin(name), Tally::new());
        for _ in 0..self.scrapes {
            let began = Instant::now();
            let ended = match look(bench, &mut connection).await {
                Ok((first_byte, received)) => {
                    Ended { received, first_byte: Some(first_byte), total: began.elapsed(), fault: None }
                }
                Err(fault) => Ended::refused(began, fault),
            };
            tally.count(&ended);
        }
        let report = phase.end(&tally);
        let times = report.total_ms;
        findings.phases.push(report);
        Ok(times)
    }

    async fn check_held(&self, held: &[Held], bench: &Bench, findings: &mut Findings) {
        let midway = midway(held);
        let counted = bench.api.metrics().await.and_then(|text| metrics::sum(&text, metrics::ACTIVE_STREAMS));
        findings.checks.push(Check::new(
            format!("{} streams are in the middle of their bodies", self.streams),
            midway == self.streams && counted.is_none_or(|count| count == self.streams as f64),
            counted.map_or_else(|| midway.to_string(), |count| format!("{midway}; the node counts {count}")),
        ));
    }
}

/// One look: the time to its head, and how long the text is.
async fn look(bench: &Bench, connection: &mut Connection) -> Result<(Duration, u64), Fault> {
    let request = bench.api.request("GET", "/metrics", "text/plain", Bytes::new())?;
    let began = Instant::now();
    let response = connection.send(request).await?;
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let first_byte = began.elapsed();
    let text = response.into_body().collect().await.map_err(|error| Fault::lost(&error))?.to_bytes();
    Ok((first_byte, text.len() as u64))
}
