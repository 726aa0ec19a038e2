//! The Janitor: it removes data that nothing refers to, and no other data, whichever step fails.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use penstock_actors::{
    ids::{NodeId, ProducerId},
    model::ContentMeta,
    node::janitor::{self, JanitorDeps, JanitorSettings, PassReport, Round},
    ports::ContentIndex as _,
    quota::node_epoch::NodeEpochState,
    testkit::{
        memory_blobs::hash_of,
        memory_installations::MemoryInstallations,
        script::{Fault, Script},
    },
};

use crate::rig::{self, World, aside, eventually};

fn deps(world: &World) -> JanitorDeps {
    let ports = world.ports();
    JanitorDeps {
        ledger: ports.ledger,
        upkeep: ports.upkeep,
        index: ports.index,
        changes: ports.changes,
        policies: ports.policies,
        trash: ports.trash,
        resumable: ports.resumable,
        upload_parts: ports.upload_parts,
        installations: ports.installations,
        clock: ports.clock,
        watch: ports.watch,
    }
}

fn settings() -> JanitorSettings {
    rig::settings().janitor
}

/// A node without an epoch in the ledger, which therefore reclaims no leases.
fn a_new_node() -> NodeEpochState {
    NodeEpochState::new(NodeId::random(), 1, Instant::now())
}

pub(crate) async fn pass(world: &World) -> PassReport {
    janitor::pass(&deps(world), &settings(), &a_new_node(), &mut Round::default()).await
}

async fn announce(world: &World, content: &'static [u8]) {
    let meta = ContentMeta {
        content_hash: hash_of(content),
        size_bytes: content.len() as u64,
        media_type: "text/plain".into(),
        stored_at: world.now(),
    };
    world.index.announce_content(&meta, ProducerId::next()).await.expect("announced");
}

/// The first two of these depend on no clock that could be wrong, or can be done too early.
const STEPS: [&str; 18] = [
    "prepare",
    "reclaim",
    "restore_receipts",
    "expire_receipts",
    "prune_windows",
    "drop_usage",
    "forget_client_keys",
    "forget_prices",
    "prune_nodes",
    "forget_policy_runs",
    "forget_policy_versions",
    "withdraw_announcements",
    "expire_uploads",
    "condemn_parts",
    "sweep",
    "trashed",
    "list",
    "unknown_content",
];

fn scripts(world: &World) -> [&Script; 5] {
    let World { ledger, policies, index, uploads, .. } = world;
    [&ledger.script, &policies.script, &index.script, &uploads.script, world.blobs.script()]
}

#[actix::test]
async fn a_step_that_fails_does_not_keep_the_others_from_running() {
    for failing in STEPS {
        let world = World::default();
        for script in scripts(&world) {
            script.next(failing, [Fault::Unavailable]);
        }
        let report = pass(&world).await;
        assert_eq!(report.failures, 1, "{failing} failed");
        for step in STEPS {
            let came = scripts(&world).iter().any(|script| !script.calls(step).is_empty());
            assert!(came || (failing, step) == ("list", "unknown_content"), "{step} ran although {failing} failed");
        }
        assert_eq!(pass(&world).await.failures, 0, "the next pass does the rest");
    }
}

#[actix::test]
async fn from_a_storage_whose_clock_is_off_nothing_is_removed_until_it_is_right() {
    for hours in [1, -1, 31 * 24, -31 * 24] {
        let world = World::default();
        world.blobs.put(&b"orphan"[..]);
        world.blobs.set_storage_time(world.now() + SignedDuration::from_hours(hours));
        let report = pass(&world).await;
        assert_eq!((report.orphans_trashed, report.failures), (0, 0), "{hours}");
        for call in ["sweep", "trashed", "list", "retire"] {
            assert!(world.blobs.script().calls(call).is_empty(), "{call} goes by ages");
        }
        assert!(!world.ledger.script.calls("expire_receipts").is_empty(), "the ledger has a clock of its own");
        world.blobs.script().next("clocks", [Fault::Unavailable]);
        world.blobs.set_storage_time(world.now() + SignedDuration::from_secs(2));
        let report = pass(&world).await;
        assert_eq!((report.orphans_trashed, report.failures), (0, 1), "a clock that cannot be read proves nothing");
        assert_eq!(pass(&world).await.orphans_trashed, 1);
    }
}

