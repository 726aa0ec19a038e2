//! A producer that uploads, publishes and sells, whatever happens meanwhile, and keeps what was acknowledged.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use crate::node::{ADMIN_KEY, Paid, TestNode, client, hex_sha256, sample};

const SIZE: usize = 30_000;

/// Between two contents.
const PAUSE: Duration = Duration::from_millis(300);

/// After so long without an answer the producer goes on with the next one.
const SILENCE: Duration = Duration::from_secs(10);

/// What was acknowledged: contents, and receipts for some of them.
#[derive(Default)]
pub(crate) struct Acknowledged {
    contents: Vec<Vec<u8>>,
    receipts: Vec<String>,
}

pub(crate) struct Producer {
    is_over: Arc<AtomicBool>,
    producing: JoinHandle<Acknowledged>,
}

impl Producer {
    /// At these places in turn.
    pub(crate) fn start(places: Vec<SocketAddr>) -> Self {
        let is_over = Arc::new(AtomicBool::default());
        let producing = tokio::spawn(produce(places, Arc::clone(&is_over)));
        Self { is_over, producing }
    }

    pub(crate) async fn stop(self) -> Acknowledged {
        self.is_over.store(true, SeqCst);
        self.producing.await.expect("a producer whose answers are right")
    }
}

impl Acknowledged {
    pub(crate) fn count(&self) -> usize {
        self.contents.len() + self.receipts.len()
    }

    /// Looks for all of it: each content can be sold and is what was uploaded, each receipt is known.
    pub(crate) async fn is_there(&self, node: &TestNode) {
        for receipt in &self.receipts {
            let known = node.get(&format!("/v1/receipts/{receipt}")).send().await.unwrap();
            assert_eq!(known.status(), 200, "a receipt that was sold is known");
        }
        for content in &self.contents {
            let hash = hex_sha256(content);
            let version = node.publish(&hash, "kept.bin").await;
            let receipt = node.receipt(&version, json!({ "quotaTier": "unlimited" })).await;
            let paid = Paid { hash, version, receipt };
            let kept = node.stream(&paid).send().await.unwrap().bytes().await.unwrap();
            assert!(kept == *content, "a content that was acknowledged is kept");
        }
    }
}

async fn produce(places: Vec<SocketAddr>, is_over: Arc<AtomicBool>) -> Acknowledged {
    let (client, mut acknowledged) = (client(), Acknowledged::default());
    for number in 0.. {
        if is_over.load(SeqCst) {
            break;
        }
        let place = places[number % places.len()];
        produce_one(&client, place, sample(1000 + number as u64, SIZE), &mut acknowledged).await;
        sleep(PAUSE).await;
    }
    acknowledged
}

/// As far as it is acknowledged.
async fn produce_one(client: &Client, place: SocketAddr, content: Vec<u8>, acknowledged: &mut Acknowledged) {
    let post = |path: &str| client.post(format!("http://{place}{path}")).bearer_auth(ADMIN_KEY).timeout(SILENCE);
    let hash = hex_sha256(&content);
    if made(post("/v1/content").body(content.clone())).await.is_none() {
        return;
    }
    acknowledged.contents.push(content);
    let asset = json!({ "contentHash": hash, "name": "made.bin" });
    let Some(asset) = made(post("/v1/assets").json(&asset)).await else { return };
    let sale = json!({ "versionId": asset["versionId"], "quotaTier": "unlimited" });
    let Some(receipt) = made(post("/v1/receipts").json(&sale)).await else { return };
    acknowledged.receipts.push(receipt["receiptId"].as_str().expect("an id").to_owned());
}

/// The answer, if the call is acknowledged.
async fn made(request: RequestBuilder) -> Option<Value> {
    let answer = request.send().await.ok()?;
    let status = answer.status();
    if status.is_success() {
        return answer.json().await.ok();
    }
    let told = answer.text().await.unwrap_or_default();
    assert!([StatusCode::SERVICE_UNAVAILABLE, StatusCode::INSUFFICIENT_STORAGE].contains(&status), "{status}: {told}");
    None
}
