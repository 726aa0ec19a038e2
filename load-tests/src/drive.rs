//! Sends the requests of a phase when they are due, whatever becomes of those before, and gathers how they went.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, UnboundedSender},
};

use crate::{
    arrivals::Arrivals,
    live::Live,
    operation::{Due, Outcome, Work},
    plan::Operation,
    timeline::{Expected, Recorder},
};

/// How long the last requests of a phase may take after it, beside the time that their pace asks for.
const LAST_REQUESTS: Duration = Duration::from_secs(90);

/// The requests of a phase.
pub(crate) struct Load {
    pub(crate) arrivals: Arrivals,
    pub(crate) length: Duration,
    pub(crate) operations: Arc<[Operation]>,
    /// Of what each request chooses.
    pub(crate) seed: u64,
    pub(crate) max_open: usize,
    pub(crate) expected: Expected,
}

/// What the sender tells the one that counts. At most `max_open` requests are open, so at most as many outcomes wait for each
/// turn of the counter, which does nothing else.
enum Event {
    Done(Box<Outcome>),
    Unsent(Duration),
}

/// Drives a phase and waits for its last request.
pub(crate) async fn drive(work: &Arc<Work>, load: Load, live: &Live) -> anyhow::Result<Recorder> {
    let mut recorder = Recorder::new(load.length, load.expected);
    let slowest = load.operations.iter().filter_map(|operation| operation.pace).map(|pace| pace.0).min();
    let largest = work.wanted.iter().flatten().map(|wanted| wanted.content.len()).max();
    let paced = slowest.zip(largest).map_or(0, |(pace, size)| size / pace);
    let deadline = Instant::now() + load.length + LAST_REQUESTS + Duration::from_secs(paced);
    let (events, mut incoming) = mpsc::unbounded_channel();
    let sender = {
        let (work, runtime) = (work.clone(), Handle::current());
        // A thread of its own: the timers of the runtime are a millisecond wide.
        tokio::task::spawn_blocking(move || send(&work, load, &runtime, &events))
    };
    loop {
        let next = tokio::time::timeout_at(deadline.into(), incoming.recv());
        match next.await.context("requests of a phase do not end")? {
            Some(Event::Done(outcome)) => recorder.record(*outcome),
            Some(Event::Unsent(due)) => recorder.unsent(due),
            None => break,
        }
        live.show(&recorder, work.open.load(Relaxed));
    }
    sender.await.context("the sender was stopped")?;
    Ok(recorder)
}

fn send(work: &Arc<Work>, load: Load, runtime: &Handle, events: &UnboundedSender<Event>) {
    let phase_began = Instant::now();
    let mut random = fastrand::Rng::with_seed(load.seed);
    let weights: u32 = load.operations.iter().map(|operation| operation.weight).sum();
    for after in load.arrivals {
        let wait = (phase_began + after).saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        let (choice, seed) = (chosen(&load.operations, random.u32(..weights)), random.u64(..));
        // The counter is gone only when the phase has failed.
        if work.open.load(Relaxed) >= load.max_open {
            let _ = events.send(Event::Unsent(after));
            continue;
        }
        work.open.fetch_add(1, Relaxed);
        let (work, events) = (work.clone(), events.clone());
        let operations = load.operations.clone();
        runtime.spawn(async move {
            let outcome = work.perform(&operations[choice], seed, Due { phase_began, after }).await;
            work.open.fetch_sub(1, Relaxed);
            let _ = events.send(Event::Done(Box::new(outcome)));
        });
    }
    // A phase lasts as long as it is said to, also when its last request comes earlier.
    std::thread::sleep((phase_began + load.length).saturating_duration_since(Instant::now()));
}

/// The operation on which a point between 0 and the sum of the weights falls.
fn chosen(operations: &[Operation], mut point: u32) -> usize {
    for (index, operation) in operations.iter().enumerate() {
        match point.checked_sub(operation.weight) {
            Some(rest) => point = rest,
            None => return index,
        }
    }
    0
}
