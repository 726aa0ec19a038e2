//! Verification, repair, moves and ages of stored content, over ports in memory that fail at each step.

use std::{sync::Arc, time::Duration};

use penstock_actors::{
    clock::Clock as _,
    content::{
        quarantine_sync,
        reader::{ContentSettings, ContentStore, Verify},
        upload::Hashers,
    },
    ids::{ContentHash, NodeId},
    model::{Finding, LEAF_BYTES, MoveState, StorageTask, StorageTier, VerificationKind},
    ports::{
        BlobCopies as _, BlobStore as _, PortError, QuarantineList as _, StorageMoves as _, StorageRecords,
        StorageTasks as _, Tag, TaskLeases as _,
    },
    storage::{
        copy_context::CopyContext,
        last_access::LastAccess,
        maintenance::{MaintenanceDeps, MaintenanceJobs, MaintenanceSettings},
        mover::{MoveError, MoveStart, Mover},
        verifier::{Verified, Verifier},
    },
    testkit::{
        clock::ManualClock,
        memory_blobs::MemoryBlobs,
        memory_records::MemoryRecords,
        script::{Fault, Script},
        task_leases_suite,
    },
};
use tokio::runtime::Handle;

use crate::{
    delivery::content,
    rig::{START, eventually, watch_of},
};

pub(crate) const SIZE: usize = 3 * LEAF_BYTES as usize + 77;
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// The ports that instances share.
pub(crate) struct Scene {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) blobs: MemoryBlobs,
    pub(crate) records: Arc<MemoryRecords>,
}

/// An instance.
pub(crate) struct Instance {
    pub(crate) store: ContentStore,
    pub(crate) verifier: Verifier,
    pub(crate) mover: Mover,
    pub(crate) jobs: MaintenanceJobs,
    pub(crate) deps: MaintenanceDeps,
    uses: Arc<LastAccess>,
}

pub(crate) fn settings() -> MaintenanceSettings {
    MaintenanceSettings {
        interval: Duration::from_secs(1),
        verify_rate: Some(1 << 40),
        verify_every: 30 * DAY,
        missing_per_hour: 30,
        retention: 90 * DAY,
        warm_after: Some(30 * DAY),
        cold_after: Some(90 * DAY),
        move_rate: 1 << 40,
        grace: Duration::from_secs(600),
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let records = Arc::new(MemoryRecords::by(clock.clone()));
        Self { clock, blobs: MemoryBlobs::default(), records }
    }

    pub(crate) fn instance(&self) -> Instance {
        self.instance_by(&self.clock)
    }

    /// An instance with a clock of its own.
    fn instance_by(&self, clock: &Arc<ManualClock>) -> Instance {
        let content = ContentSettings { memory_cache: 64 << 20, read_ahead: 64 << 20, verify: Verify::Cold };
        let store = ContentStore::new(Arc::new(self.blobs.clone()), content, Handle::current());
        let node = NodeId::random();
        let copies = CopyContext {
            copies: Arc::new(self.blobs.clone()),
            records: StorageRecords::of(&self.records),
            content: store.clone(),
            clock: clock.clone(),
            node,
            io: Handle::current(),
            hashers: Hashers::new(Handle::current()),
            counters: Arc::default(),
        };
        let verifier = Verifier::new(copies.clone(), settings().missing_per_hour);
        let (mover, uses) = (Mover::new(copies, verifier.clone()), Arc::<LastAccess>::default());
        let deps = MaintenanceDeps {
            records: StorageRecords::of(&self.records),
            content: store.clone(),
            verifier: verifier.clone(),
            mover: mover.clone(),
            uses: uses.clone(),
            clock: clock.clone(),
            watch: watch_of(clock),
            node,
        };
        Instance { store, verifier, mover, jobs: MaintenanceJobs::new(deps.clone(), settings()), deps, uses }
    }

    /// Content that is stored in the hot tier.
    pub(crate) fn stored(&self, seed: u8) -> ContentHash {
        let mut bytes = content(SIZE);
        bytes[0] = seed;
        let hash = self.blobs.put(bytes);
        self.records.put(hash, SIZE as u64, StorageTier::Hot, self.clock.now());
        hash
    }

    /// The bytes that readers get.
    pub(crate) async fn read(&self, hash: ContentHash) -> Result<bytes::Bytes, PortError> {
        let blob = self.blobs.open(hash).await?;
        blob.source.read_at(0, usize::try_from(blob.size_bytes).expect("small")).await
    }

    pub(crate) async fn copy(&self, hash: ContentHash, tier: StorageTier) {
        let bytes = self.read(hash).await.expect("a good copy");
        let leaves: Vec<_> = bytes.chunks(LEAF_BYTES as usize).map(leaf_hash).collect();
        let mut sink = self.blobs.create_copy(tier).await.expect("a sink");
        sink.write(bytes).await.expect("written");
        sink.commit(hash, &leaves).await.expect("committed");
    }

    pub(crate) fn rotten(&self, hash: ContentHash, tier: StorageTier) {
        let mut bytes = content(SIZE);
        bytes[SIZE - 1] ^= 1;
        self.blobs.damage_copy(hash, tier, bytes);
    }
}

