//! Ten times more than the node can do: what it still does, how fast it refuses the rest, and how soon it is as before.
//!
//! The load is open: streams are asked for at a rate, whatever becomes of those before. A ramp of rates finds the knee: the rate at
//! which the most bytes per second reach clients. Then rounds compare side by side: `peak` asks at that rate, `surge` for ten times
//! as many streams as arrived, and `strangers` for as many, each over a new connection. In the other phases clients keep their
//! connections, as browsers and balancers do. The best of many short steps alone would be a peak of luck: machines are not equally
//! fast from one second to the next. The phase `after` follows at once and asks for half as many as the knee; from its beginning the
//! time to recover counts.

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
    check::Check,
    client::{Connection, Pool, Target},
    content::Content,
    fault::Fault,
    latency::Latencies,
    measure::{Phase, PhaseReport, Tally},
    report::{OverloadReport, SurgeReport},
    stream::{Ended, Stream, Wanted},
};

/// Streams that the node of the run serves at a time, unless the environment says otherwise. Clients on the node's own machine take all
/// that they are sent, so more streams do not bring more bytes; they only take longer.
pub(crate) const MAX_STREAMS: (&str, &str) = ("PENSTOCK_STREAMS__MAX_STREAMS", "32");

/// Requests of the run that may be open at a time. A node that neither serves nor refuses would otherwise take all memory here.
pub(crate) const OPEN_AT_MOST: usize = 4000;

/// Rounds of peak and surge.
const ROUNDS: u32 = 4;

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
        let crowd = Crowd { target: bench.api.target.clone(), wanted, arrived: Arc::default(), idle: Arc::default() };
        let mut tally = Tally::new();

        let knee = self.ramp(&crowd, &mut tally).await?;
        let (mut phases, mut rounds) = (Vec::new(), Vec::new());
        let (mut surge, mut strangers) = (Attended::new(), Attended::new());
        let last = loop {
            let part = self.surge / ROUNDS;
            let (at_peak, attended) = crowd.phase("peak", knee, part, Clients::Keeping, &mut phases).await?;
            ensure!(at_peak > 0.0, "no stream arrived");
            tally.merge(attended.tally);

            let rate = (at_peak / self.size as f64 * SURGE).min(self.last_rate);
            let (in_surge, attended) = crowd.phase("surge", rate, part, Clients::Keeping, &mut phases).await?;
            surge.merge(attended);

            let phase = Phase::begin("strangers");
            let offered = crowd.offer(rate, part, Clients::New).await?;
            rounds.push(Round { rate, at_peak, in_surge, of_strangers: offered.bytes_per_second });
            if rounds.len() as u32 == ROUNDS {
                break (phase, offered);
            }
            let attended = offered.end().await?;
            phases.push(phase.end(&attended.tally));
            strangers.merge(attended);
        };
        // Streams of the last surge go on while the next ones are asked for.
        let held_bytes = bench.resident().map(|resident| resident.now);
        let next = Phase::begin("after");
        let after = crowd.offer(knee * AFTERWARDS, self.surge, Clients::New).await?;
        let (phase, offered) = last;
        let attended = offered.end().await?;
        phases.push(phase.end(&attended.tally));
        strangers.merge(attended);
        let after = after.end().await?;
        phases.push(next.end(&after.tally));

        let shapeless = [&surge, &strangers, &after].iter().map(|attended| attended.refusals.shapeless).sum();
        let report = self.report(&rounds, [&surge.refusals, &strangers.refusals], after.recovered_after);
        let checks = promises(&report, shapeless);
        for attended in [surge, strangers, after] {
            tally.merge(attended.tally);
        }
        Ok(Findings { phases, checks, tally, held_bytes, overload: Some(report), ..Findings::new() })
    }

    fn report(&self, rounds: &[Round], refusals: [&Refusals; 2], recovered_after: Duration) -> OverloadReport {
        let mean = |of: fn(&Round) -> f64| rounds.iter().map(of).sum::<f64>() / rounds.len() as f64;
        let at_peak = mean(|round| round.at_peak);
        let [surge, strangers] =
            [(mean(|round| round.in_surge), refusals[0]), (mean(|round| round.of_strangers), refusals[1])].map(
                |(bytes_per_second, refusals)| SurgeReport {
                    mib_per_second: mib(bytes_per_second),
                    kept: bytes_per_second / at_peak,
                    refused: refusals.count(),
                    refusals: refusals.kinds.clone(),
                    refusal_ms: refusals.times.percentiles(),
                },
            );
        OverloadReport {
            stream_bytes: self.size as u64,
            peak_mib_per_second: mib(at_peak),
            peak_streams_per_second: at_peak / self.size as f64,
            offered_per_second: mean(|round| round.rate),
            kept_in_rounds: rounds.iter().map(|round| round.in_surge / round.at_peak).collect(),
            surge,
            strangers,
            recovered_after_seconds: recovered_after.as_secs_f64(),
        }
    }

    /// The rate at which the node can do no more: the most bytes arrive, or nearly all of what it can send is asked for.
    async fn ramp(&self, crowd: &Crowd, all: &mut Tally) -> anyhow::Result<f64> {
        let (mut rate, mut knee, mut most) = (self.first_rate, None, 0.0);
        while rate <= self.last_rate {
            let step = crowd.offer(rate, self.step, Clients::Keeping).await?;
            let bytes_per_second = step.bytes_per_second;
            all.merge(step.end().await?.tally);
            if bytes_per_second > most {
                (knee, most) = (Some(rate), bytes_per_second);
            }
            if bytes_per_second < rate * self.size as f64 * SATURATED {
                break;
            }
            rate *= STEEPNESS;
        }
        knee.context("no stream arrived")
    }
}

