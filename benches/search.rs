//! Searches of a large catalogue on PostgreSQL, over HTTP as clients make them, at a steady rate; and beside them, in the same run
//! on the same rows, the query of the service that Penstock replaces. Run it by `./bench search`.
//!
//! Requests leave when they are due whether or not others have been answered, and their time counts from when they were due, so
//! that a slow answer shows in all that waited behind it. No two ask for the same words, so no cache can answer.
//!
//! PENSTOCK_BENCH_ASSETS changes the number of assets. PENSTOCK_BENCH_DATABASE names a database that is kept on the server of
//! PENSTOCK_TEST_POSTGRES, filled the first time and used as it is afterwards: filling takes longer than searching.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the figures are what this prints; a benchmark may fail loudly"
)]

#[path = "search/corpus.rs"]
mod corpus;
#[path = "../tests/support/node.rs"]
#[allow(unused_macros, reason = "shared with tests")]
mod node;
#[path = "../tests/support/postgres.rs"]
mod postgres;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use futures::future::join_all;
use penstock_actors::testkit::dice::Dice;
use reqwest::Url;
use serde_json::Value;
use tokio_postgres::{Client, Config, NoTls};

use self::{
    corpus::Corpus,
    node::{Setup, TestNode},
};

const SEED: u64 = 20_261;
const ASSETS: u64 = 1_000_000;

/// Requests a second, and for how long each kind is asked.
const RATE: u32 = 50;
const RUN: Duration = Duration::from_secs(30);

/// As often as the old query is asked: each takes seconds.
const OLD_QUERIES: usize = 20;

/// What the old service asked, for two words rather than one text, which is kinder: it finds the same assets.
const OLD: &str = "
    SELECT version_id, name, description, policy_meta, created_at FROM assets
    WHERE (name ILIKE $1 OR description ILIKE $1 OR policy_meta::text ILIKE $1)
      AND (name ILIKE $2 OR description ILIKE $2 OR policy_meta::text ILIKE $2)
    ORDER BY created_at DESC LIMIT 20";