fn leaf_hash(leaf: &[u8]) -> penstock_actors::model::LeafHash {
    *penstock_actors::testkit::memory_blobs::hash_of(leaf).as_bytes()
}

impl Instance {
    pub(crate) async fn verify(&self, hash: ContentHash) -> Verified {
        let verified = self.verifier.verify(hash, VerificationKind::OnDemand, None).await;
        verified.expect("looked").expect("stored")
    }

    pub(crate) async fn move_to(&self, hash: ContentHash, to: StorageTier) -> Result<(), MoveError> {
        match self.mover.begin(hash, to).await? {
            MoveStart::Ours(at) => self.mover.carry_out(&at, None).await,
            MoveStart::Known(_) => Ok(()),
        }
    }
}

pub(crate) fn findings(verified: &Verified) -> Vec<(StorageTier, Finding)> {
    verified.copies.iter().map(|copy| (copy.tier, copy.finding)).collect()
}

#[actix::test]
async fn a_good_copy_is_found_intact_and_put_down() {
    let scene = Scene::new();
    let (instance, hash) = (scene.instance(), scene.stored(1));
    let verified = instance.verify(hash).await;
    assert_eq!((findings(&verified), verified.quarantined), (vec![(StorageTier::Hot, Finding::Intact)], false));
    let looks = scene.records.looks();
    assert_eq!((looks.len(), looks[0].kind, looks[0].found_bytes), (1, VerificationKind::OnDemand, Some(SIZE as u64)));
    let unknown = instance.verifier.verify(ContentHash::from_bytes([9; 32]), VerificationKind::OnDemand, None).await;
    assert_eq!(unknown.expect("looked"), None);
}

#[actix::test]
async fn damage_without_a_good_copy_is_kept_from_readers_until_good_bytes_come() {
    let scene = Scene::new();
    type Damage = fn(&Scene, ContentHash);
    let cases: [(Finding, Damage); 3] = [
        (Finding::Corrupt, |scene, hash| scene.rotten(hash, StorageTier::Hot)),
        (Finding::WrongSize, |scene, hash| scene.blobs.damage_copy(hash, StorageTier::Hot, content(SIZE - 5))),
        (Finding::Missing, |scene, hash| scene.blobs.lose_copy(hash, StorageTier::Hot)),
    ];
    for (seed, (finding, damage)) in (1..).zip(cases) {
        let (instance, hash) = (scene.instance(), scene.stored(seed));
        let good = scene.read(hash).await.expect("good bytes");
        // Content in memory, and open content, is withheld from readers as well.
        let open = instance.store.open(hash, SIZE as u64).await.expect("opened");
        instance.store.read(&open, 0..10, 10).await.expect("read");
        damage(&scene, hash);
        let verified = instance.verify(hash).await;
        assert_eq!((findings(&verified), verified.quarantined), (vec![(StorageTier::Hot, finding)], true));
        assert!(matches!(instance.store.open(hash, SIZE as u64).await, Err(PortError::Corrupt(_))));
        assert!(matches!(instance.store.read(&open, 0..10, 10).await, Err(PortError::Corrupt(_))));
        let kept = scene.records.quarantined(None, 10).await.expect("a page");
        assert_eq!(kept.iter().map(|one| one.content_hash).collect::<Vec<_>>(), [hash]);
        // The same bytes were uploaded again.
        scene.blobs.put(good);
        let verified = instance.verify(hash).await;
        assert!(!verified.quarantined);
        assert!(scene.records.quarantined(None, 10).await.expect("a page").is_empty());
        let open = instance.store.open(hash, SIZE as u64).await.expect("opened");
        instance.store.read(&open, 0..10, 10).await.expect("read");
    }
}

