//! The requests of a scenario that is a file. All times are from the moment when the request was meant to start.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use crate::{
    api::Api,
    arrivals::Popularity,
    client::{Connection, Pool, Target},
    content::Content,
    fault::{Fault, STALL, refusal},
    measure::Received,
    plan::{Kind, Operation},
    stream::{Ended, Stream, Wanted},
};

/// What the kernel may take in for a client that is slow or leaves. The kernel doubles it.
const SMALL_RECEIVE_BUFFER: u32 = 64 * 1024;

/// What has left the node for a client that then leaves, and what that client never read: its receive buffer in the kernel, and as much
/// again in the HTTP library. The node cannot know of it, so a bill may have it.
const UNREAD_AT_MOST: u64 = 4 * SMALL_RECEIVE_BUFFER as u64;

/// Longest answer of a search or an event that is read.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Words of the names of assets, and of searches.
const WORDS: [&str; 16] = [
    "harbour", "tide", "river", "lock", "sluice", "weir", "canal", "bridge", "ferry", "beacon", "anchor", "delta",
    "marsh", "dune", "island", "strait",
];

/// What all requests of a run share.
pub(crate) struct Work {
    pub(crate) api: Arc<Api>,
    /// Where the connections go.
    pub(crate) target: Target,
    pub(crate) pool: Pool,
    /// The receipts of each content.
    pub(crate) wanted: Vec<Vec<Wanted>>,
    pub(crate) popularity: Popularity,
    /// Requests that are open now.
    pub(crate) open: AtomicUsize,
    /// Whether something stands before the nodes, and may hold more for a client that leaves.
    pub(crate) is_proxied: bool,
    /// Assets that were made for searches.
    pub(crate) assets: usize,
    /// Makes what this run writes different from what earlier runs wrote to the same node.
    pub(crate) mark: u64,
}

/// How a request went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) kind: Kind,
    /// When it was meant to start, after the beginning of its phase.
    pub(crate) due: Duration,
    /// How much later the generator started it.
    pub(crate) lag: Duration,
    pub(crate) ended: Ended,
    pub(crate) charges: Vec<(String, Received)>,
    pub(crate) proof: Option<Proof>,
}

/// What the node must know after the run.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    Run(String),
    Content(Arc<Content>),
}

/// The moment at which a request is meant to start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) phase_began: Instant,
    pub(crate) after: Duration,
}

impl Due {
    fn elapsed(self) -> Duration {
        (self.phase_began + self.after).elapsed()
    }
}

impl Work {
    /// Makes one request; all that is random in it comes from the seed.
    pub(crate) async fn perform(&self, operation: &Operation, seed: u64, due: Due) -> Outcome {
        let mut turn = Turn { due, charges: Vec::new(), proof: None, random: fastrand::Rng::with_seed(seed) };
        let lag = due.elapsed();
        let ended = match operation.r#do {
            Kind::Stream | Kind::Range | Kind::RangeStorm | Kind::Abort => self.streams(operation, &mut turn).await,
            Kind::Upload => self.upload(operation, &mut turn).await,
            Kind::Search => self.search(operation, &mut turn).await,
            Kind::Lineage => self.lineage(operation, &mut turn).await,
        };
        let Turn { charges, proof, .. } = turn;
        Outcome { kind: operation.r#do, due: due.after, lag, ended, charges, proof }
    }

