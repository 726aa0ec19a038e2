//! Ten times more than the node can do: what it still does, how fast it refuses the rest, and how soon it is as before.
//!
//! The load is open: streams are asked for at a rate, each over a new connection, whatever becomes of those before. A ramp of rates
//! finds the peak: the most bytes per second that reach clients. The phase `surge` asks for ten times as many streams as the peak has.
//! The phase `after` follows at once and asks for half as many; from its beginning the time to recover counts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;

use crate::{
    bench::{Bench, Findings},
    client::{Connection, Target},
    content::Content,
    fault::Fault,
    measure::{Latencies, Phase, PhaseReport, Tally},
    report::{Check, OverloadReport},
    stream::{Ended, Stream, Wanted},
};

/// Streams that the node of the run serves at a time, unless the environment says otherwise. Clients on the node's own machine take all
/// that they are sent, so more streams do not bring more bytes; they only take longer.
pub(crate) const MAX_STREAMS: (&str, &str) = ("PENSTOCK_STREAMS__MAX_STREAMS", "256");

/// Requests of the run that may be open at a time. A node that neither serves nor refuses would otherwise take all memory here.
pub(crate) const OPEN_AT_MOST: usize = 4000;

/// From one rate of the ramp to the next.
const STEEPNESS: f64 = 1.5;

/// What is offered and does not arrive says that the node cannot do more.
const SATURATED: f64 = 0.9;

/// The surge, as a multiple of the peak; and what follows it.
const SURGE: f64 = 10.0;
const AFTERWARDS: f64 = 0.5;

/// The promises.
const KEPT: f64 = 0.9;
const REFUSED_WITHIN: Duration = Duration::from_millis(50);
const RECOVERED_WITHIN: Duration = Duration::from_secs(5);

/// A node that has recovered sends first bytes sooner than this.
const SLOW: Duration = Duration::from_millis(250);

/// How long the streams of a phase may take after it: a node that is well needs a few seconds.
const LAST_STREAMS: Duration = Duration::from_secs(90);

/// The sizes of a run.
#[derive(Debug, Clone)]
pub(crate) struct Overload {
    /// Large, so that a stream is much work and its refusal is little.
    pub(crate) size: usize,
    /// Streams per second at the beginning of the ramp.
    pub(crate) first_rate: f64,
    /// The most streams per second that this run asks for; the surge is cut to it.
    pub(crate) last_rate: f64,
    pub(crate) step: Duration,
    pub(crate) surge: Duration,
}

impl Overload {
    pub(crate) fn new(seconds: Duration) -> Self {
        Self { size: 16 << 20, first_rate: 8.0, last_rate: 5000.0, step: Duration::from_secs(3), surge: seconds }
    }

    pub(crate) async fn run(&self, bench: &Bench) -> anyhow::Result<Findings> {
        let content = Arc::new(Content::new(self.size as u64, self.size));
        let wanted: Arc<[Wanted]> = bench.prepare(&content, "unlimited", 4).await?.into();
        let crowd = Crowd { target: bench.api.target.clone(), wanted, arrived: Arc::default() };
        let mut tally = Tally::new();

        let peak = self.ramp(&crowd, &mut tally).await?;
        let surge_rate = (peak.streams_per_second(self.size) * SURGE).min(self.last_rate);
        let during = Phase::begin("surge");
        let surge = crowd.offer(surge_rate, self.surge).await?;
        let surge_bytes = surge.bytes_per_second;
        // Streams of the surge go on while the next ones are asked for.
        let held_bytes = bench.resident().map(|resident| resident.now);
        let next = Phase::begin("after");
        let after = crowd.offer(surge_rate / SURGE * AFTERWARDS, self.surge).await?;
        let (surge, after) = (surge.end().await?, after.end().await?);

        let phases = vec![peak.report, during.end(&surge.tally), next.end(&after.tally)];
        let report = OverloadReport {
            stream_bytes: self.size as u64,
            peak_mib_per_second: mib(peak.bytes_per_second),
            peak_streams_per_second: peak.bytes_per_second / self.size as f64,
            offered_per_second: surge_rate,
            surge_mib_per_second: mib(surge_bytes),
            kept: surge_bytes / peak.bytes_per_second,
            refused: surge.refusals.count(),
            refusals: surge.refusals.kinds.clone(),
            refusal_ms: surge.refusals.times.percentiles(),
            recovered_after_seconds: after.recovered_after.as_secs_f64(),
        };
        let checks = promises(&report, surge.refusals.shapeless + after.refusals.shapeless);
        tally.merge(surge.tally);
        tally.merge(after.tally);
        Ok(Findings { phases, checks, tally, held_bytes, overload: Some(report) })
    }