#[actix::test]
async fn a_damaged_copy_is_mended_from_another_tier() {
    let scene = Scene::new();
    let instance = scene.instance();
    for (seed, lost) in (1..).zip([false, true]) {
        let hash = scene.stored(seed);
        let good = scene.read(hash).await.expect("good bytes");
        scene.copy(hash, StorageTier::Cold).await;
        if lost {
            scene.blobs.lose_copy(hash, StorageTier::Hot);
        } else {
            scene.rotten(hash, StorageTier::Hot);
        }
        let verified = instance.verify(hash).await;
        assert_eq!((verified.repaired.as_slice(), verified.quarantined), ([StorageTier::Hot].as_slice(), false));
        assert_eq!(scene.read(hash).await.expect("readable"), good);
        let verified = instance.verify(hash).await;
        assert_eq!(findings(&verified), [(StorageTier::Hot, Finding::Intact), (StorageTier::Cold, Finding::Intact)]);
    }
    // A copy that is not needed is not repaired, but removed.
    let hash = scene.stored(9);
    scene.copy(hash, StorageTier::Warm).await;
    scene.rotten(hash, StorageTier::Warm);
    assert!(!instance.verify(hash).await.quarantined);
    assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Hot]);
    assert!(scene.records.quarantined(None, 10).await.expect("a page").is_empty());
}

#[actix::test]
async fn a_repair_that_breaks_off_leaves_the_quarantine_and_the_next_look_ends_it() {
    for call in ["create_copy", "write", "commit"] {
        let scene = Scene::new();
        let (instance, hash) = (scene.instance(), scene.stored(1));
        scene.copy(hash, StorageTier::Cold).await;
        scene.rotten(hash, StorageTier::Hot);
        scene.blobs.script().next(call, [Fault::Unavailable]);
        assert!(instance.verifier.verify(hash, VerificationKind::Walk, None).await.is_err(), "{call}");
        assert!(matches!(instance.store.open(hash, SIZE as u64).await, Err(PortError::Corrupt(_))), "{call}");
        assert!(!instance.verify(hash).await.quarantined, "{call}");
        assert_eq!(scene.blobs.unfinished(), 0, "{call}");
    }
}

#[actix::test]
async fn every_instance_hears_what_is_kept_from_readers() {
    let scene = Scene::new();
    let (one, other, hash) = (scene.instance(), scene.instance(), scene.stored(1));
    tokio::spawn(quarantine_sync::follow(other.store.clone(), scene.records.clone()));
    scene.rotten(hash, StorageTier::Hot);
    assert!(one.verify(hash).await.quarantined);
    other.store.quarantine().heard(Some(&Tag::Content(hash)));
    eventually("the other instance refuses it", || other.store.quarantine().holds(hash)).await;
    scene.records.lift_quarantine(hash).await.expect("lifted");
    // A database that does not answer is asked again.
    scene.records.script.next("quarantined", [Fault::Unavailable]);
    other.store.quarantine().heard(None);
    eventually("the other instance has it again", || other.store.quarantine().is_empty()).await;
}