    /// One stream, or a storm of ranges over one connection.
    async fn streams(&self, operation: &Operation, turn: &mut Turn) -> Ended {
        let receipts = &self.wanted[self.popularity.choose(&mut turn.random)];
        let mut wanted = receipts[turn.random.usize(..receipts.len())].clone();
        let is_small = operation.pace.is_some() || operation.r#do == Kind::Abort;
        let keeps = !is_small && !operation.new_connection;
        let mut connection = match self.connect(keeps, is_small).await {
            Ok(connection) => connection,
            Err(fault) => return turn.failed(fault),
        };
        let times = if operation.r#do == Kind::RangeStorm { operation.count.unwrap_or(1) } else { 1 };
        let (mut first_byte, mut received) = (None, 0);
        for _ in 0..times {
            if let Some(size) = operation.size {
                let size = size.0.min(wanted.content.len());
                let start = turn.random.u64(..=wanted.content.len() - size);
                wanted.range = Some(start..start + size);
            }
            let pace = operation.pace.map(|pace| pace.0);
            let cut = (operation.r#do == Kind::Abort).then(|| turn.random.u64(1..=wanted.content.len()));
            let mut ended = turn.stream(self, &mut connection, &wanted, pace, cut).await;
            if matches!(ended.fault, Some(Fault::ClosedWhenIdle(_))) {
                // As browsers do: the node closed the connection just as it was used again, and saw no request.
                turn.charges.pop();
                connection = match self.connect(false, is_small).await {
                    Ok(connection) => connection,
                    Err(fault) => return turn.failed(fault),
                };
                ended = turn.stream(self, &mut connection, &wanted, pace, cut).await;
            }
            first_byte = first_byte.or(ended.first_byte);
            received += ended.received;
            if let Some(fault) = &ended.fault {
                if fault.is_refusal() && keeps {
                    self.pool.give(connection);
                }
                return Ended { received, first_byte, ..ended };
            }
        }
        if keeps {
            self.pool.give(connection);
        }
        Ended { received, first_byte, total: turn.due.elapsed(), fault: None }
    }

    /// A connection that is there, if it may be; a new one otherwise.
    async fn connect(&self, keeps: bool, is_small: bool) -> Result<Connection, Fault> {
        if keeps && let Some(connection) = self.pool.take() {
            return Ok(connection);
        }
        Connection::open(&self.target, is_small.then_some(SMALL_RECEIVE_BUFFER)).await
    }

    async fn upload(&self, operation: &Operation, turn: &mut Turn) -> Ended {
        let size = operation.size.and_then(|size| usize::try_from(size.0).ok()).unwrap_or_default();
        // The first bytes make the content new. That the others are zeros is of no use to the node, which compresses nothing.
        let mut bytes = vec![0; size];
        let unique = (self.mark ^ turn.random.u64(..)).to_le_bytes();
        bytes[..unique.len()].copy_from_slice(&unique);
        let bytes = Bytes::from(bytes);
        let request = self.api.request("POST", "/v1/content", "application/octet-stream", bytes.clone());
        let (mut ended, answer) = self.call(operation, turn, request).await;
        if ended.fault.is_none() {
            ended.received = bytes.len() as u64;
            // After the time was taken: hashing is the generator's work.
            let content = Content::of(bytes);
            if answer["contentHash"] == *content.hash {
                turn.proof = Some(Proof::Content(Arc::new(content)));
            } else {
                ended.fault = Some(Fault::WrongBytes);
            }
        }
        ended
    }

    async fn search(&self, operation: &Operation, turn: &mut Turn) -> Ended {
        let mut word = || WORDS[turn.random.usize(..WORDS.len())];
        let (one, other) = (word(), word());
        let words = if turn.random.bool() { vec![one] } else { vec![one, other] };
        let path = format!("/v1/catalog?q={}", words.join("+"));
        let request = self.api.request("GET", &path, JSON, Bytes::new());
        let (mut ended, answer) = self.call(operation, turn, request).await;
        if ended.fault.is_none() {
            ended.fault = wrong_search(&answer, &words, self.assets).map(Fault::WrongAnswer);
        }
        ended
    }

    async fn lineage(&self, operation: &Operation, turn: &mut Turn) -> Ended {
        let count = operation.count.unwrap_or(1);
        let events: Vec<Value> = (0..count).map(|_| self.event(&mut turn.random)).collect();
        let run = events.first().and_then(|event| event["run"]["runId"].as_str()).map(str::to_owned);
        let (path, body) = match events.as_slice() {
            [event] => ("/api/v1/lineage", event.to_string()),
            _ => ("/api/v1/lineage/batch", Value::from(events).to_string()),
        };
        let request = self.api.request("POST", path, JSON, body.into());
        let (mut ended, answer) = self.call(operation, turn, request).await;
        if ended.fault.is_none() {
            if count > 1 && answer["summary"]["successful"].as_u64() != Some(u64::from(count)) {
                ended.fault = Some(Fault::WrongAnswer("not every event was accepted"));
            } else {
                turn.proof = run.map(Proof::Run);
            }
        }
        ended
    }

    fn event(&self, random: &mut fastrand::Rng) -> Value {
        let (a, b) = (self.mark ^ random.u64(..), random.u64(..));
        let run = format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        );
        json!({
            "eventType": "RUNNING",
            "eventTime": jiff::Timestamp::now().to_string(),
            "producer": "https://penstock.example/load-tests",
            "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": {"runId": run},
            "job": {"namespace": "load-test", "name": format!("job-{}", random.u8(..))},
            "inputs": [{"namespace": "load-test", "name": format!("input-{}", random.u8(..))}],
            "outputs": [{"namespace": "load-test", "name": format!("output-{}", random.u8(..))}],
        })
    }