    /// Asks for more and more until the node cannot do more.
    async fn ramp(&self, crowd: &Crowd, all: &mut Tally) -> anyhow::Result<Peak> {
        let mut rate = self.first_rate;
        let mut best: Option<Peak> = None;
        while rate <= self.last_rate {
            let phase = Phase::begin("peak");
            let step = crowd.offer(rate, self.step).await?;
            let bytes_per_second = step.bytes_per_second;
            let ended = step.end().await?;
            if best.as_ref().is_none_or(|best| bytes_per_second > best.bytes_per_second) {
                best = Some(Peak { bytes_per_second, report: phase.end(&ended.tally) });
            }
            all.merge(ended.tally);
            if bytes_per_second < rate * self.size as f64 * SATURATED {
                break;
            }
            rate *= STEEPNESS;
        }
        best.filter(|best| best.bytes_per_second > 0.0).context("no stream arrived")
    }
}

/// The promises that a run puts to the test.
fn promises(report: &OverloadReport, shapeless: u64) -> Vec<Check> {
    let OverloadReport { kept, refused, refusal_ms, recovered_after_seconds, .. } = report;
    vec![
        Check::new(
            "what is not served is refused with 429 or 503, a problem document and Retry-After",
            shapeless == 0,
            format!("{refused} refused, {shapeless} of them in another way"),
        ),
        Check::new(
            format!("at {SURGE} times the peak, {}% of its bytes still arrive", KEPT * 100.0),
            *kept >= KEPT,
            format!("{:.1}%", kept * 100.0),
        ),
        Check::new(
            format!("99 of 100 refusals take less than {} ms", REFUSED_WITHIN.as_millis()),
            refusal_ms.p99 < REFUSED_WITHIN.as_secs_f64() * 1000.0,
            format!("{:.1} ms, the median {:.1} ms", refusal_ms.p99, refusal_ms.p50),
        ),
        Check::new(
            format!("{} s after the surge all is as before", RECOVERED_WITHIN.as_secs()),
            *recovered_after_seconds <= RECOVERED_WITHIN.as_secs_f64(),
            format!("{recovered_after_seconds:.2} s"),
        ),
    ]
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// The best step of the ramp.
struct Peak {
    bytes_per_second: f64,
    report: PhaseReport,
}

impl Peak {
    fn streams_per_second(&self, size: usize) -> f64 {
        self.bytes_per_second / size as f64
    }
}

/// Clients that come at a rate.
struct Crowd {
    target: Target,
    wanted: Arc<[Wanted]>,
    /// Bytes that reached clients.
    arrived: Arc<AtomicU64>,
}

impl Crowd {
    /// Sends clients at this rate for so long; those that are not finished by then go on.
    async fn offer(&self, rate: f64, time: Duration) -> anyhow::Result<Offered> {
        let (began, before) = (Instant::now(), self.arrived.load(Relaxed));
        let clients = (rate * time.as_secs_f64()).ceil() as u64;
        let mut visits = JoinSet::new();
        let mut done = Vec::new();
        for client in 0..clients {
            tokio::time::sleep_until((began + Duration::from_secs_f64(client as f64 / rate)).into()).await;
            while let Some(visit) = visits.try_join_next() {
                done.push(visit.context("a client was stopped")?);
            }
            ensure!(
                visits.len() < OPEN_AT_MOST,
                "{OPEN_AT_MOST} requests are open: the node neither serves nor refuses"
            );
            let wanted = self.wanted[client as usize % self.wanted.len()].clone();
            visits.spawn(visit(self.target.clone(), wanted, Arc::clone(&self.arrived), began));
        }
        tokio::time::sleep_until((began + time).into()).await;
        let arrived = self.arrived.load(Relaxed) - before;
        let bytes_per_second = arrived as f64 / began.elapsed().as_secs_f64();
        Ok(Offered { bytes_per_second, visits, done })
    }
}

/// The clients of a phase.
struct Offered {
    /// Bytes that reached clients while the phase lasted.
    bytes_per_second: f64,
    visits: JoinSet<Visit>,
    done: Vec<Visit>,
}

impl Offered {
    /// Waits for the last client.
    async fn end(mut self) -> anyhow::Result<Attended> {
        let rest = async {
            while let Some(visit) = self.visits.join_next().await {
                self.done.push(visit.context("a client was stopped")?);
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(LAST_STREAMS, rest).await.context("streams of a phase do not end")??;
        let mut attended = Attended { tally: Tally::new(), refusals: Refusals::new(), recovered_after: Duration::ZERO };
        for visit in &self.done {
            attended.add(visit);
        }
        Ok(attended)
    }
}

/// What the clients of a phase met with.
struct Attended {
    tally: Tally,
    refusals: Refusals,
    /// The last client that was refused, or waited for its first byte, came so long after the beginning.
    recovered_after: Duration,
}

impl Attended {
    fn add(&mut self, visit: &Visit) {
        let Visit { receipt_id, came, ended } = visit;
        let is_slow = ended.first_byte.is_none_or(|first_byte| first_byte > SLOW);
        if is_slow {
            self.recovered_after = self.recovered_after.max(*came);
        }
        match &ended.fault {
            Some(Fault::Refused { .. }) => self.refusals.add(ended),
            _ => self.tally.record(receipt_id, ended),
        }
    }
}

/// Requests that were refused.
struct Refusals {
    times: Latencies,
    kinds: BTreeMap<String, u64>,
    /// Those that do not say what they should.
    shapeless: u64,
}

impl Refusals {
    fn new() -> Self {
        Self { times: Latencies::new(), kinds: BTreeMap::new(), shapeless: 0 }
    }

    fn add(&mut self, ended: &Ended) {
        let Some(fault @ Fault::Refused { status, says_when, problem }) = &ended.fault else { return };
        self.times.record(ended.total);
        *self.kinds.entry(fault.to_string()).or_default() += 1;
        let in_shape = matches!(status, 429 | 503) && *says_when && problem.starts_with("urn:");
        self.shapeless += u64::from(!in_shape);
    }

    fn count(&self) -> u64 {
        self.kinds.values().sum()
    }
}

/// One client.
struct Visit {
    receipt_id: String,
    /// After the beginning of its phase.
    came: Duration,
    ended: Ended,
}

/// Connects, asks once, and reads to the end.
async fn visit(target: Target, wanted: Wanted, arrived: Arc<AtomicU64>, phase: Instant) -> Visit {
    let (began, receipt_id) = (Instant::now(), wanted.receipt_id.clone());
    let opened = async {
        let mut connection = Connection::open(&target, None).await?;
        let stream = Stream::open(&target, &mut connection, &wanted).await?;
        Ok::<_, Fault>((connection, stream))
    };
    let ended = match opened.await {
        Ok((_connection, mut stream)) => {
            let fault = loop {
                let before = stream.received();
                let read = stream.read().await;
                arrived.fetch_add(stream.received() - before, Relaxed);
                match read {
                    Ok(true) => {}
                    Ok(false) => break None,
                    Err(fault) => break Some(fault),
                }
            };
            stream.ended(fault)
        }
        Err(fault) => Ended { received: 0, first_byte: None, total: began.elapsed(), fault: Some(fault) },
    };
    Visit { receipt_id, came: began - phase, ended }
}