/// The steps at which a move may break: each call of a port, failing before its work and after it.
#[actix::test]
async fn a_move_that_breaks_at_any_step_is_ended_by_another_instance_and_never_noticed() {
    let in_store = ["open_copy", "read_at", "create_copy", "write", "commit", "leave_copy"];
    let in_records = ["begin_move", "stored_content", "note_verifications", "switch_tier"];
    for (call, in_store) in in_store.map(|call| (call, true)).into_iter().chain(in_records.map(|call| (call, false))) {
        for fault in [Fault::Unavailable, Fault::AnswerLost] {
            for nth in 0..4 {
                let scene = Scene::new();
                let hash = scene.stored(1);
                let good = scene.read(hash).await.expect("good bytes");
                let script: &Script = if in_store { scene.blobs.script() } else { &scene.records.script };
                script.next(call, std::iter::repeat_n(None, nth).chain([Some(fault)]));
                // It may break before it was recorded: then the caller gets the error, and asks again.
                let asked = scene.instance().move_to(hash, StorageTier::Cold).await;
                // A move may have fewer such calls.
                script.end();
                let what = format!("{call} {nth} {fault:?} {asked:?}");
                assert_eq!(scene.read(hash).await.expect("readable"), good, "{what}");
                let other = scene.instance();
                if scene.records.known_move(hash).is_none() {
                    other.move_to(hash, StorageTier::Cold).await.expect("moved");
                }
                for _ in 0..3 {
                    scene.clock.advance(Duration::from_secs(601));
                    let _ = other.jobs.end_moves().await;
                    assert_eq!(scene.read(hash).await.expect("readable"), good, "{what}");
                }
                assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Cold], "{what}");
                assert_eq!(scene.records.tier(hash), Some(StorageTier::Cold), "{what}");
                assert_eq!(scene.records.known_move(hash), None, "{what}");
                assert_eq!(scene.blobs.unfinished(), 0, "{what}");
                assert!(!other.verify(hash).await.quarantined, "{what}");
            }
        }
    }
}

#[actix::test]
async fn old_copies_stay_for_the_grace_period_and_go_only_when_the_new_one_stands() {
    let scene = Scene::new();
    let (instance, hash) = (scene.instance(), scene.stored(1));
    let good = scene.read(hash).await.expect("good bytes");
    instance.move_to(hash, StorageTier::Warm).await.expect("moved");
    assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Hot, StorageTier::Warm]);
    instance.jobs.end_moves().await.expect("nothing is due");
    assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Hot, StorageTier::Warm]);
    // The new copy is lost before the old one is removed: the old one repairs it.
    scene.blobs.lose_copy(hash, StorageTier::Warm);
    scene.clock.advance(Duration::from_secs(601));
    instance.jobs.end_moves().await.expect("mended");
    assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Hot, StorageTier::Warm]);
    instance.jobs.end_moves().await.expect("removed");
    assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Warm]);
    assert_eq!(scene.read(hash).await.expect("readable"), good);
}

#[actix::test]
async fn finished_moves_that_cannot_be_cleared_keep_no_later_one() {
    let scene = Scene::new();
    let instance = scene.instance();
    // More than a page of them: the content of each is withheld from readers.
    for n in 0..501_u32 {
        let mut name = [0x33; 32];
        name[..4].copy_from_slice(&n.to_be_bytes());
        let hash = ContentHash::from_bytes(name);
        scene.records.put(hash, 1, StorageTier::Hot, scene.clock.now());
        assert!(scene.records.clear_later(hash, StorageTier::Hot).await.expect("an answer"));
        instance.store.quarantine().set(hash, true);
    }
    scene.clock.advance(Duration::from_secs(1));
    let hash = scene.stored(1);
    instance.move_to(hash, StorageTier::Warm).await.expect("moved");
    scene.clock.advance(Duration::from_secs(601));
    instance.jobs.end_moves().await.expect("tried");
    assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Warm]);
    assert_eq!(scene.records.known_move(hash), None);
}

