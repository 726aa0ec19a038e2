//! The requests of a shard to the ledger, from question to answer. Order and ids only: no I/O, no clock of its own.
//!
//! A refill whose outcome is unknown may have been granted. It is never forgotten: it is repeated, under its own id and
//! for its own hour, until the ledger reports its outcome. So no lease exists that its node does not know of.
//!
//! # Invariants
//! - Each receipt has at most one request, which is wanted, in flight, or unanswered.
//! - A request keeps its id, node epoch and hour until it is answered, or its epoch is over.

use std::collections::{HashMap, HashSet, VecDeque, hash_map::Entry};

use jiff::Timestamp;

use crate::{
    ids::ReceiptId,
    model::{NodeEpoch, WindowKind},
    ports::{RefillRequest, Want},
};

/// One round trip to the ledger.
#[derive(Debug)]
pub struct RefillTrip {
    pub node: NodeEpoch,
    /// A moment in the hour of its requests.
    pub at: Timestamp,
    pub requests: Vec<RefillRequest>,
}

#[derive(Debug)]
struct PendingRefill {
    want: Want,
    /// The id under which it was sent, if it was.
    sent: Option<Sent>,
    /// The receipt was invalidated while the request was in flight, so the answer may be outdated.
    outdated: bool,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    id: i64,
    node: NodeEpoch,
    at: Timestamp,
}

/// Requests that wait for their round trip, are in flight, or were not answered.
#[derive(Debug, Default)]
pub struct RefillQueue {
    asked: HashMap<ReceiptId, PendingRefill>,
    /// The requests of the next round trips, in order.
    queue: VecDeque<ReceiptId>,
    /// Sent, not answered, and not queued.
    unanswered: HashSet<ReceiptId>,
    last_id: i64,
}

impl RefillQueue {
    /// Adds a request, unless this receipt has one already. An unanswered request is repeated first.
    pub fn want(&mut self, want: Want) {
        let id = want.receipt_id;
        if self.unanswered.remove(&id) {
            self.queue.push_back(id);
        } else if let Entry::Vacant(place) = self.asked.entry(id) {
            place.insert(PendingRefill { want, sent: None, outdated: false });
            self.queue.push_back(id);
        }
    }

    /// Receipts with a request.
    pub fn len(&self) -> usize {
        self.asked.len()
    }

    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    pub fn is_asked(&self, id: ReceiptId) -> bool {
        self.asked.contains_key(&id)
    }

    /// Whether no request waits for a round trip.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Requests whose outcome is unknown, and that are not being repeated right now.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// The next round trip: up to `most` requests of one hour.
    pub fn next_trip(&mut self, node: NodeEpoch, now: Timestamp, most: usize) -> Option<RefillTrip> {
        let hour = |at: Timestamp| WindowKind::Hour.window(at).start;
        let mut trip: Option<RefillTrip> = None;
        let mut later = VecDeque::new();
        while let Some(id) = self.queue.pop_front() {
            let Some(asked) = self.asked.get_mut(&id) else { continue };
            // A grant to an ended epoch is reclaimed with it, so the request becomes a new one.
            let sent = asked.sent.filter(|sent| sent.node == node);
            let at = sent.map_or(now, |sent| sent.at);
            let trip = trip.get_or_insert_with(|| RefillTrip { node, at, requests: Vec::new() });
            if hour(trip.at) != hour(at) {
                later.push_back(id);
                continue;
            }
            let request = match sent {
                Some(sent) => RefillRequest::first(sent.id, asked.want).repeated(),
                None => {
                    self.last_id += 1;
                    RefillRequest::first(self.last_id, asked.want)
                }
            };
            asked.sent = Some(Sent { id: request.id, node, at });
            asked.outdated = false;
            trip.requests.push(request);
            if trip.requests.len() == most {
                break;
            }
        }
        later.append(&mut self.queue);
        self.queue = later;
        trip
    }

    /// The ledger has answered a request; returns whether its answer may be outdated.
    pub fn answered(&mut self, id: ReceiptId) -> bool {
        self.asked.remove(&id).is_some_and(|asked| asked.outdated)
    }

    /// The ledger has not answered a request. One that only loads is forgotten: it granted nothing.
    pub fn lost(&mut self, request: &RefillRequest) {
        let id = request.want.receipt_id;
        if request.want.want.is_zero() {
            self.asked.remove(&id);
        } else if self.asked.contains_key(&id) {
            self.unanswered.insert(id);
        }
    }

    /// Queues up to `most` unanswered requests again.
    pub fn ask_again(&mut self, most: usize) {
        let again: Vec<ReceiptId> = self.unanswered.iter().copied().take(most).collect();
        for id in again {
            self.unanswered.remove(&id);
            self.queue.push_back(id);
        }
    }

    /// Forgets unanswered requests of other epochs: their grants are reclaimed with their epoch.
    pub fn forfeit(&mut self, node: NodeEpoch) {
        let asked = &mut self.asked;
        self.unanswered.retain(|id| {
            let stays = asked.get(id).and_then(|asked| asked.sent).is_some_and(|sent| sent.node == node);
            if !stays {
                asked.remove(id);
            }
            stays
        });
    }

    /// Notes that a receipt has changed.
    pub fn outdate(&mut self, id: ReceiptId) {
        if let Some(asked) = self.asked.get_mut(&id) {
            asked.outdated = true;
        }
    }

