//! Sources that follow a script, on rules without work.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use async_trait::async_trait;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    clock::SystemClock,
    model::{ChainHash, ChainHeader, ChainWork, CheckedHeader, HEADER_BYTES, RawHeader},
    ports::{HeaderFault, PortResult},
    testkit::memory_headers::MemoryHeaders,
};

/// Refuses headers whose first byte says so. Each block has the work 1, those of a heavy branch have 100.
struct PlainRules;

const REFUSED: u8 = 0xff;
const HEAVY: u8 = 100;

impl HeaderRules for PlainRules {
    fn check(&self, raw: &RawHeader) -> Result<CheckedHeader, HeaderFault> {
        let hash = ChainHash::from_wire(Sha256::digest(raw.0).into());
        let mut work = [0; 32];
        work[31] = if raw.0[0] == HEAVY { HEAVY } else { 1 };
        if raw.0[0] == REFUSED {
            Err(HeaderFault::Work)
        } else {
            Ok(CheckedHeader { raw: *raw, hash, work: ChainWork(work) })
        }
    }

    fn follow(&self, header: &CheckedHeader, before: &[ChainHeader]) -> Result<ChainHeader, HeaderFault> {
        let CheckedHeader { raw, hash, work } = *header;
        let Some(parent) = before.last() else {
            let is_first = raw == first();
            return if is_first {
                Ok(ChainHeader { raw, hash, height: 0, total_work: work })
            } else {
                Err(HeaderFault::Checkpoint)
            };
        };
        assert_eq!(parent.hash, raw.previous(), "the parent is last");
        Ok(ChainHeader { raw, hash, height: parent.height + 1, total_work: parent.total_work.plus(work) })
    }

    fn context(&self) -> usize {
        20
    }
}

fn first() -> RawHeader {
    RawHeader([0; HEADER_BYTES])
}

/// So many headers on top of others, of this branch.
fn grow(chain: &[RawHeader], count: usize, branch: u8) -> Vec<RawHeader> {
    let mut headers = chain.to_vec();
    for _ in 0..count {
        let previous = PlainRules.check(headers.last().unwrap_or(&first())).expect("not refused").hash;
        let mut raw = [branch; HEADER_BYTES];
        raw[4..36].copy_from_slice(previous.as_wire());
        raw[68..72].copy_from_slice(&1_700_000_000_u32.to_le_bytes());
        headers.push(RawHeader(raw));
    }
    headers
}

/// What the source does.
#[derive(Clone)]
enum Script {
    Serve(Vec<RawHeader>),
    /// Says that it has this tip, and gives nothing.
    Withhold(u32),
    /// Gives the same headers whatever is asked for.
    Repeat(u32, Vec<RawHeader>),
    Fail,
}

struct ScriptedSource {
    script: Mutex<Script>,
    calls: AtomicUsize,
}

impl ScriptedSource {
    fn now(&self) -> Script {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl HeaderSource for ScriptedSource {
    fn name(&self) -> &'static str {
        "script"
    }

    async fn tip(&self) -> PortResult<u32> {
        match self.now() {
            Script::Serve(headers) => Ok(headers.len() as u32 - 1),
            Script::Withhold(tip) | Script::Repeat(tip, _) => Ok(tip),
            Script::Fail => Err(PortError::unavailable("script", "fails")),
        }
    }

    async fn headers(&self, from: u32, count: usize) -> PortResult<Vec<RawHeader>> {
        self.calls.fetch_add(1, Relaxed);
        Ok(match self.now() {
            Script::Serve(headers) => headers.into_iter().skip(from as usize).take(count).collect(),
            Script::Repeat(_, headers) => headers,
            Script::Withhold(_) | Script::Fail => Vec::new(),
        })
    }
}

/// A node, its source, and the store that it shares.
struct World {
    deps: KeeperDeps,
    source: Arc<ScriptedSource>,
    store: Arc<MemoryHeaders>,
}

impl World {
    fn serving(headers: &[RawHeader]) -> Self {
        Self::over(Arc::default(), headers)
    }