#[actix::test]
async fn intact_copies_outside_the_tier_of_a_content_go_after_the_walk_has_found_them() {
    let scene = Scene::new();
    let (instance, hash) = (scene.instance(), scene.stored(1));
    scene.copy(hash, StorageTier::Cold).await;
    instance.jobs.walk().await.expect("walked");
    instance.jobs.end_moves().await.expect("nothing is due");
    assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Hot, StorageTier::Cold], "readers may have it open");
    scene.clock.advance(Duration::from_secs(601));
    instance.jobs.end_moves().await.expect("removed");
    assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Hot]);
    assert_eq!(scene.records.known_move(hash), None);
    assert!(scene.read(hash).await.is_ok());
}

#[actix::test]
async fn a_surplus_copy_stays_where_it_is_the_only_good_one() {
    let scene = Scene::new();
    let (instance, hash) = (scene.instance(), scene.stored(1));
    let good = scene.read(hash).await.expect("good bytes");
    scene.copy(hash, StorageTier::Cold).await;
    instance.jobs.walk().await.expect("walked");
    scene.blobs.lose_copy(hash, StorageTier::Hot);
    scene.clock.advance(Duration::from_secs(601));
    instance.jobs.end_moves().await.expect("mended");
    assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Hot, StorageTier::Cold]);
    instance.jobs.end_moves().await.expect("removed");
    assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Hot]);
    assert_eq!(scene.read(hash).await.expect("readable"), good);
}

#[actix::test]
async fn one_instance_moves_a_content_and_no_instance_moves_damaged_content() {
    let scene = Scene::new();
    let (one, other, hash) = (scene.instance(), scene.instance(), scene.stored(1));
    let held = scene.blobs.script().hold("commit");
    let moving = actix::spawn({
        let mover = one.mover.clone();
        async move {
            let MoveStart::Ours(at) = mover.begin(hash, StorageTier::Cold).await.expect("begun") else {
                panic!("it is ours")
            };
            mover.carry_out(&at, None).await
        }
    });
    eventually("it is being copied", || scene.blobs.script().calls("commit").len() == 1).await;
    assert!(
        matches!(other.mover.begin(hash, StorageTier::Cold).await, Ok(MoveStart::Known(at)) if at.state == MoveState::Copying)
    );
    assert!(
        matches!(other.mover.begin(hash, StorageTier::Warm).await, Err(MoveError::Busy(at)) if at.to == StorageTier::Cold)
    );
    drop(held);
    moving.await.expect("no panic").expect("moved");

    let damaged = scene.stored(2);
    scene.rotten(damaged, StorageTier::Hot);
    assert!(matches!(one.move_to(damaged, StorageTier::Cold).await, Err(MoveError::Damaged)));
    assert_eq!(scene.records.known_move(damaged), None);
    assert!(one.store.quarantine().holds(damaged));
    assert!(matches!(
        one.move_to(ContentHash::from_bytes([9; 32]), StorageTier::Cold).await,
        Err(MoveError::NotStored)
    ));
}

#[actix::test]
async fn the_walk_verifies_everything_once_a_lap_and_goes_on_where_it_was() {
    let scene = Scene::new();
    let instance = scene.instance();
    let mut stored: Vec<_> = (0..5).map(|seed| scene.stored(seed)).collect();
    stored.sort_unstable();
    scene.rotten(stored[3], StorageTier::Hot);
    // Another instance had come this far when it died.
    let dead = NodeId::random().as_uuid();
    let progress = penstock_actors::model::TaskProgress {
        after: Some(stored[1]),
        lap_began_at: Some(scene.clock.now()),
        whole_lap_began_at: None,
    };
    let lease = scene.records.acquire(StorageTask::Walk.into(), dead, Duration::from_secs(60)).await;
    let lease = lease.expect("an answer").expect("free");
    scene.records.save_progress(StorageTask::Walk, lease, &progress).await.expect("stored");
    instance.jobs.walk().await.expect("not this one's turn");
    assert_eq!(scene.records.looks(), []);
    scene.clock.advance(Duration::from_secs(61));
    instance.jobs.walk().await.expect("walked");
    let seen: Vec<_> = scene.records.looks().iter().map(|look| look.content_hash).collect();
    assert_eq!(seen, stored[2..]);
    assert!(instance.store.quarantine().holds(stored[3]));
    instance.jobs.walk().await.expect("not due");
    assert_eq!(scene.records.looks().len(), 3);
    scene.clock.advance(31 * DAY);
    instance.jobs.walk().await.expect("walked");
    assert_eq!(scene.records.looks().len(), 3 + 5);
}

