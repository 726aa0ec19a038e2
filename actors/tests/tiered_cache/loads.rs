//! One load for a key, however many requests come and leave, and what is remembered of it.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::future::join_all;
use penstock_actors::{
    cache::TieredSettings,
    ports::{CacheName, PortError},
    testkit::script::Fault,
};

use crate::bench::{Bench, Instance, NEGATIVE, STALE, TTL, eventually, settings, tag};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_concurrent_requests_for_a_cold_key_cause_one_load() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let instance = bench.instance();
    let held = bench.source.script.hold("load");
    let asking: Vec<_> = (0..1000)
        .map(|_| {
            let instance = instance.clone();
            tokio::spawn(async move { instance.read("a").await })
        })
        .collect();
    let missed = || instance.cache.counters().of(CacheName::Assets).memory.misses.load(Relaxed);
    eventually("all have asked", async || missed() == 1000).await;
    drop(held);
    for answer in join_all(asking).await {
        assert_eq!(answer.expect("no panic"), Some(1));
    }
    assert_eq!(bench.source.loads(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_bound_on_loads_a_miss_is_refused_and_what_is_in_memory_is_served() {
    const LOADS: u64 = 1024;
    let bench = Bench::default();
    bench.source.set("a", 1);
    let instance = bench.instance();
    assert_eq!(instance.read("a").await, Some(1));
    let held = bench.source.script.hold("load");
    let loading: Vec<_> = (0..LOADS)
        .map(|n| {
            let instance = instance.clone();
            tokio::spawn(async move { instance.read(&format!("cold {n}")).await })
        })
        .collect();
    eventually("all loads are under way", async || bench.source.loads() == 1 + LOADS).await;
    let refused = instance.try_read("one more").await;
    assert!(matches!(refused, Err(PortError::Unavailable { .. })), "{refused:?}");
    assert_eq!(instance.read("a").await, Some(1));
    drop(held);
    for answer in join_all(loading).await {
        assert_eq!(answer.expect("no panic"), None);
    }
    assert_eq!(instance.read("one more").await, None, "there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_several_instances_a_cold_key_is_loaded_once() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    // However slow the machine is: the others wait for as long as the load takes.
    let patient = TieredSettings { patience: Duration::from_secs(30), ..settings() };
    let instances: Vec<_> = (0..5).map(|_| bench.instance_with(patient, true)).collect();
    let held = bench.source.script.hold("load");
    let asking: Vec<_> = (0..1000)
        .map(|n| {
            let instance = instances[n % 5].clone();
            tokio::spawn(async move { instance.read("a").await })
        })
        .collect();
    eventually("every instance has asked for the lock", async || bench.shared.script.calls("begin_load").len() == 5)
        .await;
    drop(held);
    for answer in join_all(asking).await {
        assert_eq!(answer.expect("no panic"), Some(1));
    }
    assert_eq!(bench.source.loads(), 1);
}

#[tokio::test]
async fn a_request_that_leaves_does_not_cancel_the_load_of_the_others() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let instance = bench.instance();
    let held = bench.source.script.hold("load");
    let first = tokio::spawn({
        let instance = instance.clone();
        async move { instance.read("a").await }
    });
    eventually("it loads", async || bench.source.loads() == 1).await;
    let second = tokio::spawn({
        let instance = instance.clone();
        async move { instance.read("a").await }
    });
    first.abort();
    assert!(first.await.expect_err("it left").is_cancelled());
    drop(held);
    assert_eq!(second.await.expect("no panic"), Some(1));
    assert_eq!(bench.source.loads(), 1);
}

#[tokio::test]
async fn a_load_that_fails_is_reported_to_all_and_not_remembered() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let instance = bench.instance();
    bench.source.script.next("load", [Fault::Full]);
    let answers = join_all((0..10).map(|_| instance.try_read("a"))).await;
    for answer in answers {
        assert!(matches!(answer, Err(PortError::Full(_))), "{answer:?}");
    }
    assert_eq!(instance.read("a").await, Some(1));
    assert_eq!(bench.source.loads(), 2);
}

#[tokio::test]
async fn a_load_that_panics_fails_only_the_requests_that_wait_for_it() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let instance = bench.instance();
    let load = || async { panic!("a bug in a load") };
    let answer = instance.cache.get::<u64, _, _>(CacheName::Assets, "a", &[tag("a")], load).await;
    assert!(matches!(answer, Err(PortError::Unavailable { .. })), "{answer:?}");
    tokio::time::pause();
    assert_eq!(instance.read("a").await, Some(1));
}

#[tokio::test]
async fn absence_is_cached_briefly_and_only_on_this_instance() {
    let bench = Bench::default();
    let instance = bench.instance();
    assert_eq!(instance.read("a").await, None);
    assert_eq!(instance.read("a").await, None);
    assert_eq!(bench.source.loads(), 1);
    assert_eq!(bench.shared.entries(), 0, "guesses must not fill the shared tier");
    bench.source.set("a", 1);
    bench.clock.advance(NEGATIVE);
    assert_eq!(instance.read("a").await, Some(1));
}

#[tokio::test]
async fn a_value_past_its_time_is_served_while_one_refresh_runs() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let instance = bench.instance();
    assert_eq!(instance.read("a").await, Some(1));
    eventually("it is shared", async || bench.shared.entries() == 1).await;
    bench.source.set("a", 2);
    bench.clock.advance(TTL);
    let held = bench.source.script.hold("load");
    for _ in 0..10 {
        assert_eq!(instance.read("a").await, Some(1), "no read waits for a refresh");
    }
    // Another instance has nothing in memory, and serves the shared value.
    let other = bench.instance();
    assert_eq!(other.read("a").await, Some(1));
    eventually("a refresh runs", async || bench.source.loads() == 2).await;
    drop(held);
    eventually("it is refreshed", async || instance.read("a").await == Some(2)).await;
    eventually("it is refreshed elsewhere", async || other.read("a").await == Some(2)).await;
    assert_eq!(bench.source.loads(), 2);
    assert!(instance.cache.counters().of(CacheName::Assets).stale.load(Relaxed) >= 10);
}

