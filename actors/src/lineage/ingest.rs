//! `LineageIngest`: gathers events into batches, and reports the outcome of each event once it is durable.
//!
//! An offer (one event, or the events of one request) waits only for the batch that is in flight: what has arrived by then is
//! the next batch. One batch is in flight at a time, so a slow store makes batches larger, not more numerous, and one
//! commit makes the events of many requests durable. No offer waits for others while the store has nothing to do.
//!
//! **Bound.** Each offer carries a permit for its bytes, taken before its body is read. When there is no permit, the
//! request is refused. A batch is also bounded by the work it makes for the store: a larger offer is kept in several
//! batches. **When the store is down**, the offers of the batch get an error and can be sent again: an event sent twice
//! is kept once, so a lost answer counts nothing twice. **When one offer is rejected** for ever, the others of its
//! batch are kept: the batch is halved until the rejected offer stands alone.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::{Actor, ActorFutureExt, ArbiterHandle, AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::sync::oneshot;

use crate::{
    clock::Clock,
    flow::admission::{Admission, AdmissionSnapshot, Permit},
    mailbox::{Mailbox, Posted},
    model::LineageEvent,
    ports::{EventOutcome, Ingested, LineageStore, PortError, PortResult},
    supervision::Supervised,
};

mod batch;

use self::batch::{Offer, OfferPart, batch_of};

/// Bounds of the ingest.
#[derive(Debug, Clone, Copy)]
pub struct LineageIngestSettings {
    /// Events of a batch, beyond which it takes no more offers.
    pub batch_events: usize,
    /// Bytes of events that may be in flight.
    pub queue: u32,
}

/// Dependencies of the ingest.
#[derive(Clone)]
pub struct LineageIngestDeps {
    pub store: Arc<dyn LineageStore>,
    pub clock: Arc<dyn Clock>,
}

/// The counters of the ingest.
#[derive(Debug, Default)]
pub struct LineageIngestCounters {
    /// Events that were new.
    pub new: AtomicU64,
    /// Events that were already stored.
    pub known: AtomicU64,
    /// Events older than the oldest that their namespace still keeps.
    pub left: AtomicU64,
    pub batches: AtomicU64,
    /// Events of batches that the store did not take.
    pub failed: AtomicU64,
}

/// Answered when the actor runs; until then its mailbox has a limit.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct WhenStarted(oneshot::Sender<()>);

/// The handle of the ingest.
#[derive(Clone)]
pub struct LineageHandle {
    actor: Supervised<LineageIngest>,
    admission: Admission,
    counters: Arc<LineageIngestCounters>,
}

impl LineageHandle {
    pub fn start(settings: LineageIngestSettings, deps: LineageIngestDeps, arbiter: &ArbiterHandle) -> Self {
        let counters = Arc::new(LineageIngestCounters::default());
        let counted = Arc::clone(&counters);
        // Of an actor that dies, the senders of its offers get an error, and may send them again.
        let actor = Supervised::start("lineage ingest", arbiter, move |ctx| {
            ctx.set_mailbox_capacity(0);
            LineageIngest::new(settings, deps.clone(), Arc::clone(&counted))
        });
        Self { actor, admission: Admission::new("lineage", settings.queue), counters }
    }

    /// Waits until the actor runs.
    pub async fn started(&self) {
        let (reply, ready) = oneshot::channel();
        if self.actor.try_send(WhenStarted(reply)).is_ok() {
            let _ = ready.await;
        }
    }

    /// A permit for events of this many bytes, to be taken before they are read.
    pub fn admit(&self, bytes: u32) -> Option<Permit> {
        self.admission.try_admit(bytes)
    }

    /// Like [`admit`](Self::admit), for work inside the node, which may wait.
    pub async fn admit_in_time(&self, bytes: u32, patience: Duration) -> Option<Permit> {
        self.admission.admit(bytes, patience).await
    }

