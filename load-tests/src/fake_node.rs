//! A node for the tests of the harness: the calls that the scenarios make, in memory, honest or with one fault.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{api::Api, bench::Bench, client::Target};

/// What the node does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// The last byte of large contents is another.
    WrongByte,
    /// Bills a byte more than it sends.
    BillsTooMuch,
    /// Streams on when the quota is used up.
    IgnoresQuota,
    /// Streams on under a receipt that was refunded.
    IgnoresRefund,
    /// None either: serves [`PLACES`] streams at a time, and refuses others as it should.
    Busy,
    /// Refuses them without saying when to come back.
    BusyInSilence,
}

/// Streams of a busy node at a time, and how long each takes at least.
const PLACES: usize = 4;
const WORK: Duration = Duration::from_millis(10);

/// Contents above this size show the flaw of their bytes: a run then has right streams and wrong ones.
const LARGE: usize = 100_000;

struct Receipt {
    hash: String,
    tier: String,
    status: String,
    bytes: u64,
    requests: u64,
}

#[derive(Default)]
struct State {
    contents: HashMap<String, Bytes>,
    receipts: Vec<Receipt>,
    limits: HashMap<String, u64>,
}

type Answer = Response<Full<Bytes>>;

#[derive(Clone)]
struct FakeNode {
    flaw: Flaw,
    state: Arc<Mutex<State>>,
    places: Arc<Semaphore>,
}

/// Starts a node that lives as long as the test's runtime.
pub(crate) async fn start(flaw: Flaw) -> Bench {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let node = FakeNode { flaw, state: Arc::default(), places: Arc::new(Semaphore::new(PLACES)) };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let node = node.clone();
            let service = service_fn(move |request| {
                let node = node.clone();
                async move { Ok::<_, Infallible>(node.answer(request).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let api = Arc::new(Api::new(Target::new(address).await.unwrap(), "key".into()));
    Bench { api: api.clone(), pids: Vec::new(), instances: vec![api] }
}

impl FakeNode {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let fields = || serde_json::from_slice::<Value>(&body).unwrap();
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let path: Vec<&str> = head.uri.path().trim_start_matches('/').split('/').collect();
        match (head.method.as_str(), path.as_slice()) {
            ("POST", ["v1", "content"]) => self.store(body),
            ("POST", ["v1", "assets"]) => created(&json!({"versionId": fields()["contentHash"]})),
            ("POST", ["v1", "receipts"]) => self.make_receipt(&fields()),
            ("PATCH", ["v1", "receipts", id]) => {
                self.state().receipts[index(id)].status = fields()["status"].as_str().unwrap().into();
                created(&json!({}))
            }
            ("PUT", ["v1", "streaming", "policies", name]) => {
                self.state().limits.insert((*name).to_owned(), fields()["bytesPerMonth"].as_u64().unwrap());
                created(&json!({}))
            }
            ("GET", ["v1", "streaming", "quotas", id]) => {
                let Receipt { bytes, requests, .. } = self.state().receipts[index(id)];
                created(&json!({"windows": {"month": {"bytesUsed": bytes, "requestsUsed": requests}}}))
            }
            ("GET", ["v1", "streaming", "data", hash]) => {
                let is_busy = matches!(self.flaw, Flaw::Busy | Flaw::BusyInSilence);
                let Ok(_place) = self.places.try_acquire_many(u32::from(is_busy)) else { return self.too_busy() };
                if is_busy {
                    tokio::time::sleep(WORK).await;
                }
                self.stream(hash, &text("x-receipt-id").unwrap(), text("range").as_deref())
            }
            ("GET", ["metrics"]) => Response::new("penstock_blob_cache_hits_total 7\n".into()),
            _ => refuse(StatusCode::NOT_FOUND, "not-found"),
        }
    }

    fn too_busy(&self) -> Answer {
        let mut answer = refuse(StatusCode::SERVICE_UNAVAILABLE, "overloaded");
        if self.flaw == Flaw::Busy {
            answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        answer
    }

    fn store(&self, body: Bytes) -> Answer {
        let mut hash = String::new();
        Sha256::digest(&body).iter().for_each(|byte| write!(hash, "{byte:02x}").unwrap());
        self.state().contents.insert(hash.clone(), body);
        created(&json!({"contentHash": hash}))
    }

    fn make_receipt(&self, fields: &Value) -> Answer {
        let field = |name: &str| fields[name].as_str().unwrap().to_owned();
        let mut state = self.state();
        state.receipts.push(Receipt {
            hash: field("versionId"),
            tier: field("quotaTier"),
            status: "confirmed".into(),
            bytes: 0,
            requests: 0,
        });
        created(&json!({"receiptId": (state.receipts.len() - 1).to_string()}))
    }

    fn stream(&self, hash: &str, receipt: &str, range: Option<&str>) -> Answer {
        let mut state = self.state();
        let content = state.contents[hash].clone();
        let limit = state.limits.get(&state.receipts[index(receipt)].tier).copied();
        let receipt = &mut state.receipts[index(receipt)];
        assert_eq!(receipt.hash, hash);
        if receipt.status == "refunded" && self.flaw != Flaw::IgnoresRefund {
            return refuse(StatusCode::FORBIDDEN, "receipt-not-confirmed");
        }
        let (first, last) = match range {
            Some(range) => range.trim_start_matches("bytes=").split_once('-').unwrap(),
            None => ("0", ""),
        };
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap_or(content.len() - 1));
        let mut part = content.slice(first..=last);
        let len = part.len() as u64;
        if limit.is_some_and(|limit| receipt.bytes + len > limit) && self.flaw != Flaw::IgnoresQuota {
            return refuse(StatusCode::TOO_MANY_REQUESTS, "quota-exceeded");
        }
        receipt.requests += 1;
        receipt.bytes += len + u64::from(self.flaw == Flaw::BillsTooMuch);
        if self.flaw == Flaw::WrongByte && part.len() > LARGE {
            let mut wrong = part.to_vec();
            *wrong.last_mut().unwrap() ^= 1;
            part = wrong.into();
        }
        let mut answer = Response::builder().header(header::ETAG, format!("\"{hash}\""));
        if range.is_some() {
            let place = format!("bytes {first}-{last}/{}", content.len());
            answer = answer.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, place);
        }
        answer.body(part.into()).unwrap()
    }
}

fn index(receipt_id: &str) -> usize {
    receipt_id.parse().unwrap()
}

fn created(answer: &Value) -> Answer {
    Response::builder().status(StatusCode::CREATED).body(answer.to_string().into()).unwrap()
}

fn refuse(status: StatusCode, problem: &str) -> Answer {
    let document = json!({"type": format!("urn:penstock:problem:{problem}"), "status": status.as_u16()});
    Response::builder().status(status).body(document.to_string().into()).unwrap()
}
