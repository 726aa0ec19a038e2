//! Turns for connections that write much, so that a worker soon comes to new requests while many fast clients stream.
//!
//! A worker runs its ready tasks one after the other. A fast client takes as many bytes as it is offered, megabytes at a time, so
//! without a bound a new request, a refusal or a health check waits for hundreds of such tasks. Here a connection writes
//! [`ALLOWANCE`] bytes after the beginning of a request. For each further such amount it needs a pass. A worker gives [`PASSES`] of
//! them in a turn, in the order in which the connections came, and looks for new requests and new connections after each turn.
//! The queue has one place for each connection, so `server.max_connections` bounds it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

/// Bytes that a connection writes without a further pass: whole answers to most requests, and as much as the kernel takes ahead.
pub(super) const ALLOWANCE: usize = 256 << 10;

/// Passes in a turn. Two MiB are some 1 ms of a worker's time.
const PASSES: usize = 8;

/// The turnstile of one worker.
#[derive(Debug)]
pub(super) struct Turnstile(RefCell<Queue>);

#[derive(Debug)]
struct Queue {
    /// Passes left in this turn.
    left: usize,
    waiting: VecDeque<Weak<Place>>,
    /// A task begins the next turn.
    is_turning: bool,
}

/// The place of a connection in the queue.
#[derive(Debug, Default)]
pub(super) struct Place {
    has_pass: Cell<bool>,
    /// The task that waits; `None` while the connection is not in the queue.
    waits: RefCell<Option<Waker>>,
}

impl Turnstile {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self(RefCell::new(Queue { left: PASSES, waiting: VecDeque::new(), is_turning: false })))
    }

    /// A pass for this connection. Needs the worker's task set.
    pub(super) fn poll_pass(self: &Rc<Self>, place: &Rc<Place>, cx: &Context<'_>) -> Poll<()> {
        if place.has_pass.take() {
            return Poll::Ready(());
        }
        if let Some(waker) = &mut *place.waits.borrow_mut() {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        let mut queue = self.0.borrow_mut();
        if !queue.is_turning {
            queue.is_turning = true;
            actix_web::rt::spawn(turn(Rc::downgrade(self)));
        }
        if queue.left > 0 {
            queue.left -= 1;
            return Poll::Ready(());
        }
        *place.waits.borrow_mut() = Some(cx.waker().clone());
        queue.waiting.push_back(Rc::downgrade(place));
        Poll::Pending
    }

    /// Gives the passes of a new turn; false when nothing needed one since the last turn.
    fn begin_turn(&self) -> bool {
        let mut queue = self.0.borrow_mut();
        let was_used = queue.left < PASSES;
        queue.left = PASSES;
        while queue.left > 0
            && let Some(next) = queue.waiting.pop_front()
        {
            // A connection that was closed has left its place.
            let Some(place) = next.upgrade() else { continue };
            queue.left -= 1;
            place.has_pass.set(true);
            if let Some(waker) = place.waits.take() {
                waker.wake();
            }
        }
        queue.is_turning = was_used || queue.left < PASSES;
        queue.is_turning
    }
}

/// Begins turns as long as there is a need. A yield lets all tasks run that are ready, and then looks at the sockets.
async fn turn(turnstile: Weak<Turnstile>) {
    loop {
        tokio::task::yield_now().await;
        if !turnstile.upgrade().is_some_and(|turnstile| turnstile.begin_turn()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Takes passes for ever, and notes each under its name.
    fn busy(
        turnstile: &Rc<Turnstile>,
        name: usize,
        log: &Rc<RefCell<Vec<usize>>>,
    ) -> actix_web::rt::task::JoinHandle<()> {
        let (turnstile, log) = (Rc::clone(turnstile), Rc::clone(log));
        actix_web::rt::spawn(async move {
            let place = Rc::<Place>::default();
            loop {
                poll_fn(|cx| turnstile.poll_pass(&place, cx)).await;
                log.borrow_mut().push(name);
            }
        })
    }

    #[actix_web::test]
    async fn a_new_task_waits_for_one_turn_however_many_connections_write() {
        let (turnstile, log) = (Turnstile::new(), Rc::default());
        let connections: Vec<_> = (0..1000).map(|name| busy(&turnstile, name, &log)).collect();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let before = log.borrow().len();
        actix_web::rt::spawn(async {}).await.expect("it runs");
        let meanwhile = log.borrow().len() - before;
        assert!(meanwhile <= 4 * PASSES, "{meanwhile} passes");
        connections.iter().for_each(actix_web::rt::task::JoinHandle::abort);
    }

    #[actix_web::test]
    async fn all_connections_have_their_turns_and_one_that_leaves_holds_none_up() {
        let (turnstile, log) = (Turnstile::new(), Rc::default());
        let connections: Vec<_> = (0..100).map(|name| busy(&turnstile, name, &log)).collect();
        while log.borrow().len() < 100 + 2 * PASSES {
            tokio::task::yield_now().await;
        }
        connections[..50].iter().for_each(actix_web::rt::task::JoinHandle::abort);
        log.borrow_mut().clear();
        while log.borrow().len() < 200 {
            tokio::task::yield_now().await;
        }
        let count = |name| log.borrow().iter().filter(|noted| **noted == name).count();
        let counts: Vec<_> = (50..100).map(count).collect();
        assert!(counts.iter().all(|count| (3..=5).contains(count)), "{counts:?}");
        connections.iter().for_each(actix_web::rt::task::JoinHandle::abort);
    }

    #[actix_web::test]
    async fn a_turnstile_without_connections_rests() {
        let turnstile = Turnstile::new();
        let place = Rc::<Place>::default();
        for _ in 0..3 * PASSES {
            poll_fn(|cx| turnstile.poll_pass(&place, cx)).await;
        }
        while turnstile.0.borrow().is_turning {
            tokio::task::yield_now().await;
        }
        assert_eq!(turnstile.0.borrow().left, PASSES);
    }
}