#[tokio::main]
async fn main() {
    let assets = std::env::var("PENSTOCK_BENCH_ASSETS").ok().map_or(ASSETS, |text| text.parse().unwrap());
    let catalogue = Catalogue::open(assets).await;
    let client = &catalogue.client;
    let sizes = "SELECT pg_size_pretty(pg_total_relation_size('assets')), pg_size_pretty(pg_table_size('asset_search')),
        pg_size_pretty(pg_relation_size('asset_search_document')), pg_size_pretty(pg_total_relation_size('asset_words'))";
    let sizes = client.query_one(sizes, &[]).await.unwrap();
    let size = |column: usize| sizes.get::<_, String>(column);
    println!("{assets} assets: {}; their search: {}, its index {}, words {}", size(0), size(1), size(2), size(3));

    let node = Setup::on_database_of(&catalogue.url)
        .env("PENSTOCK_LOG__LEVEL", "warn")
        .env("RATE_LIMITS_JSON", r#"{"default":0}"#)
        // The content of these assets was never stored.
        .env("PENSTOCK_VERIFICATION__RATE", "0B")
        .start()
        .await;
    let mut asker = Asker { corpus: Corpus::new(SEED), dice: Dice(SEED), client, asked: HashSet::new() };
    let before = scans(client).await;
    // Connections, plans and the pages that every search reads.
    for path in asker.paths(100, Kind::OfAnAsset, "").await {
        node.get(&path).send().await.unwrap();
    }
    println!(
        "{:<44} {:>8} {:>8} {:>8} {:>8}  {RATE} requests a second for {RUN:?}, in ms",
        "", "p50", "p95", "p99", "max"
    );
    let requests = RATE as usize * RUN.as_secs() as usize;
    let two_words = steadily(&node, asker.paths(requests, Kind::OfAnAsset, "").await).await;
    two_words.print("two words of an asset");
    let any = steadily(&node, asker.paths(requests, Kind::ByFrequency, "").await).await;
    any.print("two words by their frequency");
    steadily(&node, asker.paths(requests, Kind::OneWord, "").await).await.print("one word");
    steadily(&node, asker.paths(requests, Kind::Beginning, "").await).await.print("a word and three letters");
    let filtered = asker.paths(requests, Kind::ByFrequency, "&mediaType=video/*&maxPrice=500").await;
    steadily(&node, filtered).await.print("two words by frequency, filtered");
    let counted = asker.paths(requests / 5, Kind::ByFrequency, "&facets=true").await;
    at_rate(RATE / 5, &node, counted).await.print("the same with facets, at a fifth of the rate");
    let listed = (0..requests).map(|n| format!("/v1/catalog?maxPrice={}", 300 + n)).collect();
    steadily(&node, listed).await.print("no words: the newest up to a price");
    assert_eq!(scans(client).await, before, "nothing reads a table from end to end");

    let mut times = Vec::new();
    for _ in 0..OLD_QUERIES {
        let words = asker.two_words().await;
        let (one, two) = words.split_once(' ').unwrap();
        let began = Instant::now();
        let rows = client.query(OLD, &[&format!("%{one}%"), &format!("%{two}%")]).await.unwrap();
        times.push(began.elapsed());
        assert!(!rows.is_empty(), "the words are those of an asset");
    }
    let old = Times(times);
    old.print(&format!("the old query, {OLD_QUERIES} times, one by one"));
    println!("the old query takes {:.0} times the median of two words", old.at(0.5) / two_words.at(0.5));
    published(&node, client).await;
}

/// How long publishing takes beside that.
async fn published(node: &TestNode, client: &Client) {
    let mut corpus = Corpus::new(SEED + 1);
    let hash = node.put(b"benchmark", "text/plain").await;
    let mut times = Vec::new();
    for _ in 0..200 {
        let text: Vec<_> = (0..50).map(|_| corpus.word().to_owned()).collect();
        let body =
            serde_json::json!({ "contentHash": hash, "name": text[..5].join(" "), "description": text.join(" ") });
        let began = Instant::now();
        let answer = node.admin(reqwest::Method::POST, "/v1/assets").json(&body).send().await.unwrap();
        times.push(began.elapsed());
        node::expect(answer, &[201]).await;
    }
    Times(times).print("publishing an asset, 200 times, one by one");
    // The database may be used again.
    let undo = "DELETE FROM prices WHERE version_id IN (SELECT version_id FROM assets WHERE content_hash = $1)";
    let hash: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&hash[at..at + 2], 16).unwrap()).collect();
    client.execute(undo, &[&hash]).await.unwrap();
    client.execute("DELETE FROM assets WHERE content_hash = $1", &[&hash]).await.unwrap();
}

/// What somebody types.
#[derive(Clone, Copy)]
enum Kind {
    /// Two words that an asset has.
    OfAnAsset,
    /// Two words by their frequency.
    ByFrequency,
    OneWord,
    /// A word and the beginning of one.
    Beginning,
}

/// Makes queries that nobody has asked before.
struct Asker<'a> {
    corpus: Corpus,
    dice: Dice,
    client: &'a Client,
    asked: HashSet<String>,
}

