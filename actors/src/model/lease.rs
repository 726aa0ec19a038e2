//! Leases: how much of a receipt's remaining quota one instance takes at a time, and what happens to it after a crash.

use serde::{Deserialize, Serialize};

use super::{Credit, Limits};
use crate::ids::NodeId;

/// One epoch of one instance in the ledger. A node whose leases were reclaimed starts a new epoch, so that leases of
/// the old one can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeEpoch {
    pub node: NodeId,
    pub epoch: i64,
}

/// What happens to leased but unsettled credit when an instance is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LostLease {
    /// It counts as used, so that a crash never gives content away for free.
    #[default]
    Charge,
    /// It becomes usable again; bytes that the lost instance had sent but not settled are given away.
    Release,
}

/// The size of a lease: one part in `divisor` of the remainder, but at least what the request needs.
///
/// So leases shrink as a window empties. In the last hundredth of a limit only the need is granted, so that little
/// credit is stranded on an instance that has no use for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSizing {
    /// The share of the remainder that one lease may take is 1/`divisor`.
    pub divisor: u64,
}

impl LeaseSizing {
    /// The grant in one dimension of one window, or `None` if `need` does not fit. `taken` is used plus reserved.
    pub fn grant(self, limit: u64, taken: u64, need: u64, want: u64) -> Option<u64> {
        let remaining = limit.saturating_sub(taken);
        if need > remaining {
            return None;
        }
        if remaining <= limit / 100 {
            return Some(need);
        }
        Some(want.min(remaining / self.divisor.max(1)).max(need))
    }

    /// The grant when every window must agree: the smallest grant of each dimension, or `None` if any window refuses. A
    /// dimension that no window limits gets nothing: it cannot run out, so a crash has nothing to charge.
    pub fn grant_all(
        self,
        windows: impl IntoIterator<Item = (Limits, Credit)>,
        need: Credit,
        want: Credit,
    ) -> Option<Credit> {
        let (mut bytes, mut requests) = (None, None);
        let least = |granted: Option<u64>, share: u64| Some(granted.map_or(share, |granted: u64| granted.min(share)));
        for (limits, taken) in windows {
            if let Some(limit) = limits.bytes {
                bytes = least(bytes, self.grant(limit, taken.bytes, need.bytes, want.bytes)?);
            }
            if let Some(limit) = limits.requests {
                requests = least(requests, self.grant(limit, taken.requests, need.requests, want.requests)?);
            }
        }
        Some(Credit::new(bytes.unwrap_or_default(), requests.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_grant_covers_the_need_and_never_passes_a_limit(
            limits in proptest::array::uniform3((proptest::option::of(0_u64..1 << 40), proptest::option::of(0_u64..10_000))),
            taken in proptest::array::uniform3((0_u64..1 << 40, 0_u64..10_000)),
            need in (0_u64..1 << 32, 0_u64..2),
            want in (0_u64..1 << 36, 0_u64..1000),
            divisor in 0_u64..64,
        ) {
            let windows = limits.iter().zip(taken).map(|(&(bytes, requests), (taken_bytes, taken_requests))| {
                (Limits { bytes, requests }, Credit::new(taken_bytes, taken_requests))
            });
            let need = Credit::new(need.0, need.1);
            let granted = LeaseSizing { divisor }.grant_all(windows.clone(), need, Credit::new(want.0, want.1));
            let fits = windows.clone().all(|(limits, taken)| {
                limits.bytes.is_none_or(|limit| taken.bytes.saturating_add(need.bytes) <= limit || need.bytes == 0)
                    && limits.requests.is_none_or(|limit| taken.requests.saturating_add(need.requests) <= limit || need.requests == 0)
            });
            prop_assert_eq!(granted.is_some(), fits);
            if let Some(granted) = granted {
                let is_limited = |of: fn(&(Limits, Credit)) -> bool| windows.clone().any(|window| of(&window));
                let bytes = is_limited(|(limits, _)| limits.bytes.is_some());
                let requests = is_limited(|(limits, _)| limits.requests.is_some());
                let fits = |limited: bool, granted: u64, need: u64| granted >= need && limited || granted == 0 && !limited;
                prop_assert!(fits(bytes, granted.bytes, need.bytes));
                prop_assert!(fits(requests, granted.requests, need.requests));
                for (limits, taken) in windows {
                    if let Some(limit) = limits.bytes {
                        prop_assert!(granted.bytes == 0 || taken.bytes + granted.bytes <= limit);
                    }
                    if let Some(limit) = limits.requests {
                        prop_assert!(granted.requests == 0 || taken.requests + granted.requests <= limit);
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_hundredth_is_granted_only_as_needed() {
        let sizing = LeaseSizing { divisor: 8 };
        assert_eq!(sizing.grant(1000, 0, 1, 1000), Some(125));
        assert_eq!(sizing.grant(1000, 990, 3, 1000), Some(3));
        assert_eq!(sizing.grant(1000, 990, 11, 1000), None);
    }
}
