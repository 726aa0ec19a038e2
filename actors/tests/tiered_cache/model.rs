//! Random histories of several instances, compared with a model: no read returns a value older than the last invalidation
//! that had ended on its instance when the read began.
//! Time is the runtime's, paused, so it moves on whenever all tasks wait; the seed of a history determines everything.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use penstock_actors::testkit::script::Fault;
use proptest::prelude::*;
use tokio::task::LocalSet;

use crate::bench::{Bench, Instance, STALE, TTL, change};

const INSTANCES: usize = 3;
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    Read {
        at: usize,
        name: usize,
    },
    /// A change with its invalidation; the other instances hear of it some steps later.
    Write {
        at: usize,
        name: usize,
    },
    /// An instance reads all changes so far in the log.
    Hear {
        at: usize,
    },
    /// The writer dies between its change and the invalidation: only the log has the change.
    HalfAWrite {
        name: usize,
    },
    /// Some calls of the shared tier get lost.
    Lose {
        calls: u8,
        after: bool,
    },
    Snapshot,
    RestartFromSnapshot,
    Advance {
        seconds: u64,
    },
    /// Lets running tasks go on a little.
    Turn {
        times: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (at, name) = (0..INSTANCES, 0..NAMES.len());
    prop_oneof![
        10 => (at.clone(), name.clone()).prop_map(|(at, name)| Step::Read { at, name }),
        4 => (at.clone(), name.clone()).prop_map(|(at, name)| Step::Write { at, name }),
        3 => at.prop_map(|at| Step::Hear { at }),
        1 => name.prop_map(|name| Step::HalfAWrite { name }),
        1 => (1_u8..6, any::<bool>()).prop_map(|(calls, after)| Step::Lose { calls, after }),
        1 => Just(Step::Snapshot),
        1 => Just(Step::RestartFromSnapshot),
        2 => (1..TTL.as_secs() + STALE.as_secs()).prop_map(|seconds| Step::Advance { seconds }),
        6 => (1_u8..12).prop_map(|times| Step::Turn { times }),
    ]
}

/// For each instance and name, the oldest value that a read that begins now may return.
type Floors = Rc<RefCell<HashMap<(usize, usize), u64>>>;

fn raise(floors: &Floors, at: usize, name: usize, value: u64) {
    let mut floors = floors.borrow_mut();
    let floor = floors.entry((at, name)).or_default();
    *floor = value.max(*floor);
}

async fn run(steps: Vec<Step>) {
    let bench = Bench::default();
    let instances: Vec<Instance> = (0..INSTANCES).map(|_| bench.instance()).collect();
    let floors = Floors::default();
    let mut values = [1_u64; NAMES.len()];
    let mut snapshot = bench.shared.snapshot();
    let mut tasks = Vec::new();
    for name in NAMES {
        bench.source.set(name, 1);
    }
    for step in steps {
        match step {
            Step::Read { at, name } => {
                let (instance, floors) = (instances[at].clone(), Rc::clone(&floors));
                tasks.push(tokio::task::spawn_local(async move {
                    let floor = floors.borrow().get(&(at, name)).copied().unwrap_or(1);
                    let value = instance.read(NAMES[name]).await.expect("it is never deleted");
                    assert!(value >= floor, "{} on {at}: {value} after {floor}", NAMES[name]);
                }));
            }
            Step::Write { at, name } => {
                values[name] += 1;
                let value = values[name];
                bench.source.set(NAMES[name], value);
                let (instance, floors) = (instances[at].clone(), Rc::clone(&floors));
                tasks.push(tokio::task::spawn_local(async move {
                    instance.cache.changed(&change(NAMES[name])).await;
                    raise(&floors, at, name, value);
                }));
            }
            Step::HalfAWrite { name } => {
                values[name] += 1;
                bench.source.set(NAMES[name], values[name]);
            }
            Step::Hear { at } => {
                for (name, value) in values.iter().enumerate() {
                    instances[at].cache.heard(Some(&change(NAMES[name])));
                    raise(&floors, at, name, *value);
                }
            }
            Step::Lose { calls, after } => {
                let fault = if after { Fault::AnswerLost } else { Fault::Unavailable };
                for call in ["look", "begin_load", "keep", "invalidate", "end_load", "run_id"] {
                    bench.shared.script.next(call, std::iter::repeat_n(fault, calls.into()));
                }
            }
            Step::Snapshot => snapshot = bench.shared.snapshot(),
            Step::RestartFromSnapshot => {
                for task in tasks.drain(..) {
                    task.await.expect("no read was too old");
                }
                bench.shared.restart_as_of(snapshot.clone());
                // Until the restart is noticed, old values may be served; then no more. Every instance looks within
                // some seconds.
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
            Step::Advance { seconds } => bench.clock.advance(Duration::from_secs(seconds)),
            Step::Turn { times } => {
                for _ in 0..times {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    for task in tasks {
        task.await.expect("no read was too old");
    }
    // At the end, when all instances have heard and all debts are paid, all agree.
    for (at, instance) in instances.iter().enumerate() {
        for (name, value) in values.iter().enumerate() {
            instance.cache.heard(Some(&change(NAMES[name])));
            assert_eq!(instance.read(NAMES[name]).await, Some(*value), "{} on {at}", NAMES[name]);
        }
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let late = bench.instance();
    for (name, value) in values.iter().enumerate() {
        assert_eq!(late.read(NAMES[name]).await, Some(*value), "{} on a new instance", NAMES[name]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_read_is_older_than_the_last_invalidation_that_had_ended(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        LocalSet::new().block_on(&runtime, run(steps));
    }
}
