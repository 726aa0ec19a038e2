//! Offers, and how batches are made of them. Limits only: no I/O, no clock of its own.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::{
    flow::admission::Permit,
    model::LineageEvent,
    ports::{EventOutcome, PortResult},
};

/// Bytes of events in a batch, beyond which it takes no more offers. Larger batches make the statement and its memory
/// on both sides larger, and save too few round trips to be worth it.
const BATCH_BYTES: usize = 4 << 20;

/// Jobs, datasets and edges in the events of a batch: some hundred milliseconds of work for the store. SQLite's writer
/// keeps all others waiting for that long, and PostgreSQL cancels a statement that exceeds its time-out. Usual events
/// have ten each. A single event is a batch, however many it has.
const BATCH_ROWS: usize = 10_000;

/// Events, with the sender of the reply to their caller.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct Offer {
    pub(super) events: Vec<LineageEvent>,
    /// The outcomes of earlier events of the same offer.
    pub(super) kept: Vec<EventOutcome>,
    /// Held until the answer is sent.
    _permit: Permit,
    pub(super) reply: oneshot::Sender<PortResult<Vec<EventOutcome>>>,
}

impl Offer {
    pub(super) fn new(
        events: Vec<LineageEvent>,
        permit: Permit,
        reply: oneshot::Sender<PortResult<Vec<EventOutcome>>>,
    ) -> Self {
        Self { events, kept: Vec::new(), _permit: permit, reply }
    }
}

/// The cost of events for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct BatchSize {
    events: usize,
    bytes: usize,
    rows: usize,
}

impl BatchSize {
    fn of(events: &[LineageEvent]) -> Self {
        Self {
            events: events.len(),
            bytes: events.iter().map(|event| event.body.len()).sum(),
            rows: events.iter().map(rows_of).sum(),
        }
    }

    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
        self.rows += other.rows;
    }

    const fn is_full(&self, batch_events: usize) -> bool {
        self.events >= batch_events || self.bytes >= BATCH_BYTES || self.rows >= BATCH_ROWS
    }
}

fn rows_of(event: &LineageEvent) -> usize {
    event.mentions.len() + event.edges.len()
}

/// The part of an offer that is in a batch. The rest stays in the offer.
pub(super) struct OfferPart {
    pub(super) offer: Offer,
    pub(super) events: Vec<LineageEvent>,
}

impl OfferPart {
    /// The first events that have no more than `rows` together, but at least `fewest` events.
    fn of(mut offer: Offer, rows: usize, fewest: usize) -> Self {
        let mut taken = 0;
        let fits = offer.events.iter().take_while(|event| {
            taken += rows_of(event);
            taken <= rows
        });
        let fits = fits.count().max(fewest).min(offer.events.len());
        let rest = offer.events.split_off(fits);
        let events = std::mem::replace(&mut offer.events, rest);
        Self { offer, events }
    }

    fn is_whole(&self) -> bool {
        self.offer.events.is_empty()
    }

    /// The whole offer, put together again.
    pub(super) fn undone(mut self) -> Offer {
        self.events.append(&mut self.offer.events);
        Offer { events: self.events, ..self.offer }
    }
}

/// The oldest offers up to the limits: at least one event of the first, and perhaps only part of the last.
pub(super) fn batch_of(offers: &mut VecDeque<Offer>, batch_events: usize) -> Vec<OfferPart> {
    let (mut batch, mut load) = (Vec::new(), BatchSize::default());
    while !load.is_full(batch_events)
        && let Some(offer) = offers.pop_front()
    {
        let part = OfferPart::of(offer, BATCH_ROWS - load.rows, usize::from(batch.is_empty()));
        if part.events.is_empty() && !part.is_whole() {
            offers.push_front(part.offer);
            break;
        }
        load.add(BatchSize::of(&part.events));
        batch.push(part);
        if batch.last().is_some_and(|part| !part.is_whole()) {
            break;
        }
    }
    batch
}
