//! Clients that stream again and again, each time from an instance at random, whatever happens to the instances meanwhile. What each
//! request received is kept, so that it can be compared with its usage row.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use reqwest::Client;
use serde_json::Value;
use tokio::{task::JoinSet, time::sleep};
use uuid::Uuid;

use crate::{
    node::{Paid, client},
    patience::eventually,
};

/// Clients at a time; so many of them always ask for the long content.
const CLIENTS: usize = 12;
const PATIENT: usize = 2;

/// Between two requests of a client, so that the quota lasts while something happens to the instances.
const PAUSE: Duration = Duration::from_millis(150);

/// The product whose content takes long to send, by its number.
pub(crate) const LONG: usize = 2;

/// A content, and a receipt for it. Its tier limits the bytes or the requests of a month, or both.
pub(crate) struct Product {
    pub(crate) paid: Paid,
    pub(crate) content: Vec<u8>,
    pub(crate) bytes: Option<u64>,
    pub(crate) requests: Option<u64>,
    /// Whether less is left of its month than one stream takes.
    pub(crate) used_up: AtomicBool,
}

impl Product {
    pub(crate) fn size(&self) -> u64 {
        self.content.len() as u64
    }
}

/// A request that was let in, or that got no answer.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) session: Uuid,
    pub(crate) product: usize,
    pub(crate) instance: usize,
    /// Bytes of the content.
    pub(crate) received: u64,
    pub(crate) end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    /// The connection broke off after the answer had begun.
    Cut,
    /// The connection broke off, or was refused, before there was an answer.
    Unanswered,
}

/// An instance as clients see it.
#[derive(Default)]
struct Place {
    /// Where it listens; `None` while clients do not ask it.
    base: Mutex<Option<String>>,
    /// Long streams that it is sending.
    sending: AtomicUsize,
    /// Answers of it, refusals among them.
    answers: AtomicU64,
}

pub(crate) struct Clients {
    client: Client,
    pub(crate) products: [Product; LONG + 1],
    places: Vec<Place>,
    requests: Mutex<Vec<Request>>,
    unavailable: AtomicU64,
    flush_now: AtomicBool,
    stopped: AtomicBool,
}

impl Clients {
    /// Of these products, at so many instances, none of which is asked yet.
    pub(crate) fn new(products: [Product; LONG + 1], instances: usize) -> Arc<Self> {
        Arc::new(Self {
            client: client(),
            products,
            places: (0..instances).map(|_| Place::default()).collect(),
            requests: Mutex::default(),
            unavailable: AtomicU64::default(),
            flush_now: AtomicBool::default(),
            stopped: AtomicBool::default(),
        })
    }

    /// Where clients ask an instance from now on; `None`: they do not ask it.
    pub(crate) fn place(&self, instance: usize, base: Option<String>) {
        *self.places[instance].base.lock().unwrap() = base;
    }

    /// Starts all clients, which ask until they are told to stop.
    pub(crate) fn start(self: &Arc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for number in 0..CLIENTS {
            let clients = Arc::clone(self);
            tasks.spawn(async move {
                while !clients.stopped.load(SeqCst) {
                    clients.ask_any(number < PATIENT).await;
                    if !clients.flush_now.load(SeqCst) {
                        sleep(PAUSE).await;
                    }
                }
            });
        }
        tasks
    }

    /// Whether clients ask without pauses.
    pub(crate) fn flush_now(&self, is_so: bool) {
        self.flush_now.store(is_so, SeqCst);
    }

    /// Each client reads its answer to the end, and asks no more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }

    async fn ask_any(&self, patient: bool) {
        let random = Uuid::new_v4().as_u128() as usize;
        let left: Vec<_> = (0..LONG).filter(|&product| !self.products[product].used_up.load(SeqCst)).collect();
        let product = if patient || left.is_empty() { LONG } else { left[random % left.len()] };
        let asked = (random / 64) % self.places.len();
        self.ask(asked, product).await;
    }

    /// Asks an instance for a product, if clients ask it at all; whether it is refused for want of quota.
    pub(crate) async fn ask(&self, instance: usize, product: usize) -> bool {
        let base = self.places[instance].base.lock().unwrap().clone();
        if let Some(base) = base {
            return self.stream(instance, &base, product).await;
        }
        sleep(Duration::from_millis(1)).await;
        false
    }

    /// One request at an instance, read to its end; whether it is refused for want of quota.
    async fn stream(&self, instance: usize, base: &str, product: usize) -> bool {
        let (session, place) = (Uuid::new_v4(), &self.places[instance]);
        let Product { paid, content, .. } = &self.products[product];
        let mut asked = Request { session, product, instance, received: 0, end: End::Unanswered };
        let request = self.client.get(format!("{base}/v1/streaming/data/{}", paid.hash));
        let request = request.header("x-receipt-id", &paid.receipt).header("x-session-id", session.to_string());
        if let Ok(mut answer) = request.send().await {
            match answer.status().as_u16() {
                200 => {}
                429 => {
                    let problem: Value = answer.json().await.unwrap_or_default();
                    assert!(problem["type"].as_str().is_none_or(|kind| kind.ends_with(":quota-exceeded")), "{problem}");
                    place.answers.fetch_add(1, SeqCst);
                    return true;
                }
                // The instance stops, cannot reach the ledger, or was paused for longer than a head may take; nothing was given.
                408 | 503 => {
                    self.unavailable.fetch_add(1, SeqCst);
                    sleep(Duration::from_millis(20)).await;
                    return false;
                }
                other => panic!("{other}: {}", answer.text().await.unwrap_or_default()),
            }
            let is_long = usize::from(product == LONG);
            place.sending.fetch_add(is_long, SeqCst);
            asked.end = loop {
                match answer.chunk().await {
                    Ok(Some(part)) => {
                        let at = asked.received as usize;
                        assert!(content[at..].starts_with(&part), "what comes is what was stored");
                        asked.received += part.len() as u64;
                    }
                    Ok(None) => break End::Whole,
                    Err(_) => break End::Cut,
                }
            };
            place.sending.fetch_sub(is_long, SeqCst);
            place.answers.fetch_add(1, SeqCst);
        }
        self.requests.lock().unwrap().push(asked);
        false
    }

    /// Whether an instance is in the middle of a long stream.
    pub(crate) fn is_sending(&self, instance: usize) -> bool {
        self.places[instance].sending.load(SeqCst) > 0
    }

    /// Waits until an instance has given so many more answers.
    pub(crate) async fn are_answered_by(&self, instance: usize, more: u64) {
        let answers = &self.places[instance].answers;
        let from = answers.load(SeqCst);
        eventually("it answers", async || answers.load(SeqCst) >= from + more).await;
    }

    /// Waits until all instances together have given so many more answers.
    pub(crate) async fn are_answered(&self, more: u64) {
        let answers = || self.places.iter().map(|place| place.answers.load(SeqCst)).sum::<u64>();
        let from = answers();
        eventually("there are answers", async || answers() >= from + more).await;
    }

    /// Answers 503 so far.
    pub(crate) fn unavailable(&self) -> u64 {
        self.unavailable.load(SeqCst)
    }

    /// All requests, once the clients have stopped.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}
