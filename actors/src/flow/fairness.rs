//! Fairness: a bound on work that one holder alone cannot use up.
//!
//! A holder (a receipt, a producer, an address) gets another permit while it has less than its share, which shrinks with
//! the permits that are free: `4 x free x free / capacity`. So one greedy holder gets three fifths of all permits. A second
//! one that comes later gets less than half of the rest, a third one less again, and so on: of 4,096 permits, some are
//! free after twenty such holders, and a holder that has none gets one as long as any is free. Nothing is reserved for
//! holders that are not there, and no number has to be configured. Buffers of switches are shared like this (Choudhury and
//! Hahne, "Dynamic queue length thresholds", 1998), but with a share in proportion to the free room: there the packets
//! leave again, while here six holders that keep their permits could then take all.
//!
//! **Bound.** The holders that are remembered are those that have a permit.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::admission::{Admission, AdmissionSnapshot, Permit};

/// The share of a holder is this many times the permits that are free, times the fraction that is free. A larger number
/// leaves less for the others, a smaller one leaves more unused when there is only one holder.
const FREE_SHARES: u64 = 4;

/// A bound on work that is under way, shared fairly among its holders.
#[derive(Debug)]
pub struct FairAdmission<K> {
    admission: Admission,
    held: Arc<Held<K>>,
}

impl<K> Clone for FairAdmission<K> {
    fn clone(&self) -> Self {
        Self { admission: self.admission.clone(), held: Arc::clone(&self.held) }
    }
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    /// None is free.
    Full,
    /// The holder has as many as it may have now.
    HolderHasShare { held: u64 },
}

/// The right of a holder to one piece of work; dropping it gives the right back.
#[derive(Debug)]
pub struct FairPermit<K: Eq + Hash> {
    holder: K,
    held: Arc<Held<K>>,
    _permit: Permit,
}

/// The permits of each holder that has any.
#[derive(Debug)]
struct Held<K>(Mutex<HashMap<K, u64>>);

impl<K> Held<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, u64>> {
        // A poisoned lock holds plain numbers, which are always valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> FairAdmission<K> {
    /// At most `capacity` permits at a time; `name` is a metric label.
    pub fn new(name: &'static str, capacity: u32) -> Self {
        Self { admission: Admission::new(name, capacity), held: Arc::new(Held(Mutex::default())) }
    }

    /// A permit for this holder, if one is free and the holder may have it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn try_admit(&self, holder: K) -> Result<FairPermit<K>, NotAdmitted> {
        self.admit(holder, true)
    }

    /// A permit for one that stands for many others, such as a proxy: only the bound holds for it.
    ///
    /// # Errors
    /// When no permit is free.
    pub fn try_admit_for_many(&self, holder: K) -> Result<FairPermit<K>, NotAdmitted> {
        self.admit(holder, false)
    }

    fn admit(&self, holder: K, has_share: bool) -> Result<FairPermit<K>, NotAdmitted> {
        let mut all = self.held.lock();
        let held = all.get(&holder).copied().unwrap_or(0);
        let AdmissionSnapshot { capacity, in_use, .. } = self.admission.snapshot();
        let free = capacity.saturating_sub(in_use);
        if has_share && free > 0 && held * capacity >= FREE_SHARES * free * free {
            self.admission.refused();
            return Err(NotAdmitted::HolderHasShare { held });
        }
        let permit = self.admission.try_admit(1).ok_or(NotAdmitted::Full)?;
        all.insert(holder.clone(), held + 1);
        drop(all);
        Ok(FairPermit { holder, held: Arc::clone(&self.held), _permit: permit })
    }

    /// Whether every permit came back within `patience`.
    pub async fn all_returned(&self, patience: Duration) -> bool {
        let all = u32::try_from(self.snapshot().capacity).unwrap_or(u32::MAX);
        self.admission.admit(all, patience).await.is_some()
    }

    pub fn snapshot(&self) -> AdmissionSnapshot {
        self.admission.snapshot()
    }
}

impl<K: Eq + Hash> Drop for FairPermit<K> {
    fn drop(&mut self) {
        let mut all = self.held.lock();
        if let Some(held) = all.get_mut(&self.holder) {
            *held -= 1;
            if *held == 0 {
                all.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes permits until there are no more.
    fn greedy(admission: &FairAdmission<u8>, holder: u8) -> Vec<FairPermit<u8>> {
        std::iter::from_fn(|| admission.try_admit(holder).ok()).collect()
    }

    #[test]
    fn a_greedy_holder_leaves_two_fifths_and_gets_what_comes_back() {
        let admission = FairAdmission::new("test", 100);
        let mut noisy = greedy(&admission, 0);
        assert_eq!(noisy.len(), 61);
        assert_eq!(admission.try_admit(0).err(), Some(NotAdmitted::HolderHasShare { held: 61 }));
        let others = greedy(&admission, 1);
        assert!((1..39).contains(&others.len()), "{}", others.len());
        noisy.pop();
        assert!(admission.try_admit(0).is_err(), "there is less to share");
        drop(others);
        noisy.extend(greedy(&admission, 0));
        assert_eq!(noisy.len(), 61);
        drop(noisy);
        assert_eq!(admission.snapshot().in_use, 0);
        assert!(admission.held.lock().is_empty(), "holders without a permit are forgotten");
    }

    #[test]
    fn a_few_permits_are_not_shared() {
        for capacity in 1..3 {
            let admission = FairAdmission::new("test", capacity);
            let all = greedy(&admission, 0);
            assert_eq!(all.len(), capacity as usize);
            assert_eq!(admission.try_admit(1).err(), Some(NotAdmitted::Full));
        }
    }

    #[test]
    fn one_that_stands_for_many_may_take_all() {
        let admission = FairAdmission::new("test", 100);
        let all: Vec<_> = std::iter::from_fn(|| admission.try_admit_for_many(0).ok()).collect();
        assert_eq!(all.len(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_known_when_all_permits_are_back() {
        let admission = FairAdmission::new("test", 5);
        let permit = admission.try_admit(0).expect("free");
        assert!(!admission.all_returned(Duration::from_secs(1)).await);
        drop(permit);
        assert!(admission.all_returned(Duration::from_secs(1)).await);
    }

    #[test]
    fn twenty_holders_that_take_all_they_can_get_one_after_another_leave_room() {
        let admission = FairAdmission::new("test", 4096);
        let mut taken: Vec<_> = (0..20).map(|holder| greedy(&admission, holder)).collect();
        let counts: Vec<_> = taken.iter().map(Vec::len).collect();
        assert!(counts.is_sorted_by(|earlier, later| earlier >= later), "{counts:?}");
        // Many that want one each.
        taken.extend((100..116).map(|holder| vec![admission.try_admit(holder).expect("there is room")]));
        assert!(admission.snapshot().in_use < 4096, "{counts:?}");
    }

    proptest! {
        /// In whatever order some holders take what they get, a holder that has no permit gets one.
        #[test]
        fn one_that_has_none_is_admitted(order in proptest::collection::vec(0_u8..5, 0..2000)) {
            let admission = FairAdmission::new("test", 400);
            let _taken: Vec<_> = order.into_iter().filter_map(|holder| admission.try_admit(holder).ok()).collect();
            prop_assert!(admission.try_admit(100).is_ok());
        }
    }
}
