//! The quota protocol under a seeded scheduler: real actors on virtual time, against a ledger in memory, over a network that delays,
//! loses, repeats and reorders statements. Processes crash, stand still, stop and start again; the database goes away and its clock
//! leaps. One thread runs everything, and each random choice comes from the seed, so a seed is a run that can be repeated.
//!
//! After each statement that the ledger carries out, and each piece that a stream sends:
//! - in no window is `used + reserved` above a limit, and windows equal their rows and leases;
//! - no client has received a byte that is neither used nor reserved;
//! - where lost leases are released, no stream sends under a lease that was released.
//!
//! At the end the faults stop. Within [`RETURNS_WITHIN`](scenario::RETURNS_WITHIN) all credit of dead epochs is back, each
//! process knows of all its leases, and any process can use the rest of a quota to its end. After clean stops nothing is reserved,
//! and what is used is what clients have received, and the lost leases of crashed processes where those are charged.
//!
//! `SEED=n` repeats one seed and prints every event of it; `SEEDS=n` runs so many.

mod accounts;
mod clocks;
mod line;
mod network;
mod process;
mod scenario;
mod world;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use penstock_actors::testkit::model_ledger::flaw::Flaw;

use self::scenario::{Failure, run};

/// Enough that each flaw is found several times over.
const SEEDS: u64 = 2000;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The first seed that fails, if one does. All cores search.
fn first_failure(seeds: u64, flaw: Option<Flaw>) -> Option<Failure> {
    let (next, least) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let search = || {
        let mut found: Option<Failure> = None;
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.min(least.load(Relaxed)) {
                return found;
            }
            if let Err(failure) = run(seed, flaw) {
                least.fetch_min(seed, Relaxed);
                found = Some(failure);
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let found = std::thread::scope(|scope| {
        let searches: Vec<_> = (0..cores).map(|_| scope.spawn(search)).collect();
        searches.into_iter().filter_map(|search| search.join().expect("no panic")).collect::<Vec<_>>()
    });
    found.into_iter().min_by_key(|failure| failure.seed)
}

#[test]
fn no_seed_passes_a_limit_or_loses_credit() {
    if let Some(seed) = number("SEED") {
        let outcome = run(seed, None);
        let trace = outcome.as_ref().unwrap_or_else(|failure| &failure.trace);
        trace.iter().for_each(|line| eprintln!("{line}"));
        assert!(outcome.is_ok(), "{}", outcome.err().map(|failure| failure.to_string()).unwrap_or_default());
        return;
    }
    if let Some(failure) = first_failure(number("SEEDS").unwrap_or(SEEDS), None) {
        panic!("{failure}");
    }
}

#[test]
fn a_seed_runs_the_same_way_each_time() {
    for seed in 0..20 {
        assert_eq!(
            run(seed, None).map_err(|failure| failure.to_string()),
            run(seed, None).map_err(|failure| failure.to_string())
        );
    }
}

/// # Panics
/// When no seed notices the flaw.
fn is_found(flaw: Flaw) {
    let failure = first_failure(SEEDS, Some(flaw));
    let failure = failure.unwrap_or_else(|| panic!("{flaw:?} passes {SEEDS} seeds"));
    eprintln!("{flaw:?} is found by seed {}: {}", failure.seed, failure.what);
}

#[test]
fn a_grant_above_the_limit_is_found() {
    is_found(Flaw::GrantsOneMore);
}

#[test]
fn a_repeated_refill_that_grants_twice_is_found() {
    is_found(Flaw::GrantsTwice);
}

#[test]
fn a_repeated_refill_that_gets_no_grant_is_found() {
    is_found(Flaw::ForgetsGrants);
}

#[test]
fn a_grant_to_an_epoch_that_is_over_is_found() {
    is_found(Flaw::GrantsToFenced);
}

#[test]
fn a_reclaim_that_does_not_wait_is_found() {
    is_found(Flaw::ReclaimsAtOnce);
}

#[test]
fn a_reclaim_by_one_clock_is_found() {
    is_found(Flaw::TrustsOneClock);
}

#[test]
fn a_settlement_that_counts_twice_is_found() {
    is_found(Flaw::SettlesTwice);
}

#[test]
fn a_node_that_spends_past_the_validity_of_its_leases_is_found() {
    is_found(Flaw::SpendsPastValidity);
}
