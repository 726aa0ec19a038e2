//! The promises of every [`SharedCache`].
//!
//! Times to live are short and in whole seconds, because a store with a clock of its own can only be waited for.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    ids::{ReceiptId, VersionId},
    ports::{CacheLookup, CacheName, CacheTag, EntryKey, KeyPattern, PopularityList, SharedCache, SharedValue},
};

const TTL: Duration = Duration::from_secs(3);
/// Less than [`TTL`]; twice this is more.
const PART: Duration = Duration::from_secs(2);

/// Runs the whole suite. `advance` lets time pass: it moves the clock that the cache was given, or waits.
///
/// # Panics
/// When a promise is broken.
pub async fn run(cache: Arc<dyn SharedCache>, advance: impl AsyncFn(Duration)) {
    let (cache, advance) = (&*cache, &advance);
    what_is_kept_is_found_with_all_its_bytes(cache).await;
    a_value_is_there_only_under_the_tags_it_was_kept_with(cache).await;
    whatever_tag_is_invalidated_the_value_is_gone(cache).await;
    all_reaches_everything(cache).await;
    a_load_that_raced_an_invalidation_keeps_nothing(cache).await;
    of_two_loads_without_versions_one_at_least_is_kept(cache).await;
    tags_do_not_touch_each_other(cache).await;
    only_one_loads_at_a_time(cache, advance).await;
    what_is_kept_ends_with_its_time(cache, advance).await;
    what_matches_a_pattern_is_removed_and_nothing_else(cache).await;
    what_is_used_most_comes_first(cache).await;
    assert_eq!(cache.run_id().await.expect("alive"), cache.run_id().await.expect("alive"));
}

fn key(cache: CacheName) -> EntryKey {
    EntryKey { cache, id: VersionId::next().to_string().into() }
}

fn tag() -> CacheTag {
    CacheTag::receipt(ReceiptId::random())
}

fn value(bytes: impl Into<Bytes>) -> SharedValue {
    SharedValue { fresh_until: Timestamp::from_millisecond(1_800_000_000_123).expect("a time"), bytes: bytes.into() }
}

async fn lookup(cache: &dyn SharedCache, key: &EntryKey, tags: &[CacheTag]) -> CacheLookup {
    cache.lookup(key, tags).await.expect("looked")
}

async fn found(cache: &dyn SharedCache, key: &EntryKey, tags: &[CacheTag]) -> Option<SharedValue> {
    lookup(cache, key, tags).await.value
}

/// Loads and stores a value as a fill does.
async fn fill(cache: &dyn SharedCache, key: &EntryKey, tags: &[CacheTag], value: &SharedValue) {
    let seen = lookup(cache, key, tags).await.seen;
    assert_eq!(seen.0.len(), tags.len());
    cache.keep(key, tags, &seen, value, TTL).await.expect("kept");
}