    /// A request whose answer is a JSON document.
    async fn call(
        &self,
        operation: &Operation,
        turn: &Turn,
        request: Result<Request<Full<Bytes>>, Fault>,
    ) -> (Ended, Value) {
        let keeps = !operation.new_connection;
        let answer = async {
            let request = request?;
            let mut connection = self.connect(keeps, false).await?;
            let mut sent = connection.send(request.clone()).await;
            if matches!(sent, Err(Fault::ClosedWhenIdle(_))) {
                connection = self.connect(false, false).await?;
                sent = connection.send(request).await;
            }
            let response = sent?;
            let first_byte = turn.due.elapsed();
            if !matches!(response.status(), StatusCode::OK | StatusCode::CREATED) {
                return Err(refusal(response).await);
            }
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| Fault::Lost(error.to_string()))?.to_bytes();
            let total = turn.due.elapsed();
            if keeps {
                self.pool.give(connection);
            }
            let answer = serde_json::from_slice(&body).map_err(|_| Fault::WrongAnswer("it is no JSON document"))?;
            let ended = Ended { received: body.len() as u64, first_byte: Some(first_byte), total, fault: None };
            Ok((ended, answer))
        };
        match tokio::time::timeout(STALL, answer).await.unwrap_or(Err(Fault::Stalled)) {
            Ok(answered) => answered,
            Err(fault) => (turn.failed(fault), Value::Null),
        }
    }
}

/// The name of an asset that is made for searches: two of the words, each pair as often as any other.
pub(crate) fn asset_name(asset: usize) -> String {
    let [one, other] = [asset % WORDS.len(), asset / WORDS.len() % WORDS.len()].map(|at| WORDS[at]);
    format!("{one} {other} {asset}")
}

/// What is wrong with the answer to a search of a catalogue with so many assets: an item that does not have all of the words, or fewer items than
/// there are, up to the size of a page.
fn wrong_search(answer: &Value, words: &[&str], assets: usize) -> Option<&'static str> {
    let Some(items) = answer["items"].as_array() else { return Some("no `items`") };
    let has_all = |name: &str| words.iter().all(|word| name.split(' ').any(|part| part == *word));
    // Others than this run's may be there as well; each must be right, whatever text of it has the words.
    let is_right =
        |item: &Value| item["foundIn"] != "name" || item["name"].as_str().is_some_and(|name| has_words(name, words));
    if !items.iter().all(is_right) {
        return Some("an item without the words");
    }
    let there = (0..assets).filter(|asset| has_all(&asset_name(*asset))).take(PAGE).count();
    (items.len() < there).then_some("fewer items than there are")
}

