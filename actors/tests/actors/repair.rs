//! Damage in several tiers at once, unreadable copies, and work on one content that does not block others.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use actix::Arbiter;
use penstock_actors::{
    clock::Clock as _,
    ids::ContentHash,
    model::{Finding, MoveState, StorageTier, VerificationKind},
    ports::{PortError, QuarantineList as _, StorageMoves as _},
    storage::{
        maintenance::{MaintenanceSettings, StorageMaintenance},
        mover::{MoveError, MoveStart},
    },
    testkit::script::Fault,
};
use uuid::Uuid;

use crate::{
    rig::eventually,
    storage::{DAY, SIZE, Scene, findings, settings},
};

impl Scene {
    /// Content that belongs in the cold tier, where it is damaged; the hot tier has its bytes, in a copy that readers
    /// cannot use.
    async fn last_bytes_in_the_wrong_tier(&self, seed: u8) -> ContentHash {
        let hash = self.stored(seed);
        self.copy(hash, StorageTier::Cold).await;
        self.records.put(hash, SIZE as u64, StorageTier::Cold, self.clock.now());
        self.rotten(hash, StorageTier::Cold);
        self.blobs.damage_list(hash, StorageTier::Hot);
        hash
    }

    /// A content that was moved to the cold tier, and whose old copy may be removed.
    async fn moved_away(&self, seed: u8) -> ContentHash {
        let hash = self.stored(seed);
        self.instance().move_to(hash, StorageTier::Cold).await.expect("moved");
        hash
    }
}

#[actix::test]
async fn the_last_good_bytes_stay_until_the_contents_own_copy_is_whole() {
    for call in ["create_copy", "read_at", "write", "commit", "open_copy", "remove_copy"] {
        for nth in 0..6 {
            let scene = Scene::new();
            let (instance, hash) = (scene.instance(), scene.last_bytes_in_the_wrong_tier(1).await);
            scene.blobs.script().next(call, std::iter::repeat_n(None, nth).chain([Some(Fault::Unavailable)]));
            let looked = instance.verifier.verify(hash, VerificationKind::Walk, None).await;
            scene.blobs.script().end();
            let what = format!("{call} {nth} {:?}", looked.map(drop));
            let verified = instance.verify(hash).await;
            assert!(!verified.quarantined, "{what}: {:?}", findings(&verified));
            assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Cold], "{what}");
            assert_eq!(findings(&instance.verify(hash).await), [(StorageTier::Cold, Finding::Intact)], "{what}");
            assert!(!instance.store.quarantine().holds(hash), "{what}");
        }
    }
}

#[actix::test]
async fn written_and_removed_rows_are_reported() {
    let scene = Scene::new();
    let (instance, hash) = (scene.instance(), scene.last_bytes_in_the_wrong_tier(1).await);
    let verified = instance.verify(hash).await;
    assert_eq!(findings(&verified), [(StorageTier::Hot, Finding::Corrupt), (StorageTier::Cold, Finding::Corrupt)]);
    assert_eq!((&*verified.repaired, &*verified.removed), (&[StorageTier::Cold][..], &[StorageTier::Hot][..]));
}

#[actix::test]
async fn a_content_that_is_moved_while_it_is_mended_keeps_the_copy_that_it_has_now() {
    let scene = Scene::new();
    let (instance, hash) = (scene.instance(), scene.stored(1));
    scene.copy(hash, StorageTier::Warm).await;
    scene.rotten(hash, StorageTier::Warm);
    // While this instance records its finding for the warm tier, another one moves the content there.
    let held = scene.records.script.hold("note_verifications");
    let looking = actix::spawn({
        let verifier = instance.verifier.clone();
        async move { verifier.verify(hash, VerificationKind::Walk, None).await }
    });
    eventually("it has looked", || scene.records.script.calls("note_verifications").len() == 1).await;
    let good = scene.read(hash).await.expect("good bytes");
    scene.copy(hash, StorageTier::Warm).await;
    let begun =
        scene.records.begin_move(hash, StorageTier::Warm, Uuid::new_v4(), DAY).await.expect("begun").expect("stored");
    let lease = begun.lease.expect("it is this caller's");
    scene.records.switch_tier(hash, StorageTier::Warm, lease).await.expect("switched");
    scene.blobs.lose_copy(hash, StorageTier::Hot);
    drop(held);
    let verified = looking.await.expect("no panic").expect("looked").expect("stored");
    assert_eq!((findings(&verified), verified.quarantined), (vec![(StorageTier::Warm, Finding::Intact)], false));
    assert_eq!(scene.read(hash).await.expect("readable"), good);
    assert!(!instance.store.quarantine().holds(hash));
}