async fn what_is_kept_is_found_with_all_its_bytes(cache: &dyn SharedCache) {
    let noise: Vec<u8> = (0..100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for bytes in [Bytes::new(), "{}".into(), "x".repeat(1 << 20).into(), noise.into(), vec![0; 3000].into()] {
        let (key, tags, value) = (key(CacheName::Listings), [tag(), CacheTag::ALL], value(bytes));
        assert_eq!(found(cache, &key, &tags).await, None);
        fill(cache, &key, &tags, &value).await;
        assert_eq!(found(cache, &key, &tags).await, Some(value));
        let other = EntryKey { cache: CacheName::Assets, ..key };
        assert_eq!(found(cache, &other, &tags).await, None, "each cache has its own keys");
    }
}

async fn a_value_is_there_only_under_the_tags_it_was_kept_with(cache: &dyn SharedCache) {
    let (key, one, other) = (key(CacheName::Assets), tag(), tag());
    fill(cache, &key, &[one.clone(), other.clone()], &value("1")).await;
    assert_eq!(found(cache, &key, std::slice::from_ref(&one)).await, None);
    assert_eq!(found(cache, &key, &[other.clone(), one.clone()]).await, None);
    assert_eq!(found(cache, &key, &[one, other]).await, Some(value("1")));
}

async fn whatever_tag_is_invalidated_the_value_is_gone(cache: &dyn SharedCache) {
    for which in 0..3 {
        let (key, tags) = (key(CacheName::Assets), [tag(), tag(), CacheTag::POLICIES]);
        fill(cache, &key, &tags, &value("old")).await;
        cache.invalidate(&tags[which..=which]).await.expect("invalidated");
        assert_eq!(found(cache, &key, &tags).await, None);
        fill(cache, &key, &tags, &value("new")).await;
        assert_eq!(found(cache, &key, &tags).await, Some(value("new")));
    }
}

async fn all_reaches_everything(cache: &dyn SharedCache) {
    let keys: Vec<_> = (0..5).map(|_| (key(CacheName::Receipts), [tag(), CacheTag::ALL])).collect();
    for (key, tags) in &keys {
        fill(cache, key, tags, &value("1")).await;
    }
    cache.invalidate(&[CacheTag::ALL]).await.expect("invalidated");
    for (key, tags) in &keys {
        assert_eq!(found(cache, key, tags).await, None);
    }
}

async fn a_load_that_raced_an_invalidation_keeps_nothing(cache: &dyn SharedCache) {
    // With a tag that had a version when the load began, and with one that had none.
    for known in [true, false] {
        let (key, tags) = (key(CacheName::Assets), [tag(), CacheTag::ALL]);
        if known {
            fill(cache, &key, &tags, &value("before")).await;
            cache.invalidate(&tags[..1]).await.expect("invalidated");
        }
        let seen = lookup(cache, &key, &tags).await.seen;
        assert_eq!(seen.0[0].is_some(), known);
        cache.invalidate(&tags[..1]).await.expect("invalidated");
        cache.keep(&key, &tags, &seen, &value("old"), TTL).await.expect("told, not kept");
        assert_eq!(found(cache, &key, &tags).await, None, "known: {known}");
    }
}

async fn of_two_loads_without_versions_one_at_least_is_kept(cache: &dyn SharedCache) {
    let (key, tags) = (key(CacheName::Assets), [tag(), tag(), CacheTag::ALL]);
    let seen = [lookup(cache, &key, &tags).await.seen, lookup(cache, &key, &tags).await.seen];
    for seen in &seen {
        cache.keep(&key, &tags, seen, &value("1"), TTL).await.expect("kept");
    }
    assert_eq!(found(cache, &key, &tags).await, Some(value("1")));
}

async fn tags_do_not_touch_each_other(cache: &dyn SharedCache) {
    let (key, tags) = (key(CacheName::Assets), [tag(), CacheTag::ALL]);
    fill(cache, &key, &tags, &value("1")).await;
    let others: Vec<_> = (0..50).map(|_| tag()).collect();
    cache.invalidate(&others).await.expect("invalidated");
    cache.invalidate(&[]).await.expect("nothing to do");
    assert_eq!(found(cache, &key, &tags).await, Some(value("1")));
}

async fn only_one_loads_at_a_time(cache: &dyn SharedCache, advance: &impl AsyncFn(Duration)) {
    let (key, other) = (key(CacheName::Lineage), key(CacheName::Lineage));
    assert!(cache.begin_load(&key, 1, TTL).await.expect("asked"));
    assert!(!cache.begin_load(&key, 2, TTL).await.expect("asked"));
    assert!(cache.begin_load(&other, 2, TTL).await.expect("asked"));
    cache.end_load(&key, 2).await.expect("told");
    assert!(!cache.begin_load(&key, 3, TTL).await.expect("asked"), "only its holder can give the right back");
    cache.end_load(&key, 1).await.expect("told");
    assert!(cache.begin_load(&key, 3, TTL).await.expect("asked"));
    advance(TTL + PART).await;
    assert!(cache.begin_load(&key, 4, TTL).await.expect("asked"), "a dead loader's right expires");
    cache.end_load(&key, 3).await.expect("told");
    assert!(
        !cache.begin_load(&key, 5, TTL).await.expect("asked"),
        "a loader that is late takes no other loader's right"
    );
}

async fn what_is_kept_ends_with_its_time(cache: &dyn SharedCache, advance: &impl AsyncFn(Duration)) {
    let (key, tags) = (key(CacheName::Assets), [tag(), CacheTag::ALL]);
    fill(cache, &key, &tags, &value("1")).await;
    advance(PART).await;
    assert_eq!(found(cache, &key, &tags).await, Some(value("1")));
    advance(PART).await;
    assert_eq!(found(cache, &key, &tags).await, None);
}

async fn what_matches_a_pattern_is_removed_and_nothing_else(cache: &dyn SharedCache) {
    let tags = [CacheTag::LISTINGS, CacheTag::ALL];
    let entry = |cache, id: String| EntryKey { cache, id: id.into() };
    // More than one step of any size removes.
    let many: Vec<_> = (0..3000).map(|n| entry(CacheName::Listings, format!("many-{n}"))).collect();
    let others = [
        entry(CacheName::Listings, "few-1".into()),
        entry(CacheName::Listings, "manx".into()),
        entry(CacheName::Assets, "many-1".into()),
    ];
    let seen = lookup(cache, &many[0], &tags).await.seen;
    cache.keep(&many[0], &tags, &seen, &value("1"), TTL * 10).await.expect("kept");
    let seen = lookup(cache, &many[0], &tags).await.seen;
    for key in many.iter().chain(&others) {
        cache.keep(key, &tags, &seen, &value("1"), TTL * 10).await.expect("kept");
    }
    let pattern = |text| KeyPattern::parse(text).expect("a pattern");
    assert_eq!(cache.remove(&pattern("listings:many-*")).await.expect("removed"), 3000);
    assert_eq!(cache.remove(&pattern("listings:many-*")).await.expect("removed"), 0);
    for key in &many[..10] {
        assert_eq!(found(cache, key, &tags).await, None);
    }
    for key in &others {
        assert_eq!(found(cache, key, &tags).await, Some(value("1")), "{key}");
    }
    assert_eq!(cache.remove(&pattern("?istings:few-?")).await.expect("removed"), 1);
}

async fn what_is_used_most_comes_first(cache: &dyn SharedCache) {
    let [often, once, seldom] = ["often", "once", "seldom"].map(str::to_owned);
    cache.add_popularity(PopularityList::Assets, &[(once.clone(), 1), (often.clone(), 5)]).await.expect("added");
    cache.add_popularity(PopularityList::Assets, &[(seldom.clone(), 3), (often.clone(), 2)]).await.expect("added");
    cache.add_popularity(PopularityList::Assets, &[]).await.expect("nothing to add");
    let most = cache.most_popular(PopularityList::Assets, 10).await.expect("asked");
    assert_eq!(most, [often.clone(), seldom.clone(), once]);
    assert_eq!(cache.most_popular(PopularityList::Assets, 2).await.expect("asked"), [often, seldom]);
    assert_eq!(cache.most_popular(PopularityList::Contents, 2).await.expect("asked"), Vec::<String>::new());
}
