//! Supervision: an actor that died of a panic is built again.
//!
//! actix catches no panic: the actor ends, with its mailbox, its futures and its timers. The messages in the mailbox are dropped, so
//! their callers get an error at once, and no message is handled twice: one that is poison kills one actor, once. [`Supervised`]
//! then builds the next actor with the same factory, after a pause that grows from death to death. When the actor dies too often
//! ([`Intensity`]), it is given up: `Node::is_alive` is false from then on, so the node is not ready any more, and stops with an
//! error.
//!
//! Only an actor whose state may be lost is supervised. The shards of the quota cache own leases, and the usage batcher owns rows
//! that only the next process could settle: without one of them the node is given up at the first death.
//!
//! **Bound.** [`DEATHS`] deaths within [`WITHIN`].

mod intensity;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::{Actor, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, WrapFuture, prelude::SendError};
use tokio::sync::oneshot;

use self::intensity::Intensity;
use crate::mailbox::{Mailbox, Posted};

/// An actor that dies this often within [`WITHIN`] is given up: what kills it comes back with it.
const DEATHS: usize = 5;

/// Long enough that an actor which dies in each of its rounds is given up, and short enough that rare deaths are forgotten.
const WITHIN: Duration = Duration::from_secs(300);

/// The pause before the first new actor. Pauses double up to the longest, and each gets up to half of it on top at random, so that
/// instances that died of one cause do not come back at one moment.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Makes an actor.
type Factory<A> = Arc<dyn Fn(&mut Context<A>) -> A + Send + Sync>;

/// The deaths of an actor.
#[derive(Debug, Default)]
struct DeathRecord {
    restarts: AtomicU64,
    given_up: AtomicBool,
}

/// The address of an actor that is built again when it dies.
pub struct Supervised<A: Actor> {
    current: Arc<Mutex<Addr<A>>>,
    mailbox: Arc<Mailbox>,
    record: Arc<DeathRecord>,
}

impl<A: Actor> Clone for Supervised<A> {
    fn clone(&self) -> Self {
        Self {
            current: Arc::clone(&self.current),
            mailbox: Arc::clone(&self.mailbox),
            record: Arc::clone(&self.record),
        }
    }
}

impl<A: Actor<Context = Context<A>>> Supervised<A> {
    /// Starts an actor of this factory on an arbiter, and watches it.
    pub fn start(
        name: &'static str,
        arbiter: &ArbiterHandle,
        factory: impl Fn(&mut Context<A>) -> A + Send + Sync + 'static,
    ) -> Self {
        let factory: Factory<A> = Arc::new(factory);
        let (addr, died) = begin(arbiter, &factory);
        let supervised =
            Self { current: Arc::new(Mutex::new(addr)), mailbox: Mailbox::of(name), record: Arc::default() };
        let supervision = Supervision {
            name,
            arbiter: arbiter.clone(),
            factory,
            current: Arc::downgrade(&supervised.current),
            record: Arc::clone(&supervised.record),
        };
        arbiter.spawn(supervision.run(died));
        supervised
    }

    /// Sends a message to the present actor. A message that it does not live to handle is dropped with it.
    ///
    /// # Errors
    /// When the actor is dead.
    pub(crate) fn try_send<M>(&self, message: M) -> Result<(), SendError<Posted<M>>>
    where
        M: Message<Result = ()> + Send + 'static,
        A: Handler<Posted<M>>,
    {
        let message = self.mailbox.post(message);
        lock(&self.current).try_send(message)
    }

    /// The mailbox of the present actor and of those after it.
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }
}

impl<A: Actor> Supervised<A> {
    /// Whether it died too often, so that no actor comes back.
    pub fn is_given_up(&self) -> bool {
        self.record.given_up.load(Relaxed)
    }

    /// How often the actor was built again.
    pub fn restarts(&self) -> u64 {
        self.record.restarts.load(Relaxed)
    }
}

fn lock<A: Actor>(current: &Mutex<Addr<A>>) -> MutexGuard<'_, Addr<A>> {
    // The only change under the lock is one assignment.
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts an actor. The receiver is answered with an error when the actor's context is dropped.
fn begin<A: Actor<Context = Context<A>>>(
    arbiter: &ArbiterHandle,
    factory: &Factory<A>,
) -> (Addr<A>, oneshot::Receiver<()>) {
    let (lives, died) = oneshot::channel::<()>();
    let factory = Arc::clone(factory);
    let addr = A::start_in_arbiter(arbiter, move |ctx| {
        let actor = factory(ctx);
        let held = async move {
            let _held = lives;
            std::future::pending::<()>().await;
        };
        ctx.spawn(held.into_actor(&actor));
        actor
    });
    (addr, died)
}

/// The watch over one actor.
struct Supervision<A: Actor<Context = Context<A>>> {
    name: &'static str,
    arbiter: ArbiterHandle,
    factory: Factory<A>,
    current: Weak<Mutex<Addr<A>>>,
    record: Arc<DeathRecord>,
}

impl<A: Actor<Context = Context<A>>> Supervision<A> {
    async fn run(self, mut died: oneshot::Receiver<()>) {
        let mut intensity = Intensity::new(DEATHS, WITHIN, FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            // No answer is ever sent.
            let _ = died.await;
            let Some(pause) = intensity.died(Instant::now()) else {
                self.record.given_up.store(true, Relaxed);
                tracing::error!(
                    actor = self.name,
                    deaths = DEATHS,
                    within = ?WITHIN,
                    "an actor died too often and is not built again; this node is not ready any more, and stops"
                );
                return;
            };
            let pause = pause + pause.mul_f64(fastrand::f64() / 2.0);
            tracing::error!(
                actor = self.name,
                ?pause,
                "an actor died of a panic; this node builds it again after a pause"
            );
            tokio::time::sleep(pause).await;
            let Some(current) = self.current.upgrade() else { return };
            let (addr, next) = begin(&self.arbiter, &self.factory);
            *lock(&current) = addr;
            self.record.restarts.fetch_add(1, Relaxed);
            died = next;
        }
    }
}