#[actix::test]
async fn a_lost_content_that_comes_again_while_it_is_looked_for_is_not_kept_from_readers() {
    let scene = Scene::new();
    let (instance, hash) = (scene.instance(), scene.stored(1));
    let good = scene.read(hash).await.expect("good bytes");
    scene.blobs.lose_copy(hash, StorageTier::Hot);
    let held = scene.records.script.hold("quarantine");
    let looking = actix::spawn({
        let verifier = instance.verifier.clone();
        async move { verifier.verify(hash, VerificationKind::Read, None).await }
    });
    eventually("it is missed", || scene.records.script.calls("quarantine").len() == 1).await;
    scene.blobs.put(good);
    drop(held);
    let verified = looking.await.expect("no panic").expect("looked").expect("stored");
    assert_eq!((findings(&verified), verified.quarantined), (vec![(StorageTier::Hot, Finding::Intact)], false));
    assert!(!instance.store.quarantine().holds(hash));
}

#[actix::test]
async fn a_copy_that_cannot_be_read_is_written_anew_from_another_tier() {
    let scene = Scene::new();
    let (instance, hash) = (scene.instance(), scene.stored(1));
    let good = scene.read(hash).await.expect("good bytes");
    let open = instance.store.open(hash, SIZE as u64).await.expect("opened");
    scene.copy(hash, StorageTier::Cold).await;
    scene.blobs.refuse_reads(hash, StorageTier::Hot);
    let verified = instance.verify(hash).await;
    assert_eq!((&*verified.repaired, verified.quarantined), (&[StorageTier::Hot][..], false));
    assert_eq!(findings(&verified), [(StorageTier::Cold, Finding::Intact)], "a copy that was not read has no finding");
    assert_eq!(scene.read(hash).await.expect("readable"), good);
    assert!(!Arc::ptr_eq(&open, &instance.store.open(hash, SIZE as u64).await.expect("opened")));
}

#[actix::test]
async fn a_copy_that_cannot_be_read_and_has_no_good_other_is_left_as_it_is() {
    for has_other in [false, true] {
        let scene = Scene::new();
        let (instance, hash) = (scene.instance(), scene.stored(1));
        if has_other {
            scene.copy(hash, StorageTier::Warm).await;
            scene.rotten(hash, StorageTier::Warm);
        }
        scene.blobs.refuse_reads(hash, StorageTier::Hot);
        let before = scene.blobs.tiers_of(hash);
        for kind in [VerificationKind::OnDemand, VerificationKind::Walk] {
            let looked = instance.verifier.verify(hash, kind, None).await;
            assert!(matches!(looked, Err(PortError::Unavailable { .. })), "{looked:?}");
        }
        let moved = instance.move_to(hash, StorageTier::Cold).await;
        assert!(matches!(moved, Err(MoveError::Port(PortError::Unavailable { .. }))), "{moved:?}");
        assert!(!instance.store.quarantine().holds(hash));
        assert_eq!(scene.blobs.tiers_of(hash), before);
    }
}

#[actix::test]
async fn a_content_is_not_taken_for_lost_while_a_tier_is_away_that_may_have_it() {
    let scene = Scene::new();
    let (instance, hash) = (scene.instance(), scene.stored(1));
    scene.copy(hash, StorageTier::Cold).await;
    scene.blobs.lose_copy(hash, StorageTier::Hot);
    scene.blobs.refuse_reads(hash, StorageTier::Cold);
    let looked = instance.verifier.verify(hash, VerificationKind::Walk, None).await;
    assert!(matches!(looked, Err(PortError::Unavailable { .. })), "{looked:?}");
    assert!(!instance.store.quarantine().holds(hash));
}

#[actix::test]
async fn a_reader_that_finds_a_file_unreadable_sets_off_a_look_and_opens_it_anew() {
    let scene = Scene::new();
    let (instance, hash) = (scene.instance(), scene.stored(1));
    scene.copy(hash, StorageTier::Cold).await;
    scene.blobs.refuse_reads(hash, StorageTier::Hot);
    let open = instance.store.open(hash, SIZE as u64).await.expect("opened");
    assert!(instance.store.read(&open, 0..10, 10).await.is_err());
    assert_eq!(instance.store.next_suspect().await, hash);
    assert_eq!(instance.verify(hash).await.repaired, [StorageTier::Hot]);
    let open = instance.store.open(hash, SIZE as u64).await.expect("opened");
    instance.store.read(&open, 0..10, 10).await.expect("read");
}

