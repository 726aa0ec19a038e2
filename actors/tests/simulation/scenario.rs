//! One seed from start to end: faults first, then calm, then clean stops.

use std::{fmt, sync::Arc, time::Duration};

use actix::System;
use jiff::{SignedDuration, Timestamp};
use penstock_actors::{
    ids::{ContentHash, NodeId, ReceiptId, VersionId},
    model::{ContentMeta, Credit, NodeEpoch, QuotaPolicy, Receipt, ReceiptStatus, WindowKind},
    ports::ReceiptView,
    quota::book::{Demand, StreamAsk},
    testkit::{dice::Dice, model_ledger::flaw::Flaw},
};
use uuid::Uuid;

use super::{
    network::Weather,
    process::{self, Birth, HEARTBEAT, Process, RECLAIM, TTL},
    world::{TIMEOUT, World},
};

/// In calm, all credit of a dead epoch is back within this time: two heartbeats in time before an instance that was late may
/// reclaim, the validity of a lease in which the epoch is silent, one heartbeat more, one pass, and the answers that were lost
/// when the calm began.
pub(crate) const RETURNS_WITHIN: Duration =
    Duration::from_secs(TTL.as_secs() + 4 * HEARTBEAT.as_secs() + RECLAIM.as_secs() + 3 * TIMEOUT.as_secs());

/// Events of a run.
const EVENTS: u64 = 60;

/// Statements that were delayed before the calm have arrived after it.
const LATE_ARRIVALS: Duration = Duration::from_secs(26);

/// Times of day at which a run begins: within an hour, and before the end of an hour, a day and a month.
const BEGINNINGS: [&str; 4] =
    ["2026-11-10T10:20:00Z", "2026-11-10T10:59:40Z", "2026-11-10T23:59:40Z", "2026-11-30T23:59:40Z"];

/// A seed that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) what: String,
    pub(crate) trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, what, trace } = self;
        write!(f, "seed {seed}: {what}\nSEED={seed} repeats it. The last events:\n{}", trace.join("\n"))
    }
}

/// Runs one seed; returns its trace.
///
/// # Errors
/// The first broken promise.
pub(crate) fn run(seed: u64, flaw: Option<Flaw>) -> Result<Vec<String>, Failure> {
    // The jitter of retries is from this thread's generator.
    fastrand::seed(seed);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime on virtual time")
    };
    System::with_tokio_rt(runtime).block_on(async {
        let mut dice = Dice(seed);
        let began_at = BEGINNINGS[usize::try_from(dice.roll(4)).unwrap_or_default()];
        let began_at: Timestamp = began_at.parse().expect("a time");
        let limits = (500 + dice.roll(4000), 8 + dice.roll(60));
        let receipts = (1..=1 + dice.roll(2)).map(|n| right(n, limits, began_at)).collect::<Vec<_>>();
        let nodes = 2 + usize::try_from(dice.roll(3)).unwrap_or_default();
        let divisor = 1 + dice.roll(8);
        let world = Arc::new(World::new(dice, began_at, flaw));
        receipts.iter().for_each(|view| world.ledger.put_receipt(view.clone()));
        let mut scenario = Scenario { world: Arc::clone(&world), receipts, limits, divisor, highest_leap: 0 };
        world.note(|| format!("{nodes} nodes, lost leases: {:?}, limits {limits:?}", world.mode));
        scenario.play(nodes).await;
        world.end();
        match world.broken() {
            None => Ok(world.trace()),
            Some(what) => Err(Failure { seed, what, trace: world.trace() }),
        }
    })
}

fn right(n: u64, (bytes, requests): (u64, u64), now: Timestamp) -> ReceiptView {
    let content_hash = ContentHash::from_bytes([u8::try_from(n).unwrap_or_default(); 32]);
    let (bytes, requests) = (Some(bytes), Some(requests));
    ReceiptView {
        receipt: Receipt {
            receipt_id: ReceiptId::from_uuid(Uuid::from_u128(u128::from(n))),
            version_id: VersionId::from_uuid(Uuid::from_u128(1)),
            content_hash,
            quota_tier: "simulated".into(),
            status: ReceiptStatus::Confirmed,
            expires_at: now + Duration::from_secs(400 * 86_400),
            total_satoshis: 0,
            created_at: now,
            epoch: 0,
        },
        policy: QuotaPolicy {
            policy_name: "simulated".into(),
            bytes_per_hour: bytes,
            bytes_per_day: bytes.map(|bytes| bytes + bytes / 2),
            bytes_per_month: bytes.map(|bytes| bytes * 2),
            requests_per_hour: requests,
            requests_per_day: requests,
            requests_per_month: requests.map(|requests| requests * 2),
            ..QuotaPolicy::default()
        },
        content: Some(ContentMeta {
            content_hash,
            size_bytes: bytes.unwrap_or_default(),
            media_type: "video/mp4".into(),
            stored_at: now,
        }),
        asset_name: "a".into(),
    }
}

