//! Instances of earlier versions beside this one: their statements, as their builds send them.

use std::time::Duration;

use penstock_actors::{
    ids::{ContentHash, NodeId},
    model::{StorageTask, StorageTier, TaskProgress},
    ports::{LeasedTask, LineageUpkeep as _, PortError, StorageMoves as _, StorageTasks as _, TaskLeases as _},
};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{TestDatabase, store};

const TTL: Duration = Duration::from_secs(3600);

/// The pruner's lease.
const LEASE_PRUNING: &str = "
    INSERT INTO lineage_leases AS l (task, holder, token, held_until)
    VALUES ('pruner', $1, 1, clock_timestamp() + make_interval(secs => $2))
    ON CONFLICT (task) DO UPDATE SET
        token = l.token + CASE WHEN l.holder = excluded.holder AND l.held_until > clock_timestamp() THEN 0 ELSE 1 END,
        holder = excluded.holder,
        held_until = excluded.held_until
    WHERE l.holder = excluded.holder OR l.held_until <= clock_timestamp()
    RETURNING token";

const RELEASE_PRUNING: &str =
    "UPDATE lineage_leases SET held_until = clock_timestamp() WHERE task = 'pruner' AND token = $1";

/// A task on stored content, by an instance whose clock is as far ahead.
const CLAIM_TASK: &str = "
    WITH taken AS (
        INSERT INTO storage_tasks AS t (task, node_id, held_until)
        VALUES ('walk', $1, now() + $2::text::interval + interval '60 seconds')
        ON CONFLICT (task) DO UPDATE SET node_id = excluded.node_id, held_until = excluded.held_until
        WHERE t.node_id = excluded.node_id OR t.held_until < now() + $2::text::interval
        RETURNING after_hash, lap_began_at, whole_lap_began_at
    )
    SELECT true AS is_ours, after_hash, lap_began_at, whole_lap_began_at FROM taken
    UNION ALL
    SELECT false, after_hash, lap_began_at, whole_lap_began_at
    FROM storage_tasks WHERE task = 'walk' AND NOT EXISTS (SELECT FROM taken)";

/// A move to the cold tier, without a lease.
const BEGIN_MOVE: &str = "
    INSERT INTO storage_moves AS m (content_hash, to_tier, state, since) VALUES ($1, 'cold', 'copying', now())
    ON CONFLICT (content_hash) DO UPDATE SET to_tier = excluded.to_tier, state = excluded.state, since = excluded.since
    WHERE m.state = 'copying' AND m.since < now() - interval '30 seconds'";

/// A content of 32 bytes of 7 in its name.
const STORED: &str = "
    INSERT INTO producers VALUES (gen_random_uuid(), 'producer', now());
    INSERT INTO overlay_storage_index (content_hash, size_bytes, media_type, state, producer_id, announced_at, stored_at)
    SELECT decode(repeat('07', 32), 'hex'), 1, 'text/plain', 'stored', producer_id, now(), now() FROM producers";

async fn claims(client: &Client, node: NodeId, ahead: &str) -> bool {
    let row = client.query_opt(CLAIM_TASK, &[&node.as_uuid(), &ahead]).await.expect("an answer");
    row.is_some_and(|row| row.get("is_ours"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pruner_of_an_earlier_version_and_this_one_never_prune_at_once() {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(database.settings()).await;
    let client = database.client().await;
    let (old, new) = (Uuid::new_v4(), Uuid::new_v4());
    let day = "2000-01-01".parse().expect("a day");
    let leased = async || client.query_opt(LEASE_PRUNING, &[&old, &3600.0]).await.expect("an answer");
    let token: i64 = leased().await.expect("free").get(0);
    assert_eq!(leased().await.expect("it is renewed").get::<_, i64>(0), token);
    assert_eq!(store.acquire(LeasedTask::PruneLineage, new, TTL).await.expect("an answer"), None);
    client.execute(RELEASE_PRUNING, &[&token]).await.expect("released");
    let lease = store.acquire(LeasedTask::PruneLineage, new, TTL).await.expect("an answer").expect("free");
    assert!(lease.token > token);
    assert!(leased().await.is_none());
    store.prune_runs(lease, day, 1).await.expect("held");
    client.query_one("SELECT penstock_hold_lease('pruner', $1)", &[&token]).await.expect_err("a late step");
    store.release(LeasedTask::PruneLineage, lease).await.expect("released");
    assert!(leased().await.expect("free").get::<_, i64>(0) > lease.token);
    assert!(matches!(store.prune_runs(lease, day, 1).await, Err(PortError::Fenced)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_of_an_earlier_version_steals_no_task_whatever_its_clock_says() {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(database.settings()).await;
    let client = database.client().await;
    let (old, new, walk) = (NodeId::random(), NodeId::random(), StorageTask::Walk);
    assert!(claims(&client, old, "0").await);
    assert!(claims(&client, old, "0").await, "it renews its claim");
    assert_eq!(store.acquire(walk.into(), new.as_uuid(), TTL).await.expect("an answer"), None);
    // It ends, and its time is over.
    client.batch_execute("UPDATE task_leases SET held_until = now()").await.expect("set");
    let lease = store.acquire(walk.into(), new.as_uuid(), TTL).await.expect("an answer").expect("free");
    let progress = TaskProgress { lap_began_at: Some(jiff::Timestamp::UNIX_EPOCH), ..TaskProgress::default() };
    store.save_progress(walk, lease, &progress).await.expect("stored");
    for ahead in ["0", "1 hour", "1 year"] {
        assert!(!claims(&client, old, ahead).await, "{ahead}");
        assert!(!claims(&client, NodeId::random(), ahead).await, "{ahead}");
    }
    store.save_progress(walk, lease, &progress).await.expect("the task is still this instance's");
    store.release(walk.into(), lease).await.expect("released");
    assert!(claims(&client, old, "0").await, "it may go on with what nobody has");
    assert_eq!(store.progress(walk).await.expect("an answer"), progress);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_of_an_earlier_version_goes_on_until_it_is_silent() {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(database.settings()).await;
    let client = database.client().await;
    client.batch_execute(STORED).await.expect("a content");
    let hash = ContentHash::from_bytes([7; 32]);
    let begins = async || client.execute(BEGIN_MOVE, &[&hash.as_bytes().as_slice()]).await.expect("an answer") == 1;
    assert!(begins().await);
    let begun = async || {
        let begun = store.begin_move(hash, StorageTier::Cold, Uuid::new_v4(), TTL).await;
        begun.expect("an answer").expect("stored").lease
    };
    assert_eq!(begun().await, None);
    assert_eq!(store.abandoned_moves(None, 10).await.expect("a page"), []);
    client.batch_execute("UPDATE storage_moves SET since = now() - interval '31 seconds'").await.expect("set");
    assert_eq!(store.abandoned_moves(None, 10).await.expect("a page").len(), 1);
    let lease = begun().await.expect("it is abandoned");
    assert!(!begins().await, "this instance gives signs of life as well");
    store.keep_move(hash, StorageTier::Cold, lease, TTL).await.expect("kept");
    store.switch_tier(hash, StorageTier::Cold, lease).await.expect("switched");
}