#[actix::test]
async fn an_unknown_blob_goes_to_the_trash_and_an_announced_blob_stays() {
    let world = World::default();
    world.blobs.put(&b"orphan"[..]);
    let known = world.blobs.put(&b"known"[..]);
    announce(&world, b"known").await;
    assert_eq!(janitor::dry_run(&deps(&world), &settings()).await.expect("looked").orphans_trashed, 1);
    assert_eq!(world.blobs.names().len(), 2, "a dry run removes nothing");
    assert_eq!(pass(&world).await.orphans_trashed, 1);
    assert_eq!((world.blobs.names(), world.blobs.retired()), (vec![known], 0));
}

#[actix::test]
async fn a_blob_that_is_announced_while_it_is_removed_comes_back() {
    let world = World::default();
    let hash = world.blobs.put(&b"late"[..]);
    let held = world.blobs.script().hold("retire");
    let passing = aside({
        let world = world.clone();
        async move { pass(&world).await }
    });
    eventually("it is out of sight", || world.blobs.retired() == 1).await;
    announce(&world, b"late").await;
    drop(held);
    assert_eq!(passing.await.expect("passed").orphans_trashed, 0);
    assert_eq!((world.blobs.names(), world.blobs.retired()), (vec![hash], 0));
}

#[actix::test]
async fn a_blob_that_cannot_be_looked_up_again_comes_back() {
    let world = World::default();
    let hash = world.blobs.put(&b"who knows"[..]);
    world.index.script.next("unknown_content", [None, Some(Fault::Unavailable)]);
    let report = pass(&world).await;
    assert_eq!((report.orphans_trashed, report.failures), (0, 1));
    assert_eq!((world.blobs.names(), world.blobs.retired()), (vec![hash], 0));
    assert_eq!(pass(&world).await.orphans_trashed, 1, "the next pass reads the index");
}

#[actix::test]
async fn passes_come_to_every_blob_of_a_large_store() {
    let world = World::default();
    let settings = JanitorSettings { step: 2, ..settings() };
    // More than one pass covers; the orphan has the last name of all.
    for n in 0_u32..90 {
        let bytes = n.to_be_bytes();
        world.blobs.put(bytes.to_vec());
        announce(&world, bytes.to_vec().leak()).await;
    }
    let orphan = (1000_u32..).map(|n| n.to_be_bytes()).find(|bytes| hash_of(bytes).as_bytes()[..1] == [0xff]);
    world.blobs.put(orphan.expect("a name that sorts last").to_vec());
    let (deps, mut round, mut removed) = (deps(&world), Round::default(), 0);
    for _ in 0..4 {
        removed += janitor::pass(&deps, &settings, &a_new_node(), &mut round).await.orphans_trashed;
    }
    assert_eq!((removed, world.blobs.names().len()), (1, 90));
}

#[actix::test]
async fn what_is_in_the_trash_comes_back_when_it_is_known_and_goes_when_its_time_is_over() {
    let world = World::default();
    // One instance, over some time.
    let instance = deps(&world);
    let pass = async || janitor::pass(&instance, &settings(), &a_new_node(), &mut Round::default()).await;
    let (known, unknown) = (world.blobs.put(&b"known again"[..]), world.blobs.put(&b"orphan"[..]));
    world.blobs.set_clock(world.now());
    assert_eq!(pass().await.orphans_trashed, 2);
    assert_eq!((world.blobs.names(), world.blobs.trash().len()), (vec![], 2));
    announce(&world, b"known again").await;
    world.index.complete_content(hash_of(b"known again")).await.expect("completed");
    let report = pass().await;
    assert_eq!((report.trash_recovered, report.trash_removed), (1, 0));
    assert_eq!((world.blobs.names(), world.blobs.trash()), (vec![known], vec![unknown]));
    world.clock.advance(settings().trash_ttl - Duration::from_secs(1));
    assert_eq!(pass().await.trash_removed, 0);
    world.clock.advance(Duration::from_secs(1));
    let report = pass().await;
    assert_eq!((report.trash_removed, report.trash_removed_bytes), (1, 6));
    assert_eq!((world.blobs.names(), world.blobs.trash()), (vec![known], vec![]));
}