#[actix::test]
async fn what_a_reader_finds_damaged_is_mended_however_slow_the_walk_is() {
    let scene = Scene::new();
    let (instance, hash) = (scene.instance(), scene.stored(1));
    scene.copy(hash, StorageTier::Cold).await;
    scene.rotten(hash, StorageTier::Hot);
    // At this rate a verification would take weeks.
    let settings = MaintenanceSettings { verify_rate: Some(1), ..settings() };
    let jobs = StorageMaintenance::start(instance.deps.clone(), settings, &Arbiter::current());
    let open = instance.store.open(hash, SIZE as u64).await.expect("opened");
    assert!(instance.store.read(&open, SIZE as u64 - 10..SIZE as u64, 10).await.is_err());
    eventually("it is mended", || instance.verifier.counters().repaired.load(Relaxed) == 1).await;
    eventually("readers get it", || !instance.store.quarantine().holds(hash)).await;
    drop(jobs);
}

#[actix::test]
async fn content_moves_away_from_a_copy_that_cannot_be_read() {
    let scene = Scene::new();
    let (instance, hash) = (scene.instance(), scene.stored(1));
    let good = scene.read(hash).await.expect("good bytes");
    scene.copy(hash, StorageTier::Warm).await;
    scene.blobs.refuse_reads(hash, StorageTier::Hot);
    instance.move_to(hash, StorageTier::Cold).await.expect("moved");
    assert_eq!(scene.records.tier(hash), Some(StorageTier::Cold));
    scene.blobs.lose_copy(hash, StorageTier::Hot);
    scene.blobs.lose_copy(hash, StorageTier::Warm);
    assert_eq!(scene.read(hash).await.expect("readable"), good);
}

#[actix::test]
async fn a_move_without_free_space_does_not_stop_others_from_freeing_it() {
    let scene = Scene::new();
    let instance = scene.instance();
    // Moves with only their old copies left, and an abandoned one that fails for lack of space.
    let done = [scene.moved_away(1).await, scene.moved_away(2).await];
    let stuck = scene.stored(3);
    let MoveStart::Ours(_) = instance.mover.begin(stuck, StorageTier::Warm).await.expect("begun") else {
        panic!("it is ours")
    };
    scene.clock.advance(Duration::from_secs(601));
    scene.blobs.script().next("write", [Fault::Full]);
    // And the removal for the first of the others fails this time.
    scene.blobs.script().next("remove_copy", [Fault::Unavailable]);
    assert!(instance.jobs.end_moves().await.is_err());
    let cleared: Vec<_> = done.iter().filter(|&&hash| scene.blobs.tiers_of(hash) == [StorageTier::Cold]).collect();
    assert_eq!(cleared.len(), 1);
    assert_eq!(scene.records.known_move(stuck).map(|at| at.state), Some(MoveState::Copying));
    scene.clock.advance(Duration::from_secs(31));
    instance.jobs.end_moves().await.expect("there is room now");
    assert!(done.iter().all(|&hash| scene.blobs.tiers_of(hash) == [StorageTier::Cold]));
    assert_eq!(scene.records.tier(stuck), Some(StorageTier::Warm));
}

#[actix::test]
async fn old_copies_are_not_removed_for_a_move_that_has_turned_round() {
    let scene = Scene::new();
    let instance = scene.instance();
    let hash = scene.moved_away(1).await;
    let listed = scene.records.known_move(hash).expect("its old copy is there");
    // After it was listed, it went on to another tier.
    let MoveStart::Ours(at) = instance.mover.begin(hash, StorageTier::Warm).await.expect("begun") else {
        panic!("it is ours")
    };
    scene.copy(hash, StorageTier::Warm).await;
    assert!(instance.mover.clear(&listed).await.expect("nothing to do"));
    assert_eq!(scene.blobs.tiers_of(hash), [StorageTier::Hot, StorageTier::Warm, StorageTier::Cold]);
    instance.mover.carry_out(&at, None).await.expect("moved");
    assert_eq!(scene.records.tier(hash), Some(StorageTier::Warm));
}

#[actix::test]
async fn all_that_is_in_quarantine_is_looked_at_again_whatever_is_wrong_with_one() {
    let scene = Scene::new();
    let instance = scene.instance();
    let mut kept = Vec::new();
    // More than one page of them, repaired behind the node's back.
    for number in 0..501 {
        let bytes = format!("content {number}");
        let size = bytes.len() as u64;
        let hash = scene.blobs.put(bytes);
        scene.records.put(hash, size, StorageTier::Hot, scene.clock.now());
        assert!(scene.records.quarantine(hash, scene.clock.now()).await.expect("kept"));
        kept.push(hash);
    }
    kept.sort_unstable();
    instance.store.quarantine().load(&*scene.records).await.expect("read");
    scene.blobs.refuse_reads(kept[0], StorageTier::Hot);
    instance.jobs.recheck().await.expect("looked");
    let left = scene.records.quarantined(None, 10).await.expect("a page");
    assert_eq!(left.iter().map(|one| one.content_hash).collect::<Vec<_>>(), kept[..1]);
}
