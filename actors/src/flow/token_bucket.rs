//! Bandwidth: one bucket for all streams of a receipt on an instance, so that two connections are not twice as fast.
//!
//! A token bucket with debt: a piece is always let through, and the wait that it owes is returned. The policy's burst
//! allowance is a second bucket; it is used first, and refills evenly over its duration.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::model::QuotaPolicy;

/// Seconds of the sustained rate that may be sent ahead without an allowance: enough that pieces of 32 KiB flow evenly.
const HEADROOM_SECONDS: f64 = 0.1;

/// No piece waits longer, however small the rate: it keeps the arithmetic within the range of the clock.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The bandwidth of one receipt on this instance.
#[derive(Debug)]
pub struct TokenBucket {
    rate: f64,
    headroom: f64,
    burst: f64,
    burst_rate: f64,
    state: Mutex<BucketState>,
}

#[derive(Debug)]
struct BucketState {
    /// May be negative: the debt from which waits are computed.
    tokens: f64,
    burst: f64,
    at: Instant,
}

impl TokenBucket {
    /// The pacer of a policy, or `None` where it has no bandwidth limit.
    pub fn of(policy: &QuotaPolicy, now: Instant) -> Option<Self> {
        let rate = policy.max_bandwidth_mbps? * 1e6 / 8.0;
        if rate.is_nan() || rate <= 0.0 {
            return None;
        }
        let burst = policy.burst_bytes_allowance.unwrap_or(0) as f64;
        let minutes = f64::from(policy.burst_duration_minutes.unwrap_or(5).max(1));
        let headroom = rate * HEADROOM_SECONDS;
        Some(Self {
            rate,
            headroom,
            burst,
            burst_rate: burst / (minutes * 60.0),
            state: Mutex::new(BucketState { tokens: headroom, burst, at: now }),
        })
    }

    /// A pacer with this rate, without an allowance.
    pub fn at_rate(bytes_per_second: u64, now: Instant) -> Self {
        let rate = bytes_per_second.max(1) as f64;
        let headroom = rate * HEADROOM_SECONDS;
        let state = Mutex::new(BucketState { tokens: headroom, burst: 0.0, at: now });
        Self { rate, headroom, burst: 0.0, burst_rate: 0.0, state }
    }

    /// Takes `bytes` and returns how long to wait before they may be sent.
    pub fn take(&self, bytes: usize, now: Instant) -> Duration {
        // A poisoned lock holds plain numbers, which are always valid.
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(state.at).as_secs_f64();
        state.at = state.at.max(now);
        state.tokens = (state.tokens + elapsed * self.rate).min(self.headroom);
        state.burst = (state.burst + elapsed * self.burst_rate).min(self.burst);
        let bytes = bytes as f64;
        let lacking = (bytes - state.tokens.max(0.0)).max(0.0);
        let from_burst = lacking.min(state.burst);
        state.burst -= from_burst;
        state.tokens -= bytes - from_burst;
        if state.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-state.tokens / self.rate).map_or(LONGEST_WAIT, |wait| wait.min(LONGEST_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(mbps: f64, burst: u64) -> QuotaPolicy {
        QuotaPolicy {
            max_bandwidth_mbps: Some(mbps),
            burst_bytes_allowance: Some(burst),
            burst_duration_minutes: Some(1),
            ..QuotaPolicy::default()
        }
    }

    #[test]
    fn no_limit_has_no_pacer() {
        assert!(TokenBucket::of(&QuotaPolicy::default(), Instant::now()).is_none());
    }

    #[test]
    fn the_smallest_rate_has_a_longest_wait() {
        let now = Instant::now();
        for mbps in [f64::MIN_POSITIVE, 1e-300, 1e-9] {
            let pacer = TokenBucket::of(&policy(mbps, 0), now).expect("a limit");
            assert_eq!(pacer.take(1 << 20, now), LONGEST_WAIT);
        }
    }

    proptest! {
        #[test]
        fn what_goes_out_is_bounded_by_rate_headroom_and_burst(
            mbps in 1.0_f64..1000.0,
            burst in 0_u64..50_000_000,
            pieces in proptest::collection::vec((1_usize..65_536, 0_u64..50), 1..200),
        ) {
            let start = Instant::now();
            let pacer = TokenBucket::of(&policy(mbps, burst), start).expect("a limit");
            let rate = mbps * 1e6 / 8.0;
            let (mut now, mut sent) = (start, 0.0);
            for (bytes, idle_millis) in pieces {
                now += Duration::from_millis(idle_millis);
                now += pacer.take(bytes, now);
                sent += bytes as f64;
                let elapsed = now.duration_since(start).as_secs_f64();
                let allowed = rate * (elapsed + HEADROOM_SECONDS) + burst as f64 * (1.0 + elapsed / 60.0);
                prop_assert!(sent <= allowed + 1.0, "{sent} bytes after {elapsed} s, allowed {allowed}");
            }
        }

        #[test]
        fn a_steady_reader_gets_the_whole_rate(mbps in 1.0_f64..1000.0) {
            let start = Instant::now();
            let pacer = TokenBucket::of(&policy(mbps, 0), start).expect("a limit");
            let mut now = start;
            let bytes = 10_000_000_usize;
            for _ in 0..bytes / 50_000 {
                now += pacer.take(50_000, now);
            }
            let ideal = bytes as f64 * 8.0 / (mbps * 1e6);
            prop_assert!(now.duration_since(start).as_secs_f64() <= ideal + 0.001);
        }
    }
}
