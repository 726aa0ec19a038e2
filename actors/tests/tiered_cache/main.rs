//! The caches in two tiers, over a shared tier in memory that fails, delays and forgets by script.

mod bench;
mod faults;
mod invalidation;
mod loads;
mod model;

use std::sync::Arc;

use penstock_actors::testkit::{clock::ManualClock, memory_cache::MemoryCache, shared_cache_suite};

#[tokio::test]
async fn the_shared_cache_in_memory_keeps_its_promises() {
    let clock = Arc::new(ManualClock::at(bench::START));
    let cache = Arc::new(MemoryCache::new(clock.clone()));
    shared_cache_suite::run(cache, async |by| clock.advance(by)).await;
}
