//! The cost of counting a request: in this process, and against an allowance from a store.
//!
//! The promise is well under a microsecond, no allocation, and no lock that threads wait for.

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use divan::{AllocProfiler, Bencher, black_box, counter::ItemsCount};
use futures::FutureExt as _;
use penstock_actors::{
    clock::{Clock, SystemClock},
    model::{Client, Subject, rate_window::CountRequest},
    ports::{PortResult, RateGrant, RateLimits},
    rate_limit::{RateLimiter, Sharing},
};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Checks of one measured run: many, since one takes little longer than reading the clock.
const CHECKS: u32 = 10_000;

/// Longer than any run.
const WINDOW: Duration = Duration::from_secs(3600);

fn main() {
    divan::main();
}

fn subject(number: u32) -> Subject {
    Subject { class: "streaming", client: Client::at(IpAddr::V4(number.into())) }
}

/// A store that grants the whole limit, so that it is asked once for each subject.
struct Generous;

#[async_trait]
impl RateLimits for Generous {
    async fn take(&self, _: &Subject, ask: CountRequest) -> PortResult<RateGrant> {
        Ok(RateGrant { granted: ask.limit, remaining: 0, valid_for: WINDOW, more_after: WINDOW })
    }
}

fn checks(bencher: Bencher<'_, '_>, limiter: &RateLimiter, subjects: u32) {
    bencher.counter(ItemsCount::new(CHECKS)).bench(|| {
        for number in 0..CHECKS {
            let verdict = limiter.check(&subject(number % subjects), u32::MAX).now_or_never();
            assert!(black_box(verdict).is_some_and(|verdict| verdict.allowed));
        }
    });
}

#[divan::bench(args = [1, 10_000], threads = [1, 2])]
fn in_this_process(bencher: Bencher<'_, '_>, subjects: u32) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let limiter = RateLimiter::new(&clock, WINDOW, 100_000, None);
    checks(bencher, &limiter, subjects);
}

#[divan::bench(args = [1, 10_000], threads = [1, 2])]
fn taken_ahead(bencher: Bencher<'_, '_>, subjects: u32) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let runtime: Runtime = Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let io = runtime.handle().clone();
    let sharing = Sharing { limits: Arc::new(Generous), instances: Arc::new(|| 1), io };
    let limiter = RateLimiter::new(&clock, WINDOW, 100_000, Some(sharing));
    for number in 0..subjects {
        assert!(runtime.block_on(limiter.check(&subject(number), u32::MAX)).allowed);
    }
    checks(bencher, &limiter, subjects);
}