/// The promises that a run puts to the test.
fn promises(report: &OverloadReport, shapeless: u64) -> Vec<Check> {
    let OverloadReport { surge, strangers, recovered_after_seconds, .. } = report;
    let refused_within = |clients: &str, surge: &SurgeReport| {
        Check::new(
            format!("99 of 100 refusals of {clients} take less than {} ms", REFUSED_WITHIN.as_millis()),
            surge.refusal_ms.p99 < REFUSED_WITHIN.as_secs_f64() * 1000.0,
            format!("{:.1} ms, the median {:.1} ms", surge.refusal_ms.p99, surge.refusal_ms.p50),
        )
    };
    vec![
        Check::new(
            "what is not served is refused with 429 or 503, a problem document and Retry-After",
            shapeless == 0,
            format!("{} refused, {shapeless} of them in another way", surge.refused + strangers.refused),
        ),
        Check::new(
            format!("at {SURGE} times the peak, {}% of its bytes still arrive", KEPT * 100.0),
            surge.kept >= KEPT,
            format!("{:.1}%", surge.kept * 100.0),
        ),
        refused_within("clients that keep their connections", surge),
        refused_within("clients that connect anew", strangers),
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

/// The peak and what follows it, side by side.
struct Round {
    /// Streams per second that the surge asked for.
    rate: f64,
    /// Bytes per second that reached clients.
    at_peak: f64,
    in_surge: f64,
    of_strangers: f64,
}

/// Whether a client uses a connection on which an earlier request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clients {
    Keeping,
    New,
}

/// Clients that come at a rate.
#[derive(Clone)]
struct Crowd {
    target: Target,
    wanted: Arc<[Wanted]>,
    /// Bytes that reached clients.
    arrived: Arc<AtomicU64>,
    /// Connections whose last request has ended. At most [`OPEN_AT_MOST`]: each was open at the same time as the others.
    idle: Arc<Pool>,
}

impl Crowd {
    /// A phase from its first client to the last one: the bytes that arrived in a second, and what the clients met with.
    async fn phase(
        &self,
        name: &'static str,
        rate: f64,
        time: Duration,
        clients: Clients,
        phases: &mut Vec<PhaseReport>,
    ) -> anyhow::Result<(f64, Attended)> {
        let phase = Phase::begin(name);
        let offered = self.offer(rate, time, clients).await?;
        let bytes_per_second = offered.bytes_per_second;
        let attended = offered.end().await?;
        phases.push(phase.end(&attended.tally));
        Ok((bytes_per_second, attended))
    }

    /// Sends clients at this rate for so long; those that are not finished by then go on.
    async fn offer(&self, rate: f64, time: Duration, clients: Clients) -> anyhow::Result<Offered> {
        let (began, before) = (Instant::now(), self.arrived.load(Relaxed));
        let count = (rate * time.as_secs_f64()).ceil() as u64;
        let mut visits = JoinSet::new();
        let mut done = Vec::new();
        for client in 0..count {
            tokio::time::sleep_until((began + Duration::from_secs_f64(client as f64 / rate)).into()).await;
            while let Some(visit) = visits.try_join_next() {
                done.push(visit.context("a client was stopped")?);
            }
            ensure!(
                visits.len() < OPEN_AT_MOST,
                "{OPEN_AT_MOST} requests are open: the node neither serves nor refuses"
            );
            let wanted = self.wanted[client as usize % self.wanted.len()].clone();
            visits.spawn(self.clone().visit(wanted, clients, began));
        }
        tokio::time::sleep_until((began + time).into()).await;
        let arrived = self.arrived.load(Relaxed) - before;
        let bytes_per_second = arrived as f64 / began.elapsed().as_secs_f64();
        Ok(Offered { bytes_per_second, visits, done })
    }

    /// One client of a phase: asks once, and reads to the end.
    async fn visit(self, wanted: Wanted, clients: Clients, phase: Instant) -> Visit {
        let (began, receipt_id) = (Instant::now(), wanted.receipt_id.clone());
        let mut connection = match self.connection(clients).await {
            Ok(connection) => connection,
            Err(fault) => return Visit { receipt_id, came: began - phase, ended: Ended::refused(began, fault) },
        };
        let ended = match Stream::open(&self.target, &mut connection, &wanted).await {
            Ok(mut stream) => {
                let fault = loop {
                    let before = stream.received();
                    let read = stream.read().await;
                    self.arrived.fetch_add(stream.received() - before, Relaxed);
                    match read {
                        Ok(true) => {}
                        Ok(false) => break None,
                        Err(fault) => break Some(fault),
                    }
                };
                stream.ended(fault)
            }
            Err(fault) => Ended::refused(began, fault),
        };
        if clients == Clients::Keeping && matches!(ended.fault, None | Some(Fault::Refused { .. })) {
            self.idle.give(connection);
        }
        Visit { receipt_id, came: began - phase, ended }
    }

    async fn connection(&self, clients: Clients) -> Result<Connection, Fault> {
        if clients == Clients::Keeping
            && let Some(connection) = self.idle.take()
        {
            return Ok(connection);
        }
        Connection::open(&self.target, None).await
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
        let mut attended = Attended::new();
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
    fn new() -> Self {
        Self { tally: Tally::new(), refusals: Refusals::new(), recovered_after: Duration::ZERO }
    }

    fn merge(&mut self, other: Self) {
        self.tally.merge(other.tally);
        self.refusals.merge(other.refusals);
        self.recovered_after = self.recovered_after.max(other.recovered_after);
    }

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

    fn merge(&mut self, other: Self) {
        self.times.merge(&other.times);
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.shapeless += other.shapeless;
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