    /// Keeps events; returns the outcome of each, in their order, once it is durable. Events are kept even when the
    /// caller leaves.
    ///
    /// # Errors
    /// The store's answer to the batch that they were in.
    pub async fn keep(&self, events: Vec<LineageEvent>, permit: Permit) -> PortResult<Vec<EventOutcome>> {
        let gone = || PortError::unavailable("lineage ingest", "the actor is gone");
        let (reply, answer) = oneshot::channel();
        self.actor.try_send(Offer::new(events, permit, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Waits until no event is in flight; false when some still is after `patience`.
    pub async fn drain(&self, patience: Duration) -> bool {
        let all = u32::try_from(self.admission.snapshot().capacity).unwrap_or(u32::MAX);
        self.admission.admit(all, patience).await.is_some()
    }

    pub fn is_alive(&self) -> bool {
        !self.actor.is_given_up()
    }

    pub fn restarts(&self) -> u64 {
        self.actor.restarts()
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        self.actor.mailbox()
    }

    pub fn counters(&self) -> &LineageIngestCounters {
        &self.counters
    }

    pub fn queue(&self) -> AdmissionSnapshot {
        self.admission.snapshot()
    }
}

pub struct LineageIngest {
    deps: LineageIngestDeps,
    counters: Arc<LineageIngestCounters>,
    batch_events: usize,
    waiting: VecDeque<Offer>,
    /// Offers that are sent before those that wait; each inner queue is one batch. They are halves of a rejected batch,
    /// and rests of offers that were too large for one batch.
    ahead: VecDeque<VecDeque<Offer>>,
    in_flight: bool,
}

impl LineageIngest {
    fn new(settings: LineageIngestSettings, deps: LineageIngestDeps, counters: Arc<LineageIngestCounters>) -> Self {
        Self {
            deps,
            counters,
            batch_events: settings.batch_events,
            waiting: VecDeque::new(),
            ahead: VecDeque::new(),
            in_flight: false,
        }
    }

    /// Sends the next batch, if none is in flight.
    fn advance(&mut self, ctx: &mut Context<Self>) {
        if self.in_flight {
            return;
        }
        let batch = match self.ahead.pop_front() {
            Some(mut offers) => {
                let batch = batch_of(&mut offers, self.batch_events);
                if !offers.is_empty() {
                    self.ahead.push_front(offers);
                }
                batch
            }
            None => batch_of(&mut self.waiting, self.batch_events),
        };
        if !batch.is_empty() {
            self.send(batch, ctx);
        }
    }

    fn send(&mut self, mut batch: Vec<OfferPart>, ctx: &mut Context<Self>) {
        self.in_flight = true;
        let sizes: Vec<usize> = batch.iter().map(|part| part.events.len()).collect();
        let events: Vec<LineageEvent> = batch.iter_mut().flat_map(|part| part.events.drain(..)).collect();
        let (store, now) = (Arc::clone(&self.deps.store), self.deps.clock.now());
        let kept = async move {
            let answer = store.ingest(&events, now).await;
            (answer, events)
        };
        ctx.spawn(kept.into_actor(self).map(move |(answer, events), ingest, ctx| {
            ingest.in_flight = false;
            ingest.answered(batch, &sizes, events, answer);
            ingest.advance(ctx);
        }));
    }

    fn answered(
        &mut self,
        batch: Vec<OfferPart>,
        sizes: &[usize],
        events: Vec<LineageEvent>,
        answer: PortResult<Ingested>,
    ) {
        match answer {
            Ok(Ingested { kept, .. }) => {
                self.counters.batches.fetch_add(1, Relaxed);
                self.count(&kept);
                let mut kept = kept.into_iter();
                for (OfferPart { mut offer, .. }, size) in batch.into_iter().zip(sizes) {
                    offer.kept.extend(kept.by_ref().take(*size));
                    if offer.events.is_empty() {
                        // A caller that has left needs no answer.
                        let _ = offer.reply.send(Ok(offer.kept));
                    } else {
                        self.ahead.push_front(VecDeque::from([offer]));
                    }
                }
            }
            Err(PortError::Rejected { .. }) if batch.len() > 1 => {
                let mut events = events.into_iter();
                let mut offers: VecDeque<Offer> = batch
                    .into_iter()
                    .zip(sizes)
                    .map(|(part, size)| OfferPart { events: events.by_ref().take(*size).collect(), ..part }.undone())
                    .collect();
                let later = offers.split_off(offers.len() / 2);
                self.ahead.push_front(later);
                self.ahead.push_front(offers);
            }
            Err(error) => {
                let later: usize = batch.iter().map(|part| part.offer.events.len()).sum();
                self.counters.failed.fetch_add((events.len() + later) as u64, Relaxed);
                tracing::warn!(%error, events = events.len(), "the store did not keep a batch of lineage events; their senders get an error and can send them again");
                let error = Arc::new(error);
                for OfferPart { offer, .. } in batch {
                    let _ = offer.reply.send(Err(PortError::shared(&error)));
                }
            }
        }
    }

    fn count(&self, kept: &[EventOutcome]) {
        let count = |what: EventOutcome| kept.iter().filter(|kept| **kept == what).count() as u64;
        self.counters.new.fetch_add(count(EventOutcome::New), Relaxed);
        self.counters.known.fetch_add(count(EventOutcome::Known), Relaxed);
        self.counters.left.fetch_add(count(EventOutcome::Left), Relaxed);
    }
}

impl Actor for LineageIngest {
    type Context = Context<Self>;
}

impl<M> Handler<Posted<M>> for LineageIngest
where
    M: Message<Result = ()>,
    Self: Handler<M>,
{
    type Result = ();

    fn handle(&mut self, posted: Posted<M>, ctx: &mut Self::Context) {
        Handler::handle(self, posted.open(), ctx);
    }
}

impl Handler<Offer> for LineageIngest {
    type Result = ();

    fn handle(&mut self, offer: Offer, ctx: &mut Self::Context) {
        self.waiting.push_back(offer);
        self.advance(ctx);
    }
}

impl Handler<WhenStarted> for LineageIngest {
    type Result = ();

    fn handle(&mut self, WhenStarted(reply): WhenStarted, _: &mut Self::Context) {
        let _ = reply.send(());
    }
}