struct Scenario {
    world: Arc<World>,
    receipts: Vec<ReceiptView>,
    limits: (u64, u64),
    divisor: u64,
    highest_leap: i64,
}

impl Scenario {
    async fn play(&mut self, nodes: usize) {
        for index in 0..nodes {
            self.start(index);
        }
        for _ in 0..EVENTS {
            tokio::time::sleep(Duration::from_millis(self.world.roll(1400))).await;
            self.event();
            if self.world.broken().is_some() {
                return;
            }
        }
        self.calm().await;
        if self.world.broken().is_none() {
            self.use_up().await;
            self.stop_all().await;
        }
    }

    fn start(&self, index: usize) {
        let (node, last) = (NodeId::random(), None);
        let skew = SignedDuration::from_secs(i64::try_from(self.world.roll(7200)).unwrap_or_default() - 3600);
        let birth = Birth { index, node, last, skew, divisor: self.divisor };
        actix::spawn(process::start(Arc::clone(&self.world), birth));
    }

    fn event(&mut self) {
        let world = Arc::clone(&self.world);
        let processes = world.processes();
        let Some(process) = pick(&world, &processes) else { return };
        let index = process.index;
        let seconds = |most: u64| Duration::from_millis(200 + world.roll(most * 1000));
        match world.roll(100) {
            0..=61 => {
                if process.serves() {
                    let ask = self.ask(1 + world.roll(self.limits.0 / 6));
                    actix::spawn(Arc::clone(process).stream(ask));
                }
            }
            62..=68 => {
                let still = seconds(30);
                world.note(|| format!("{index}: stands still for {still:?}"));
                process.line.stop_for_a_while(true);
                let process = Arc::clone(process);
                actix::spawn(async move {
                    tokio::time::sleep(still).await;
                    process.line.stop_for_a_while(false);
                });
            }
            69..=75 => {
                let cut = seconds(25);
                world.note(|| format!("{index}: is cut off for {cut:?}"));
                process.line.cut_for(cut);
            }
            76..=80 if !process.is_stopping() => {
                world.note(|| format!("{index}: crashes"));
                process.crash();
                if world.roll(3) > 0 {
                    actix::spawn(start_again(Arc::clone(&world), Arc::clone(process), self.divisor, seconds(20)));
                }
            }
            81..=84 if process.serves() => {
                let (process, world, divisor, again) =
                    (Arc::clone(process), Arc::clone(&world), self.divisor, seconds(5));
                actix::spawn(async move {
                    process.stop().await;
                    start_again(world, process, divisor, again).await;
                });
            }
            85..=87 => {
                let away = seconds(15);
                world.set_up(false);
                actix::spawn(async move {
                    tokio::time::sleep(away).await;
                    world.set_up(true);
                });
            }
            88..=91 => {
                let ahead =
                    if world.roll(3) == 0 { 0 } else { i64::try_from(world.roll(3_600_000)).unwrap_or_default() };
                self.leap(ahead);
            }
            _ => world.set_weather(Weather::roll(&mut Dice(world.roll(u64::MAX)))),
        }
    }

    fn leap(&mut self, ahead: i64) {
        self.highest_leap = self.highest_leap.max(ahead);
        self.world.note(|| format!("the database's clock leaps to {ahead} ms ahead"));
        self.world.database.set_ahead(ahead);
    }

    fn ask(&self, bytes: u64) -> StreamAsk {
        let which = usize::try_from(self.world.roll(self.receipts.len() as u64)).unwrap_or_default();
        let receipt = &self.receipts[which].receipt;
        StreamAsk { receipt_id: receipt.receipt_id, content_hash: receipt.content_hash, demand: Demand::Bytes(bytes) }
    }

