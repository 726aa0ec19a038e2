//! Invalidated values are gone: here, on other instances, and where a load had begun before.

use std::sync::atomic::Ordering::Relaxed;

use penstock_actors::ports::{CacheName, CacheTag, KeyPattern};

use crate::bench::{Bench, change, eventually, tag};

#[tokio::test]
async fn a_change_shows_with_the_next_read_here_and_from_the_shared_tier() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let (writer, fresh) = (bench.instance(), bench.instance());
    assert_eq!(writer.read("a").await, Some(1));
    eventually("it is shared", async || bench.shared.entries() == 1).await;
    writer.write("a", 2).await;
    assert_eq!(fresh.read("a").await, Some(2));
    assert_eq!(writer.read("a").await, Some(2));
    assert_eq!(writer.cache.counters().of(CacheName::Assets).outdated.load(Relaxed), 1);
}

#[tokio::test]
async fn other_instances_drop_what_they_hold_as_soon_as_they_hear() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let (writer, other) = (bench.instance(), bench.instance());
    assert_eq!(other.read("a").await, Some(1));
    writer.write("a", 2).await;
    other.cache.heard(Some(&change("a")));
    assert_eq!(other.read("a").await, Some(2));
    writer.write("a", 3).await;
    other.cache.heard(None);
    assert_eq!(other.read("a").await, Some(3));
}

#[tokio::test]
async fn an_instance_that_reads_a_change_invalidates_it_for_a_crashed_writer() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let [one, other, late] = [(); 3].map(|()| bench.instance());
    assert_eq!(one.read("a").await, Some(1));
    eventually("it is shared", async || bench.shared.entries() == 1).await;
    // Committed, and then nothing: only the log of changes has it.
    bench.source.set("a", 2);
    other.cache.heard(Some(&change("a")));
    // At once: the shared tier is not asked before it was invalidated.
    assert_eq!(other.read("a").await, Some(2));
    eventually("the shared tier is told", async || !bench.shared.script.calls("invalidate").is_empty()).await;
    assert_eq!(late.read("a").await, Some(2));
}

#[tokio::test]
async fn a_load_that_raced_a_change_answers_only_earlier_requests() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let [instance, other] = [(); 2].map(|()| bench.instance());
    let held = bench.source.script.hold("load");
    let early = tokio::spawn({
        let instance = instance.clone();
        async move { instance.read("a").await }
    });
    eventually("it has read the old value", async || bench.source.loads() == 1).await;
    instance.write("a", 2).await;
    let after = tokio::spawn({
        let instance = instance.clone();
        async move { instance.read("a").await }
    });
    // A read after the change begins a load of its own, which waits only for a bounded time for the lock of the old one.
    eventually("it loads for itself", async || bench.source.loads() == 2).await;
    drop(held);
    assert_eq!(after.await.expect("no panic"), Some(2));
    assert_eq!(early.await.expect("no panic"), Some(1));
    assert_eq!(instance.read("a").await, Some(2), "the late end of an old load replaces nothing");
    assert_eq!(other.read("a").await, Some(2), "nor is it shared");
}

#[tokio::test]
async fn a_look_into_the_shared_tier_that_raced_a_change_is_not_remembered() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let [writer, reader] = [(); 2].map(|()| bench.instance());
    assert_eq!(writer.read("a").await, Some(1));
    eventually("it is shared", async || bench.shared.entries() == 1).await;
    let held = bench.shared.script.hold("look");
    let early = tokio::spawn({
        let reader = reader.clone();
        async move { reader.read("a").await }
    });
    let looks = bench.shared.script.calls("look").len();
    eventually("it has looked", async || bench.shared.script.calls("look").len() > looks).await;
    writer.write("a", 2).await;
    reader.cache.heard(Some(&change("a")));
    drop(held);
    early.await.expect("no panic");
    assert_eq!(reader.read("a").await, Some(2));
}

#[tokio::test]
async fn all_reaches_every_entry_of_every_instance() {
    let bench = Bench::default();
    for name in ["a", "b", "c"] {
        bench.source.set(name, 1);
    }
    let [one, other] = [(); 2].map(|()| bench.instance());
    for name in ["a", "b", "c"] {
        assert_eq!(one.read(name).await, Some(1));
        bench.source.set(name, 2);
    }
    one.cache.invalidate(&[CacheTag::ALL]).await;
    for name in ["a", "b", "c"] {
        assert_eq!((one.read(name).await, other.read(name).await), (Some(2), Some(2)));
    }
}

#[tokio::test]
async fn a_pattern_removes_what_matches_from_both_tiers() {
    let bench = Bench::default();
    let instance = bench.instance();
    for name in ["film-1", "film-2", "book-1"] {
        bench.source.set(name, 1);
        instance.read(name).await;
        bench.source.set(name, 2);
    }
    eventually("they are shared", async || bench.shared.entries() == 3).await;
    let pattern = KeyPattern::parse("assets:film-*").expect("a pattern");
    assert_eq!(instance.cache.remove(&pattern).await.expect("removed"), 2);
    for (name, expected) in [("film-1", 2), ("film-2", 2), ("book-1", 1)] {
        assert_eq!(instance.read(name).await, Some(expected), "{name}");
    }
    assert_ne!(tag("film-1"), tag("film-2"));
}