/// Whether a name has the beginnings of all the words, in any case: the node may know other forms of a word.
fn has_words(name: &str, words: &[&str]) -> bool {
    let name = name.to_lowercase();
    words.iter().all(|word| name.contains(&word[..word.len().min(3)]))
}

/// Items of a page when a search does not say how many.
const PAGE: usize = 20;

/// One request that is being made.
struct Turn {
    due: Due,
    charges: Vec<(String, Received)>,
    proof: Option<Proof>,
    random: fastrand::Rng,
}

impl Turn {
    fn failed(&self, fault: Fault) -> Ended {
        Ended { received: 0, first_byte: None, total: self.due.elapsed(), fault: Some(fault) }
    }

    /// Streams to the end, or until so many bytes were read, no faster than the pace.
    async fn stream(
        &mut self,
        work: &Work,
        connection: &mut Connection,
        wanted: &Wanted,
        pace: Option<u64>,
        cut: Option<u64>,
    ) -> Ended {
        let began = Instant::now();
        let mut stream = match Stream::open(&work.api.target, connection, wanted).await {
            Ok(stream) => stream,
            Err(fault) => {
                if fault.may_be_charged() {
                    let charge = Received { cut: 1, unread_at_most: wanted.len(), ..Received::default() };
                    self.charges.push((wanted.receipt_id.clone(), charge));
                }
                return self.failed(fault);
            }
        };
        let mut left = false;
        let fault = loop {
            match stream.read().await {
                Ok(true) => {}
                Ok(false) => break None,
                Err(fault) => break Some(fault),
            }
            if cut.is_some_and(|cut| stream.received() >= cut) && stream.is_midway() {
                left = true;
                break None;
            }
            if let Some(pace) = pace {
                let after = Duration::from_secs_f64(stream.received() as f64 / pace as f64);
                tokio::time::sleep_until((began + after).into()).await;
            }
        };
        let ended = stream.ended(fault);
        let charge = Received {
            bytes: ended.received,
            streams: u64::from(ended.fault.is_none()),
            unread_at_most: match &ended.fault {
                None if !left => 0,
                None if !work.is_proxied => UNREAD_AT_MOST,
                _ => wanted.len().saturating_sub(ended.received),
            },
            cut: u64::from(ended.fault.is_some()),
        };
        self.charges.push((wanted.receipt_id.clone(), charge));
        // The stream counts from its own request on; this request counts from when it was due.
        let total = self.due.elapsed();
        let before = total.saturating_sub(ended.total);
        Ended { first_byte: ended.first_byte.map(|time| time + before), total, ..ended }
    }
}

const JSON: &str = "application/json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_must_find_what_is_there_and_nothing_without_the_words() {
        let found = |names: &[String]| -> Value {
            let items: Vec<Value> = names.iter().map(|name| json!({"name": name, "foundIn": "name"})).collect();
            json!({"items": items})
        };
        // Of 256 assets each pair has one.
        let tide = (0..256).map(asset_name).filter(|name| name.starts_with("harbour tide"));
        let tide: Vec<String> = tide.collect();
        assert_eq!(tide.len(), 1);
        assert_eq!(wrong_search(&found(&tide), &["harbour", "tide"], 256), Some("fewer items than there are"));
        let both: Vec<String> =
            (0..256).map(asset_name).filter(|name| name.contains("harbour") && name.contains("tide")).collect();
        assert_eq!(wrong_search(&found(&both), &["harbour", "tide"], 256), None);
        let wrong = [both, vec!["marsh dune 3".to_owned()]].concat();
        assert_eq!(wrong_search(&found(&wrong), &["harbour", "tide"], 256), Some("an item without the words"));
        assert_eq!(wrong_search(&json!({}), &["tide"], 0), Some("no `items`"));
    }
}