impl Asker<'_> {
    async fn paths(&mut self, count: usize, kind: Kind, filters: &str) -> Vec<String> {
        let mut paths = Vec::with_capacity(count);
        while paths.len() < count {
            let text = match kind {
                Kind::OfAnAsset => self.two_words().await,
                Kind::ByFrequency => self.any_two_words(),
                Kind::OneWord => self.one_word(),
                Kind::Beginning => self.beginning(),
            };
            if self.asked.insert(format!("{text}{filters}")) {
                paths.push(format!("/v1/catalog?q={}{filters}", text.replace(' ', "+")));
            }
        }
        paths
    }

    /// Two words that an asset has, as of somebody who looks for it.
    async fn two_words(&mut self) -> String {
        const SOME: &str =
            "SELECT name || ' ' || description FROM assets WHERE version_id >= $1 ORDER BY version_id LIMIT 1";
        loop {
            let millis = 1_700_000_000 + self.dice.roll(50_000);
            let id = uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, millis, 0));
            let Some(row) = self.client.query_opt(SOME, &[&id]).await.unwrap() else { continue };
            let text: String = row.get(0);
            let words: Vec<_> = text.split(' ').collect();
            let mut one = || words[usize::try_from(self.dice.roll(words.len() as u64)).unwrap()];
            let (one, two) = (one(), one());
            if one != two {
                return format!("{one} {two}");
            }
        }
    }

    /// Common words, mostly, that may be together nowhere.
    fn any_two_words(&mut self) -> String {
        let one = self.corpus.word().to_owned();
        format!("{one} {}", self.corpus.word())
    }

    fn one_word(&mut self) -> String {
        // There are not enough common ones: what tells them apart is a word that is excluded.
        let one = self.corpus.word().to_owned();
        format!("{one} -{}", self.corpus.word())
    }

    fn beginning(&mut self) -> String {
        let one = self.corpus.word().to_owned();
        format!("{one} {:.3}", self.corpus.word())
    }
}

async fn steadily(node: &TestNode, paths: Vec<String>) -> Times {
    at_rate(RATE, node, paths).await
}

/// Sends each request when it is due.
async fn at_rate(rate: u32, node: &TestNode, paths: Vec<String>) -> Times {
    let began = Instant::now();
    let requests = paths.into_iter().zip(0..).map(|(path, nth)| {
        let due = began + Duration::from_secs(1) / rate * nth;
        let request = node.client.get(Url::parse(&node.url(&path)).unwrap());
        tokio::spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            let answer = request.send().await.unwrap();
            let status = answer.status();
            let body: Value = answer.json().await.unwrap();
            assert!(status.is_success(), "{path}: {body}");
            due.elapsed()
        })
    });
    let times = join_all(requests).await;
    Times(times.into_iter().map(Result::unwrap).collect())
}

struct Times(Vec<Duration>);

impl Times {
    /// In milliseconds.
    fn at(&self, part: f64) -> f64 {
        let mut times = self.0.clone();
        times.sort_unstable();
        let place = ((times.len() as f64 * part).ceil() as usize).clamp(1, times.len());
        times[place - 1].as_secs_f64() * 1000.0
    }

    fn print(&self, what: &str) {
        println!(
            "{what:<44} {:>8.1} {:>8.1} {:>8.1} {:>8.1}",
            self.at(0.5),
            self.at(0.95),
            self.at(0.99),
            self.at(1.0)
        );
    }
}

/// How often tables were read from end to end.
async fn scans(client: &Client) -> Vec<(String, i64)> {
    // Counted when a connection is idle, some time after.
    tokio::time::sleep(Duration::from_secs(2)).await;
    client.batch_execute("SELECT pg_stat_clear_snapshot()").await.unwrap();
    let tables = "SELECT relname::text, seq_scan FROM pg_stat_user_tables
        WHERE relname IN ('assets', 'asset_search', 'asset_words', 'prices', 'overlay_storage_index') ORDER BY 1";
    client.query(tables, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The catalogue, filled.
struct Catalogue {
    client: Client,
    url: String,
    /// Dropped with this, unless its name was given.
    _database: Option<postgres::TestDatabase>,
}

impl Catalogue {
    async fn open(assets: u64) -> Self {
        let Ok(name) = std::env::var("PENSTOCK_BENCH_DATABASE") else {
            let database = postgres::TestDatabase::migrated().await;
            Corpus::new(SEED).load(async || database.client().await, assets).await;
            return Self { client: database.client().await, url: database.url(), _database: Some(database) };
        };
        let server = std::env::var("PENSTOCK_TEST_POSTGRES").expect("PENSTOCK_TEST_POSTGRES names the server");
        let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        let admin = connect(&server).await;
        let known = admin.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&name]).await.unwrap().is_some();
        if !known {
            admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
            drop(Setup::on_database_of(&url).start().await);
        }
        if !known {
            Corpus::new(SEED).load(async || connect(&url).await, assets).await;
        }
        Self { client: connect(&url).await, url, _database: None }
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = url.parse::<Config>().unwrap().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