    /// No more faults: everything that was lost comes back in time.
    async fn calm(&mut self) {
        let world = Arc::clone(&self.world);
        world.set_weather(Weather::Calm);
        world.set_up(true);
        // An epoch that lived while the database's clock was ahead is over when that time has come.
        let leap = self.highest_leap;
        self.leap(leap);
        for process in world.processes() {
            process.line.mend();
            process.line.stop_for_a_while(false);
        }
        if world.processes().iter().all(|process| process.is_stopping()) {
            self.start(9);
        }
        while world.processes().iter().any(|process| process.is_stopping()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // A node that believes in a longer validity also takes longer to find another one silent. That is not its flaw.
        let patience = if world.flaw == Some(Flaw::SpendsPastValidity) { 4 } else { 1 };
        tokio::time::sleep(RETURNS_WITHIN * patience).await;
        let current: Vec<NodeEpoch> = world.processes().iter().map(|process| process.state.current()).collect();
        let dead: Vec<_> = world.ledger.holders().into_iter().filter(|(epoch, _)| !current.contains(epoch)).collect();
        if !dead.is_empty() {
            world.breaks(format!("credit of dead epochs is not back after {RETURNS_WITHIN:?} of calm: {dead:?}"));
        }
        // Streams end, and statements that were delayed have arrived; then each process compares its leases with the ledger's.
        tokio::time::sleep(LATE_ARRIVALS).await;
        for process in world.processes() {
            let unknown = process.state.unknown();
            if !unknown.is_zero() {
                world.breaks(format!(
                    "{}: the ledger has {unknown:?} for this process, which it does not know of",
                    process.index
                ));
            }
        }
    }

    /// The rest of each quota can be used to its end, wherever it is asked for.
    async fn use_up(&self) {
        let world = &self.world;
        for view in &self.receipts {
            let processes = world.processes();
            let serving: Vec<_> = processes.into_iter().filter(|process| process.serves()).collect();
            let Some(process) = pick(world, &serving) else { return };
            let rest = self.rest(view);
            if rest.bytes == 0 || rest.requests == 0 {
                continue;
            }
            let receipt = &view.receipt;
            let ask = StreamAsk {
                receipt_id: receipt.receipt_id,
                content_hash: receipt.content_hash,
                demand: Demand::Bytes(rest.bytes),
            };
            world.note(|| format!("{}: is asked for the last {} bytes", process.index, rest.bytes));
            let mut admitted = false;
            for _ in 0..5 {
                admitted = Arc::clone(process).stream(ask).await;
                if admitted || self.rest(view) != rest {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1100)).await;
            }
            if !admitted && self.rest(view) == rest {
                world.breaks(format!("{rest:?} is neither used nor to be had"));
            }
        }
    }

    /// The credit that no row has used.
    fn rest(&self, view: &ReceiptView) -> Credit {
        let used = self.world.ledger.used(view.receipt.receipt_id);
        let mut rest = Credit::new(u64::MAX, u64::MAX);
        for (kind, used) in WindowKind::ALL.into_iter().zip(used) {
            let limits = view.policy.limits(kind);
            let limit = Credit::new(limits.bytes.unwrap_or(u64::MAX), limits.requests.unwrap_or(u64::MAX));
            rest = rest.min(limit - used.min(limit));
        }
        rest
    }

    async fn stop_all(&self) {
        let world = &self.world;
        for process in world.processes() {
            if !process.is_stopping() {
                process.stop().await;
            }
        }
        tokio::time::sleep(LATE_ARRIVALS).await;
        // An epoch whose process did not stop cleanly, such as a start that met the end, is none of a clean stop's business.
        world.verify(|accounts| accounts.check_at_rest(&world.ledger, world.mode));
    }
}

/// Starts the next process of the same data folder, after a while.
async fn start_again(world: Arc<World>, process: Arc<Process>, divisor: u64, after: Duration) {
    tokio::time::sleep(after).await;
    let last = Some(process.state.current());
    let birth = Birth { index: process.index, node: process.node, last, skew: SignedDuration::ZERO, divisor };
    process::start(world, birth).await;
}

fn pick<'a>(world: &World, of: &'a [Arc<Process>]) -> Option<&'a Arc<Process>> {
    if of.is_empty() {
        return None;
    }
    of.get(usize::try_from(world.roll(of.len() as u64)).unwrap_or_default())
}