    fn over(store: Arc<MemoryHeaders>, headers: &[RawHeader]) -> Self {
        let source = Arc::new(ScriptedSource {
            script: Mutex::new(Script::Serve(headers.to_vec())),
            calls: AtomicUsize::new(0),
        });
        let deps = KeeperDeps {
            chain: ChainHandle::new(Duration::from_secs(7_200)),
            rules: Arc::new(PlainRules),
            source: Arc::<ScriptedSource>::clone(&source),
            store: Arc::<MemoryHeaders>::clone(&store),
            clock: Arc::new(SystemClock),
        };
        Self { deps, source, store }
    }

    fn script(&self, script: Script) {
        *self.source.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }

    async fn round(&self) -> Result<usize, KeeperError> {
        self.deps.round().await
    }

    #[track_caller]
    fn has(&self, headers: &[RawHeader]) {
        let roots: Vec<_> = self.deps.chain.roots_from(0, usize::MAX).into_iter().map(|(_, root)| root).collect();
        assert_eq!(roots, headers.iter().map(RawHeader::merkle_root).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn headers_come_from_the_source_in_batches_and_stay_in_the_store() {
    let headers = grow(&[first()], HEADERS_A_CALL * 2 + 10, 1);
    let world = World::serving(&headers);
    assert_eq!(world.round().await.expect("a round"), headers.len());
    world.has(&headers);
    assert_eq!(world.source.calls.load(Relaxed), 3);
    assert_eq!(world.round().await.expect("a round"), 0);
    assert_eq!(world.deps.chain.standing().lag, 0);

    // A restart, or another instance: everything is in the store, also while the source is away.
    let restarted = World::over(Arc::clone(&world.store), &headers);
    restarted.script(Script::Fail);
    assert!(matches!(restarted.round().await, Err(KeeperError::Source(_))));
    restarted.has(&headers);
}

#[tokio::test]
async fn a_reorganisation_is_followed_on_every_instance() {
    let headers = grow(&[first()], 50, 1);
    let world = World::serving(&headers);
    world.round().await.expect("a round");
    let mut told = world.deps.chain.reorganisations();
    let other = World::over(Arc::clone(&world.store), &headers);
    other.round().await.expect("a round");

    let branch = grow(&headers[..headers.len() - 2], 3, 2);
    world.script(Script::Serve(branch.clone()));
    assert_eq!(world.round().await.expect("a round"), 3);
    world.has(&branch);
    assert!(told.has_changed().expect("the chain is there"));
    assert_eq!(*told.borrow_and_update(), 1);
    // The other instance finds the branch in the store.
    other.script(Script::Fail);
    assert!(matches!(other.round().await, Err(KeeperError::Source(_))));
    other.has(&branch);
    // A deeper one, and both branches are in the store for a restart.
    let deeper = grow(&branch[..10], 60, 3);
    world.script(Script::Serve(deeper.clone()));
    world.round().await.expect("a round");
    world.has(&deeper);
    let restarted = World::over(Arc::clone(&world.store), &deeper);
    restarted.round().await.expect("a round");
    restarted.has(&deeper);
}

#[tokio::test]
async fn a_branch_with_more_work_is_found_though_it_is_shorter() {
    let headers = grow(&[first()], 50, 1);
    let world = World::serving(&headers);
    world.round().await.expect("a round");
    let other = World::over(Arc::clone(&world.store), &headers);
    other.round().await.expect("a round");
    let heavy = grow(&headers[..40], 3, HEAVY);
    world.script(Script::Serve(heavy.clone()));
    assert_eq!(world.round().await.expect("a round"), 3);
    world.has(&heavy);
    other.script(Script::Fail);
    assert!(other.round().await.is_err());
    other.has(&heavy);
}

#[tokio::test]
async fn a_source_that_goes_back_or_has_a_branch_with_less_work_changes_nothing() {
    let headers = grow(&[first()], 30, 1);
    let world = World::serving(&headers);
    world.round().await.expect("a round");
    world.script(Script::Serve(headers[..20].to_vec()));
    assert_eq!(world.round().await.expect("a round"), 0);
    assert_eq!(world.deps.chain.standing().lag, -11);
    world.script(Script::Serve(grow(&headers[..20], 5, 2)));
    world.round().await.expect("a round");
    world.has(&headers);
}

#[tokio::test]
async fn a_header_that_the_rules_refuse_and_all_after_it_are_left_out() {
    let headers = grow(&[first()], 10, 1);
    let world = World::serving(&headers);
    let mut bad = grow(&headers, 5, 1);
    bad[12].0[0] = REFUSED;
    world.script(Script::Serve(bad));
    assert!(matches!(world.round().await, Err(KeeperError::Refused { height: 12, .. })));
    assert_eq!(world.deps.chain.standing().height, Some(11));
    assert_eq!(world.deps.chain.standing().refused, 1);
    // The next round goes on with a better source.
    world.script(Script::Serve(grow(&headers, 5, 1)));
    world.round().await.expect("a round");
    world.has(&grow(&headers, 5, 1));
}

#[tokio::test]
async fn another_chain_is_refused_whatever_its_length() {
    let headers = grow(&[first()], 10, 1);
    let world = World::serving(&headers);
    world.round().await.expect("a round");
    let mut other = grow(&[], 300, 9);
    other[0].0[5] ^= 1;
    world.script(Script::Serve(other));
    assert!(matches!(world.round().await, Err(KeeperError::Refused { height: 0, .. })));
    world.has(&headers);
}

#[tokio::test]
async fn a_source_that_lies_ends_the_round() {
    let headers = grow(&[first()], 10, 1);
    let world = World::serving(&headers);
    world.round().await.expect("a round");
    let before = world.source.calls.load(Relaxed);
    world.script(Script::Withhold(500));
    assert!(matches!(world.round().await, Err(KeeperError::Withheld { tip: 500, height: 11 })));
    assert_eq!(world.deps.chain.standing().lag, 490);
    // The same headers for every question, with nothing new in them.
    world.script(Script::Repeat(500, headers[3..5].to_vec()));
    assert!(world.round().await.is_err());
    // Headers that do not follow each other.
    let next = grow(&headers, 4, 1);
    world.script(Script::Repeat(500, vec![next[11], next[13]]));
    assert!(matches!(world.round().await, Err(KeeperError::Broken { height: 12 })));
    assert!(world.source.calls.load(Relaxed) - before < 40);
    world.has(&next[..12]);
}

#[tokio::test]
async fn a_header_of_the_future_waits() {
    let headers = grow(&[first()], 10, 1);
    let world = World::serving(&headers);
    let mut ahead = grow(&headers, 1, 1);
    let late = Timestamp::now().as_second() + 3 * 3_600;
    ahead[11].0[68..72].copy_from_slice(&u32::try_from(late).expect("before 2106").to_le_bytes());
    world.script(Script::Serve(ahead));
    assert!(matches!(world.round().await, Err(KeeperError::Ahead { height: 11 })));
    world.has(&headers);
    assert_eq!(world.deps.chain.standing().refused, 0);
}

#[tokio::test]
async fn what_is_not_stored_is_not_known() {
    let headers = grow(&[first()], 10, 1);
    let world = World::serving(&headers);
    world.store.is_away.store(true, Relaxed);
    assert!(matches!(world.round().await, Err(KeeperError::Store(_))));
    assert_eq!(world.deps.chain.standing().height, None);
    world.store.is_away.store(false, Relaxed);
    world.round().await.expect("a round");
    world.has(&headers);
}

#[tokio::test]
async fn a_store_that_was_restored_is_filled_again() {
    let headers = grow(&[first()], 40, 1);
    let world = World::serving(&headers);
    world.round().await.expect("a round");
    world.store.restore_to(10);
    world.round().await.expect("a round");
    world.has(&headers);
    let restarted = World::over(Arc::clone(&world.store), &headers);
    restarted.script(Script::Fail);
    assert!(restarted.round().await.is_err());
    restarted.has(&headers);
}

#[tokio::test]
async fn the_chain_is_current_while_its_tip_is_not_too_old() {
    let world = World::serving(&grow(&[first()], 10, 1));
    let made_at = Timestamp::from_second(1_700_000_000).expect("a time");
    let is_current = |seconds: u64| world.deps.chain.is_current(made_at + Duration::from_secs(seconds));
    assert!(!is_current(0), "without headers");
    world.round().await.expect("a round");
    assert!(is_current(0) && is_current(7_200));
    assert!(!is_current(7_201));
}
