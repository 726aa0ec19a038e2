//! Clients that stream again and again, each time from an instance at random, whatever happens meanwhile. Each request is kept, with
//! what came of it.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};
use uuid::Uuid;

use crate::{
    node::Paid,
    patience::{eventually, within},
};

/// Clients at a time. Every fourth asks for large contents.
const CLIENTS: usize = 24;

/// Between two requests of a client, so that the machine has time for what is tested.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the last answers may take once everything is mended. An instance holds a stream that waits for storage for 30 s.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a client reads at once.
const PART_BYTES: usize = 64 << 10;

type Body = BufReader<TcpStream>;

/// A content with a receipt of its own.
pub(crate) struct Product {
    pub(crate) paid: Paid,
    pub(crate) content: Vec<u8>,
    pub(crate) is_large: bool,
    /// Whether its tier has a limit in each window.
    pub(crate) is_limited: bool,
}

/// A request and what came of it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) session: Uuid,
    pub(crate) product: usize,
    pub(crate) instance: usize,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
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
    /// Nothing was given, and this was the status.
    Refused(u16),
}

pub(crate) struct Load {
    /// Where each instance is asked.
    places: Vec<SocketAddr>,
    pub(crate) products: Vec<Product>,
    requests: Mutex<Vec<Request>>,
    is_over: AtomicBool,
}

impl Load {
    pub(crate) fn start(places: Vec<SocketAddr>, products: Vec<Product>) -> (Arc<Self>, JoinSet<()>) {
        let requests = Mutex::default();
        let load = Arc::new(Self { places, products, requests, is_over: AtomicBool::default() });
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let load = Arc::clone(&load);
            clients.spawn(async move {
                let asks_for: Vec<_> =
                    (0..load.products.len()).filter(|&it| load.products[it].is_large == (number % 4 == 0)).collect();
                while !load.is_over.load(SeqCst) {
                    let random = Uuid::new_v4().as_u128() as usize;
                    let product = asks_for[random % asks_for.len()];
                    load.ask(random / 64 % load.places.len(), product).await;
                    sleep(PAUSE).await;
                }
            });
        }
        (load, clients)
    }

    async fn ask(&self, instance: usize, product: usize) {
        let (session, began) = (Uuid::new_v4(), Instant::now());
        let (received, end) = match self.open(instance, product, session).await {
            Ok((head, body)) => read(&head, body, &self.products[product].content).await,
            Err(_) => (0, End::Unanswered),
        };
        let request = Request { session, product, instance, began, ended: Instant::now(), received, end };
        self.requests.lock().unwrap().push(request);
    }

    /// Asks on a connection of its own, as a client behind no pool does; the head of the answer, and its body.
    async fn open(&self, instance: usize, product: usize, session: Uuid) -> io::Result<(String, Body)> {
        let (place, Paid { hash, receipt, .. }) = (self.places[instance], &self.products[product].paid);
        let mut connection = TcpStream::connect(place).await?;
        let request = format!(
            "GET /v1/streaming/data/{hash} HTTP/1.1\r\nhost: {place}\r\nx-receipt-id: {receipt}\r\n\
             x-session-id: {session}\r\nconnection: close\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).await?;
        let (mut connection, mut head) = (BufReader::new(connection), String::new());
        while !head.ends_with("\r\n\r\n") {
            if connection.read_line(&mut head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok((head.to_ascii_lowercase(), connection))
    }

    /// Waits until each content has been asked for anew at each instance, and was sent whole.
    pub(crate) async fn everything_is_served(&self) {
        let from = Instant::now();
        let is_served = |product, instance| {
            let requests = self.requests.lock().unwrap();
            let mut since = requests.iter().filter(|request| request.began >= from && request.end == End::Whole);
            since.any(|request| (request.product, request.instance) == (product, instance))
        };
        for product in 0..self.products.len() {
            for instance in 0..self.places.len() {
                eventually("each content is served by each instance", async || is_served(product, instance)).await;
            }
        }
    }

    /// Each client reads its answer to the end and asks no more; all requests.
    pub(crate) async fn stop(&self, mut clients: JoinSet<()>) -> Vec<Request> {
        self.is_over.store(true, SeqCst);
        within(PATIENCE, "each request ends", async || {
            while let Some(ended) = clients.try_join_next() {
                ended.expect("a client that found what it asked for");
            }
            clients.is_empty()
        })
        .await;
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Reads an answer to its end. What comes is compared with what was stored.
async fn read(head: &str, mut body: Body, content: &[u8]) -> (u64, End) {
    let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).expect("a status");
    if status != 200 {
        assert!(head.contains("\r\nretry-after:"), "a refusal says when to ask again: {head}");
        return (0, End::Refused(status));
    }
    assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", content.len())), "{head}");
    let (mut received, mut part) = (0, vec![0; PART_BYTES]);
    while received < content.len() {
        match body.read(&mut part).await {
            Ok(0) | Err(_) => return (received as u64, End::Cut),
            Ok(length) => {
                assert!(content[received..].starts_with(&part[..length]), "what comes is what was stored");
                received += length;
            }
        }
    }
    (received as u64, End::Whole)
}