#[actix::test]
async fn an_index_that_knows_little_of_the_store_empties_it_only_when_that_is_confirmed() {
    let world = World::default();
    for n in 0_u32..30 {
        world.blobs.put(n.to_be_bytes().to_vec());
        if n >= 12 {
            announce(&world, n.to_be_bytes().to_vec().leak()).await;
        }
    }
    let (deps, settings) = (deps(&world), JanitorSettings { step: 500, ..settings() });
    let mut round = Round::default();
    for _ in 0..3 {
        let report = janitor::pass(&deps, &settings, &a_new_node(), &mut round).await;
        assert_eq!((report.orphans_trashed, report.orphans_held), (0, 12));
    }
    assert_eq!(world.blobs.names().len(), 30);
    let confirmed = janitor::discard_orphans(&deps, &settings).await.expect("discarded");
    assert_eq!((confirmed.orphans_trashed, world.blobs.names().len(), world.blobs.trash().len()), (12, 18, 12));
}

#[actix::test]
async fn an_index_that_is_younger_than_a_blob_never_takes_it_for_garbage() {
    let mut world = World::default();
    world.blobs.put(&b"older than the index"[..]);
    world.blobs.set_clock(world.now());
    world.installations = Arc::new(MemoryInstallations::since(world.now() + Duration::from_secs(1)));
    let report = pass(&world).await;
    assert_eq!((report.orphans_trashed, report.orphans_held, report.failures), (0, 1, 0));
    world.blobs.set_clock(world.now() + Duration::from_secs(1));
    assert_eq!(pass(&world).await.orphans_trashed, 1, "as old as the index");
}

/// How often the irreversible steps were called.
fn removals(world: &World) -> usize {
    let scripts = [&world.ledger.script, &world.policies.script, &world.index.script, world.blobs.script()];
    STEPS[2..].iter().map(|step| scripts.iter().map(|script| script.calls(step).len()).sum::<usize>()).sum()
}

#[actix::test]
async fn a_clock_that_leaps_removes_and_expires_nothing_until_it_comes_back() {
    let month = Duration::from_secs(31 * 86_400);
    for restarts in [false, true] {
        let world = World::default();
        let (start, mut running) = (world.now(), deps(&world));
        janitor::pass(&running, &settings(), &a_new_node(), &mut Round::default()).await;
        let before = removals(&world);
        world.blobs.put(&b"orphan"[..]);
        world.clock.set(start + month);
        if restarts {
            running = deps(&world);
        }
        for _ in 0..3 {
            let report = janitor::pass(&running, &settings(), &a_new_node(), &mut Round::default()).await;
            assert_eq!((report.failures, removals(&world)), (0, before), "restarted: {restarts}");
            world.clock.advance(Duration::from_secs(60));
        }
        let reclaims = world.ledger.script.calls("reclaim").len();
        assert_eq!(reclaims, 4, "leases of dead nodes are reclaimed all the same");
        world.clock.set(start);
        assert_eq!(janitor::pass(&running, &settings(), &a_new_node(), &mut Round::default()).await.orphans_trashed, 1);
    }
}

#[actix::test]
async fn an_instance_whose_clock_is_not_the_databases_removes_nothing() {
    let world = World::default();
    for hours in [1, -1] {
        world.time.is_ahead_by(SignedDuration::from_hours(hours));
        assert_eq!(pass(&world).await.failures, 0);
        assert_eq!(removals(&world), 0);
    }
    world.time.is_ahead_by(SignedDuration::ZERO);
    pass(&world).await;
    assert!(removals(&world) > 0);
}

#[actix::test]
async fn without_the_databases_time_nothing_is_removed() {
    let world = World::default();
    world.time.script.next("time", [Fault::Unavailable]);
    assert_eq!(pass(&world).await.failures, 1);
    assert_eq!(removals(&world), 0);
}