    /// Notes that every receipt may have changed.
    pub fn outdate_all(&mut self) {
        self.asked.values_mut().for_each(|asked| asked.outdated = true);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        ids::{ContentHash, NodeId},
        model::Credit,
    };

    fn now() -> Timestamp {
        "2026-11-01T10:30:00Z".parse().expect("a time")
    }

    fn node(epoch: i64) -> NodeEpoch {
        NodeEpoch { node: NodeId::from_uuid(uuid::Uuid::nil()), epoch }
    }

    fn want(id: ReceiptId, bytes: u64) -> Want {
        let credit = Credit::new(bytes, u64::from(bytes > 0));
        Want { receipt_id: id, content_hash: ContentHash::from_bytes([7; 32]), need: credit, want: credit }
    }

    fn trip(queue: &mut RefillQueue, at: Timestamp) -> Vec<RefillRequest> {
        queue.next_trip(node(1), at, 10).map_or_else(Vec::new, |trip| trip.requests)
    }

    #[test]
    fn a_receipt_is_asked_about_once_at_a_time() {
        let (mut queue, id) = (RefillQueue::default(), ReceiptId::random());
        queue.want(want(id, 1));
        queue.want(want(id, 2));
        let requests = trip(&mut queue, now());
        assert_eq!(requests, [RefillRequest::first(1, want(id, 1))]);
        queue.want(want(id, 3));
        assert_eq!(trip(&mut queue, now()), [], "it is under way");
        assert!(!queue.answered(id));
        queue.want(want(id, 3));
        assert_eq!(trip(&mut queue, now()), [RefillRequest::first(2, want(id, 3))], "a later one has a larger id");
    }

    #[test]
    fn an_unanswered_refill_is_asked_again_under_its_id_whatever_else_is_wanted() {
        let (mut queue, id) = (RefillQueue::default(), ReceiptId::random());
        queue.want(want(id, 1));
        let first = trip(&mut queue, now());
        queue.lost(&first[0]);
        assert_eq!((queue.unanswered(), trip(&mut queue, now())), (1, Vec::new()));
        queue.want(want(id, 9));
        assert_eq!(trip(&mut queue, now()), [first[0].repeated()]);
        queue.lost(&first[0].repeated());
        queue.ask_again(10);
        assert_eq!(trip(&mut queue, now()), [first[0].repeated()]);
        queue.answered(id);
        queue.ask_again(10);
        assert!(queue.is_empty() && queue.is_idle());
    }

    #[test]
    fn a_repeat_keeps_its_hour_and_waits_for_a_trip_of_that() {
        let mut queue = RefillQueue::default();
        let (old, new) = (ReceiptId::random(), ReceiptId::random());
        queue.want(want(old, 1));
        let lost = trip(&mut queue, now());
        queue.lost(&lost[0]);
        let later = now() + Duration::from_secs(3600);
        queue.want(want(new, 1));
        queue.ask_again(10);
        let fresh = queue.next_trip(node(1), later, 10).expect("what is new");
        assert_eq!((fresh.at, fresh.requests), (later, vec![RefillRequest::first(2, want(new, 1))]));
        let again = queue.next_trip(node(1), later, 10).expect("what is old");
        assert_eq!((again.at, again.requests), (now(), vec![lost[0].repeated()]));
    }

    #[test]
    fn a_load_that_was_not_answered_is_forgotten() {
        let (mut queue, id) = (RefillQueue::default(), ReceiptId::random());
        queue.want(want(id, 0));
        let load = trip(&mut queue, now());
        queue.lost(&load[0]);
        assert!(queue.is_empty());
    }

    #[test]
    fn credit_that_an_epoch_never_learned_of_ends_with_it() {
        let mut queue = RefillQueue::default();
        let (unanswered, queued) = (ReceiptId::random(), ReceiptId::random());
        for id in [unanswered, queued] {
            queue.want(want(id, 1));
        }
        trip(&mut queue, now()).iter().for_each(|request| queue.lost(request));
        queue.want(want(queued, 1));
        queue.forfeit(node(2));
        assert!(!queue.is_asked(unanswered));
        let trip = queue.next_trip(node(2), now(), 10).expect("one waits");
        assert_eq!(trip.requests, [RefillRequest::first(3, want(queued, 1))], "a new request of the new epoch");
    }

    #[test]
    fn an_answer_is_old_if_the_receipt_changed_while_it_was_under_way() {
        let (mut queue, id) = (RefillQueue::default(), ReceiptId::random());
        queue.want(want(id, 1));
        queue.outdate(id);
        trip(&mut queue, now());
        queue.outdate_all();
        assert!(queue.answered(id));
        queue.want(want(id, 1));
        queue.outdate(id);
        trip(&mut queue, now());
        assert!(!queue.answered(id), "it changed before it was asked");
    }

    #[test]
    fn a_trip_is_bounded_and_the_rest_keeps_its_order() {
        let mut queue = RefillQueue::default();
        let ids: Vec<_> = (0..5).map(|_| ReceiptId::random()).collect();
        ids.iter().for_each(|&id| queue.want(want(id, 1)));
        let mut asked = Vec::new();
        while let Some(trip) = queue.next_trip(node(1), now(), 2) {
            assert!(trip.requests.len() <= 2);
            asked.extend(trip.requests.iter().map(|request| request.want.receipt_id));
        }
        assert_eq!(asked, ids);
    }
}