#[tokio::test]
async fn a_short_lived_value_is_loaded_once_for_all_instances_when_it_expires() {
    const SHORT: Duration = Duration::from_secs(5);
    let bench = Bench::default();
    bench.source.set("a", 1);
    let (one, other) = (bench.instance(), bench.instance());
    let read = async |instance: &Instance| {
        let source = Arc::clone(&bench.source);
        let load = move || async move { source.load("a").await };
        // Odd values are good for a short time.
        let good_for = |value: &u64| if value % 2 == 1 { SHORT } else { Duration::MAX };
        let value = instance.cache.get_with_ttl(CacheName::Assets, "a", &[tag("a")], good_for, load).await;
        *value.expect("loaded").expect("a value")
    };
    assert_eq!(read(&one).await, 1);
    eventually("it is shared", async || bench.shared.entries() == 1).await;
    assert_eq!((read(&one).await, read(&other).await, bench.source.loads()), (1, 1, 1));
    bench.clock.advance(SHORT);
    bench.source.set("a", 2);
    let held = bench.source.script.hold("load");
    for _ in 0..10 {
        assert_eq!((read(&one).await, read(&other).await), (1, 1), "no read waits for a refresh");
    }
    eventually("a refresh runs", async || bench.source.loads() == 2).await;
    drop(held);
    eventually("it is refreshed", async || read(&one).await == 2 && read(&other).await == 2).await;
    bench.clock.advance(TTL / 2);
    assert_eq!(
        (read(&one).await, read(&other).await, bench.source.loads()),
        (2, 2, 2),
        "this one has the cache's own time to live"
    );
}

#[tokio::test]
async fn past_its_stale_time_a_value_is_gone() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let instance = bench.instance();
    assert_eq!(instance.read("a").await, Some(1));
    bench.source.set("a", 2);
    bench.clock.advance(TTL + STALE);
    assert_eq!(instance.read("a").await, Some(2));
}

#[tokio::test]
async fn a_refresh_that_fails_is_tried_again_while_the_old_value_serves() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let instance = bench.instance();
    assert_eq!(instance.read("a").await, Some(1));
    bench.source.set("a", 2);
    bench.clock.advance(TTL);
    bench.source.script.next("load", [Fault::Unavailable]);
    assert_eq!(instance.read("a").await, Some(1));
    let failed = || instance.cache.counters().of(CacheName::Assets).load_errors.load(Relaxed);
    eventually("the refresh has failed", async || failed() == 1).await;
    assert_eq!(instance.read("a").await, Some(1));
    assert_eq!(bench.source.loads(), 2, "it is not tried with each read");
    bench.clock.advance(Duration::from_secs(1));
    eventually("it is refreshed", async || instance.read("a").await == Some(2)).await;
}

#[tokio::test]
async fn what_another_instance_has_loaded_is_not_loaded_again() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let (one, other) = (bench.instance(), bench.instance());
    assert_eq!(one.read("a").await, Some(1));
    eventually("it is shared", async || bench.shared.entries() == 1).await;
    assert_eq!(other.read("a").await, Some(1));
    assert_eq!(other.read("a").await, Some(1));
    assert_eq!(bench.source.loads(), 1);
    let counters = other.cache.counters().of(CacheName::Assets);
    assert_eq!((counters.shared.hits.load(Relaxed), counters.memory.hits.load(Relaxed)), (1, 1));
}

#[tokio::test]
async fn a_cache_without_a_time_to_live_is_off() {
    let bench = Bench::default();
    let instance = bench.instance();
    for expected in 1..=3_u64 {
        let load = move || async move { Ok(Some(expected)) };
        let value = instance.cache.get(CacheName::Policies, "a", &[tag("a")], load).await.expect("loaded");
        assert_eq!(value.as_deref(), Some(&expected));
    }
    assert_eq!(bench.shared.entries(), 0);
}

#[tokio::test]
async fn a_value_that_cannot_be_read_any_more_is_loaded_anew() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let older = bench.instance();
    let load = || async { Ok(Some("another form".to_owned())) };
    older.cache.get(CacheName::Assets, "a", &[tag("a")], load).await.expect("loaded");
    eventually("it is shared", async || bench.shared.entries() == 1).await;
    assert_eq!(bench.instance().read("a").await, Some(1));
    // Within one process it is a mistake, and reported as one.
    assert!(matches!(older.try_read("a").await, Err(PortError::Rejected { .. })));
}

#[tokio::test]
async fn memory_stays_within_its_weight_and_is_counted() {
    const MOST: u64 = 200_000;
    let bench = Bench::default();
    let instance = bench.instance_with(TieredSettings { memory: MOST, ..settings() }, false);
    for n in 0..2000 {
        let name = n.to_string();
        let load = || async { Ok(Some("x".repeat(1000))) };
        instance.cache.get(CacheName::Listings, &name, &[tag(&name)], load).await.expect("loaded");
    }
    instance.cache.settle();
    let counters = instance.cache.counters().of(CacheName::Listings);
    let (entries, bytes) = (counters.entries.load(Relaxed), counters.bytes.load(Relaxed));
    assert!((MOST / 2..=MOST).contains(&bytes), "{bytes} bytes");
    assert!(bytes / entries > 1000 && bytes / entries < 1500, "{bytes} bytes in {entries} entries");
    assert_eq!(counters.evictions.load(Relaxed), 2000 - entries);
}