#[actix::test]
async fn content_goes_to_colder_tiers_by_its_last_use() {
    let scene = Scene::new();
    let instance = scene.instance();
    let (used, unused) = (scene.stored(1), scene.stored(2));
    let mut ages = Vec::new();
    let mut at = 0;
    // The used content is streamed on the first two of these days.
    for day in [29, 32, 62, 63, 91, 123] {
        scene.clock.advance((day - at) * DAY);
        at = day;
        if day <= 32 {
            instance.uses.used(used, scene.clock.now());
        }
        instance.jobs.flush_and_prune().await.expect("told");
        instance.jobs.lifecycle().await.expect("a lap");
        ages.push((day, scene.records.tier(used).expect("stored"), scene.records.tier(unused).expect("stored")));
    }
    use StorageTier::{Cold, Hot, Warm};
    assert_eq!(
        ages,
        [(29, Hot, Hot), (32, Hot, Warm), (62, Hot, Warm), (63, Warm, Warm), (91, Warm, Cold), (123, Cold, Cold)]
    );
    assert_eq!(scene.records.uses().len(), 1);
}

#[actix::test]
async fn an_instance_with_a_clock_an_hour_ahead_takes_over_by_the_databases_clock_alone() {
    let scene = Scene::new();
    let ahead = Arc::new(ManualClock::at(START));
    ahead.advance(Duration::from_secs(3600));
    let (right, fast) = (scene.instance(), scene.instance_by(&ahead));
    let (walked, moved) = (scene.stored(1), scene.stored(2));
    scene.blobs.lose_copy(walked, StorageTier::Hot);
    let MoveStart::Ours(_) = right.mover.begin(moved, StorageTier::Cold).await.expect("begun") else {
        panic!("it is ours")
    };
    let held = scene.records.script.hold("note_verifications");
    let looks = || scene.records.script.calls("note_verifications").len();
    let walking = actix::spawn({
        let jobs = right.jobs.clone();
        async move { jobs.walk().await }
    });
    eventually("the walk is under way", || looks() == 1).await;

    let steals = async || {
        fast.jobs.walk().await.expect("not this one's turn");
        fast.jobs.end_moves().await.expect("nothing is abandoned");
        let begun = fast.mover.begin(moved, StorageTier::Cold).await.expect("an answer");
        looks() > 1 || matches!(begun, MoveStart::Ours(_)) || scene.records.tier(moved) != Some(StorageTier::Hot)
    };
    assert!(!steals().await);
    // The right one dies in the middle of both. Their leases run out by the database's clock, and by no other.
    walking.abort();
    drop(held);
    ahead.advance(DAY);
    assert!(!steals().await);
    scene.clock.advance(Duration::from_secs(61));
    fast.jobs.walk().await.expect("walked");
    assert!(scene.records.looks().iter().any(|look| look.content_hash == moved));
    fast.jobs.end_moves().await.expect("moved");
    assert_eq!(scene.records.tier(moved), Some(StorageTier::Cold));
}

#[actix::test]
async fn leases_in_memory_keep_the_promises_of_their_port() {
    task_leases_suite::run(Arc::<MemoryRecords>::default()).await;
}
