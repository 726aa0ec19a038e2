//! Pauses between the attempts to reach a server that is away.

use std::time::Duration;

/// The pause after this many doublings of the first one: at most the longest, and shortened at random by up to half, so that
/// instances do not try at one moment.
pub(super) fn grown(first: Duration, doublings: u32, longest: Duration) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(doublings));
    doubled.min(longest).mul_f64(1.0 - fastrand::f64() / 2.0)
}
