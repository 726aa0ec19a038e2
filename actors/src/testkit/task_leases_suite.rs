//! The promises of every [`TaskLeases`], and of the progress that is stored under a lease.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    ids::ContentHash,
    model::{StorageTask, TaskProgress},
    ports::{LeasedTask, PortError, PortResult, StorageTasks, TaskLease, TaskLeases},
};

const TTL: Duration = Duration::from_secs(3600);

/// Runs the whole suite.
///
/// # Panics
/// When a promise is broken.
pub async fn run<S: TaskLeases + StorageTasks>(store: Arc<S>) {
    let store = &*store;
    a_task_has_one_holder_until_it_gives_the_lease_back(store).await;
    a_lease_that_has_run_out_goes_to_another_holder_with_another_token(store).await;
    of_several_that_ask_at_once_one_has_the_lease(store).await;
    leases_of_other_tasks_are_apart(store).await;
    progress_is_stored_under_the_lease_alone_and_outlives_its_holder(store).await;
}

async fn taken<S: TaskLeases>(store: &S, task: StorageTask, holder: Uuid, ttl: Duration) -> TaskLease {
    let lease = store.acquire(task.into(), holder, ttl).await.expect("an answer").expect("free");
    assert_eq!(lease.holder, holder);
    lease
}

async fn given_back<S: TaskLeases>(store: &S, task: StorageTask, lease: TaskLease) {
    store.release(task.into(), lease).await.expect("released");
}

async fn a_task_has_one_holder_until_it_gives_the_lease_back<S: TaskLeases>(store: &S) {
    let (task, one, other) = (StorageTask::Walk, Uuid::new_v4(), Uuid::new_v4());
    let lease = taken(store, task, one, TTL).await;
    assert_eq!(store.acquire(task.into(), other, TTL).await.expect("an answer"), None);
    assert_eq!(taken(store, task, one, TTL).await, lease, "its holder renews it");
    given_back(store, task, lease).await;
    let next = taken(store, task, other, TTL).await;
    assert_ne!(next.token, lease.token);
    given_back(store, task, lease).await;
    let forged = TaskLease { holder: one, ..next };
    given_back(store, task, forged).await;
    assert_eq!(store.acquire(task.into(), one, TTL).await.expect("an answer"), None, "they gave nothing back");
    given_back(store, task, next).await;
}

async fn a_lease_that_has_run_out_goes_to_another_holder_with_another_token<S: TaskLeases>(store: &S) {
    let (task, one, other) = (StorageTask::Walk, Uuid::new_v4(), Uuid::new_v4());
    let dead = taken(store, task, one, Duration::from_millis(50)).await;
    let next = loop {
        if let Some(lease) = store.acquire(task.into(), other, TTL).await.expect("an answer") {
            break lease;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(next.token > dead.token);
    assert_eq!(store.acquire(task.into(), one, TTL).await.expect("an answer"), None);
    given_back(store, task, next).await;
    // A holder whose own lease has run out, and that nobody replaced, gets another token as well.
    let lapsed = taken(store, task, one, Duration::ZERO).await;
    let anew = taken(store, task, one, TTL).await;
    assert!(anew.token > lapsed.token);
    given_back(store, task, anew).await;
}

async fn of_several_that_ask_at_once_one_has_the_lease<S: TaskLeases>(store: &S) {
    let task = StorageTask::Walk;
    for _ in 0..10 {
        let asked = (0..8).map(|_| store.acquire(task.into(), Uuid::new_v4(), TTL));
        let leases = join_all(asked).await.into_iter().filter_map(|lease| lease.expect("an answer"));
        let leases: Vec<_> = leases.collect();
        assert_eq!(leases.len(), 1, "{leases:?}");
        given_back(store, task, leases[0]).await;
    }
}

async fn leases_of_other_tasks_are_apart<S: TaskLeases>(store: &S) {
    let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
    let walk = taken(store, StorageTask::Walk, one, TTL).await;
    let lifecycle = taken(store, StorageTask::Lifecycle, other, TTL).await;
    let pruning = store.acquire(LeasedTask::PruneLineage, other, TTL).await.expect("an answer").expect("free");
    given_back(store, StorageTask::Lifecycle, lifecycle).await;
    store.release(LeasedTask::PruneLineage, pruning).await.expect("released");
    assert_eq!(store.acquire(StorageTask::Walk.into(), other, TTL).await.expect("an answer"), None);
    given_back(store, StorageTask::Walk, walk).await;
}

fn fenced<T: std::fmt::Debug>(result: &PortResult<T>) {
    assert!(matches!(result, Err(PortError::Fenced)), "{result:?}");
}

async fn progress_is_stored_under_the_lease_alone_and_outlives_its_holder<S: TaskLeases + StorageTasks>(store: &S) {
    let (task, one, other) = (StorageTask::Walk, Uuid::new_v4(), Uuid::new_v4());
    let progress = |byte: u8| TaskProgress {
        after: Some(ContentHash::from_bytes([byte; 32])),
        lap_began_at: Some("2026-01-02T03:04:05.678901Z".parse::<Timestamp>().expect("a time")),
        whole_lap_began_at: None,
    };
    assert_eq!(store.progress(StorageTask::Moves).await.expect("an answer"), TaskProgress::default());
    let dead = taken(store, task, one, TTL).await;
    store.save_progress(task, dead, &progress(1)).await.expect("stored");
    store.save_progress(task, dead, &progress(2)).await.expect("stored");
    assert_eq!(store.progress(task).await.expect("an answer"), progress(2), "every instance sees it");
    for forged in [TaskLease { holder: other, ..dead }, TaskLease { token: dead.token + 1, ..dead }] {
        fenced(&store.save_progress(task, forged, &progress(3)).await);
    }
    fenced(&store.save_progress(StorageTask::Lifecycle, dead, &progress(3)).await);
    taken(store, task, one, Duration::ZERO).await;
    fenced(&store.save_progress(task, dead, &progress(3)).await);
    let next = taken(store, task, other, TTL).await;
    fenced(&store.save_progress(task, dead, &progress(3)).await);
    assert_eq!(store.progress(task).await.expect("an answer"), progress(2), "the task goes on where it was left");
    let whole = TaskProgress { after: None, whole_lap_began_at: progress(1).lap_began_at, ..progress(1) };
    store.save_progress(task, next, &whole).await.expect("stored");
    assert_eq!(store.progress(task).await.expect("an answer"), whole);
    given_back(store, task, next).await;
}
