//! A shared tier that goes away, keeps locks, and comes back with an earlier state.

use std::sync::atomic::Ordering::Relaxed;

use penstock_actors::{ports::CacheName, testkit::script::Fault};

use crate::bench::{Bench, Instance, change, eventually};

fn is_away(instance: &Instance) -> bool {
    instance.cache.counters().shared_away.load(Relaxed) == 1
}

#[tokio::test(start_paused = true)]
async fn without_the_shared_tier_reads_go_on_and_afterwards_nothing_old_is_left() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    bench.source.set("b", 1);
    let [writer, other] = [(); 2].map(|()| bench.instance());
    assert_eq!((writer.read("a").await, writer.read("b").await), (Some(1), Some(1)));
    eventually("they are shared", async || bench.shared.entries() == 2).await;

    bench.shared.script.set_down(true);
    writer.write("a", 2).await;
    assert!(is_away(&writer));
    for _ in 0..3 {
        assert_eq!(writer.read("a").await, Some(2), "the writer reads its own change, whatever is down");
    }
    // The other instance learns of it from the database; it cannot ask the shared tier either.
    other.cache.heard(Some(&change("a")));
    assert_eq!((other.read("a").await, other.read("b").await), (Some(2), Some(1)));
    let asked = bench.shared.script.calls("look").len();
    bench.source.set("c", 1);
    assert_eq!(writer.read("c").await, Some(1));
    assert_eq!(bench.shared.script.calls("look").len(), asked, "no read waits for a tier that is away");

    bench.shared.script.set_down(false);
    eventually("it is used again", async || !is_away(&writer) && !is_away(&other)).await;
    let late = bench.instance();
    assert_eq!((late.read("a").await, late.read("b").await), (Some(2), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_got_lost_is_a_failure_like_any_other() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let [writer, late] = [(); 2].map(|()| bench.instance());
    for call in ["look", "begin_load", "keep", "end_load", "invalidate", "run_id"] {
        bench.shared.script.next(call, [Fault::AnswerLost]);
        let old = writer.read("a").await.expect("a value");
        writer.write("a", old + 1).await;
        assert_eq!(writer.read("a").await, Some(old + 1), "{call}");
        eventually("it is used again", async || !is_away(&writer)).await;
    }
    assert_eq!(late.read("a").await, Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_brings_the_past_back_outdates_everything() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let [writer, late] = [(); 2].map(|()| bench.instance());
    assert_eq!(writer.read("a").await, Some(1));
    eventually("it is shared", async || bench.shared.entries() == 1).await;
    eventually("its current run is known", async || !bench.shared.script.calls("run_id").is_empty()).await;
    let past = bench.shared.snapshot();
    writer.write("a", 2).await;
    assert_eq!(writer.read("a").await, Some(2));

    let told = bench.shared.script.calls("invalidate").len();
    bench.shared.restart_as_of(past);
    eventually("the restart is noticed", async || bench.shared.script.calls("invalidate").len() > told).await;
    assert_eq!(late.read("a").await, Some(2));
    assert_eq!(writer.read("a").await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_crashed_loader_delays_other_requests_only_briefly() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let [dead, alive] = [(); 2].map(|()| bench.instance());
    let held = bench.source.script.hold("load");
    let dying = tokio::spawn(async move { dead.read("a").await });
    eventually("it loads", async || bench.source.loads() == 1).await;
    let waiting = tokio::spawn(async move { alive.read("a").await });
    // The first load does not end before this one, so this one does not have the lock.
    eventually("the other one loads for itself", async || bench.source.loads() == 2).await;
    drop(held);
    assert_eq!(waiting.await.expect("no panic"), Some(1));
    assert_eq!(dying.await.expect("no panic"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn more_debts_than_are_remembered_become_one_for_everything() {
    let bench = Bench::default();
    bench.source.set("a", 1);
    let [writer, late] = [(); 2].map(|()| bench.instance());
    assert_eq!(writer.read("a").await, Some(1));
    eventually("it is shared", async || bench.shared.entries() == 1).await;
    bench.shared.script.set_down(true);
    writer.write("a", 2).await;
    for n in 0..10_100 {
        writer.cache.changed(&change(&format!("n{n}"))).await;
    }
    assert_eq!(writer.read("a").await, Some(2));
    bench.shared.script.set_down(false);
    eventually("it is used again", async || !is_away(&writer)).await;
    assert!(bench.shared.script.calls("invalidate").iter().all(|tags| *tags <= 500));
    assert_eq!(late.read("a").await, Some(2));
    assert_eq!(late.cache.counters().of(CacheName::Assets).shared.hits.load(Relaxed), 0);
}
