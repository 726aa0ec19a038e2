//! A catalogue that nobody wrote: assets with words as frequent as words are, the same for a seed everywhere.
//!
//! Words follow Zipf's law with Mandelbrot's correction, p(rank) ~ 1 / (rank + 2.7): the most frequent one is in four of five assets,
//! a hundred are in one of ten, and half of the vocabulary of 120,000 is in a few dozen. Producers and datasets are skewed too.

use std::{
    fmt::Write as _,
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{SinkExt as _, future::join_all};
use penstock_actors::testkit::dice::Dice;
use tokio_postgres::Client;
use uuid::Uuid;

const VOCABULARY: usize = 120_000;
const PRODUCERS: u64 = 2_000;
const DATASETS: u64 = 5_000;

/// Rows that go to the server at a time.
const CHUNK: u64 = 20_000;

/// Assets that are entered into the search at a time, as by a migration, and by how many connections.
const STEP: usize = 1000;
const CONNECTIONS: usize = 4;

/// For a load that is made anew when it breaks.
const QUICKLY: &str =
    "SET session_replication_role = replica; SET synchronous_commit = off; SET maintenance_work_mem = '512MB';";

const MEDIA_TYPES: [&str; 10] = [
    "video/mp4",
    "video/mp4",
    "video/mp4",
    "text/csv",
    "text/csv",
    "application/json",
    "audio/mpeg",
    "image/png",
    "application/pdf",
    "text/plain; charset=utf-8",
];
const LICENSES: [&str; 4] = ["CC-BY-4.0", "CC0-1.0", "CC-BY-SA-4.0", "proprietary"];

pub(crate) struct Corpus {
    dice: Dice,
    words: Vec<String>,
    /// Sums of the words' frequencies, so that a word is found by a number between 0 and the last.
    sums: Vec<f64>,
}

impl Corpus {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut words = Vec::with_capacity(VOCABULARY);
        let mut known = std::collections::HashSet::with_capacity(VOCABULARY);
        while words.len() < VOCABULARY {
            // Frequent words are short.
            let syllables = match words.len() {
                0..200 => 1,
                200..5_000 => 2,
                5_000..50_000 => 3,
                _ => 4,
            };
            let word = word(&mut dice, syllables);
            if known.insert(word.clone()) {
                words.push(word);
            } else {
                // As many words are taken as there are syllables for them; then they grow.
                let longer = word + pick(&mut dice, &["ba", "ko", "li", "mes", "nu", "ras", "ti"]);
                if known.insert(longer.clone()) {
                    words.push(longer);
                }
            }
        }
        let mut sum = 0.0;
        let sums = (0..VOCABULARY).map(|rank| {
            sum += 1.0 / (rank as f64 + 2.7);
            sum
        });
        let sums = sums.collect();
        Self { dice, words, sums }
    }

    pub(crate) fn word(&mut self) -> &str {
        let all = self.sums.last().copied().unwrap_or_default();
        let at = self.dice.roll(1 << 53) as f64 / (1_u64 << 53) as f64 * all;
        &self.words[self.sums.partition_point(|&sum| sum < at).min(VOCABULARY - 1)]
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.dice.roll(sides)
    }

    fn text(&mut self, words: u64) -> String {
        let mut text = self.word().to_owned();
        for _ in 1..words {
            text.push(' ');
            text += self.word();
        }
        text
    }

    /// Small numbers are more frequent.
    fn skewed(&mut self, sides: u64) -> u64 {
        let roll = self.dice.roll(sides);
        roll * self.dice.roll(sides) / sides
    }

    /// Fills an empty catalogue. Keys and triggers are off while the rows go in, several connections enter them into the search,
    /// and its index is built afterwards: it is what a bulk load would do, and a fraction of the time.
    pub(crate) async fn load(&mut self, connect: impl AsyncFn() -> Client, assets: u64) {
        let client = connect().await;
        let prepare = format!(
            "{QUICKLY}
             DROP INDEX asset_search_document;
             INSERT INTO producers SELECT md5('producer' || n)::uuid, 'name', now() FROM generate_series(0, {PRODUCERS}) n;
             INSERT INTO overlay_storage_index (content_hash, size_bytes, media_type, state, producer_id, announced_at, stored_at)
                 SELECT sha256(('content' || n)::bytea), 1000, 'text/plain', 'stored', md5('producer0')::uuid, now(), now()
                 FROM generate_series(0, {assets}) n"
        );
        client.batch_execute(&prepare).await.expect("prepared");
        let mut ids = Vec::new();
        for first in (0..assets).step_by(CHUNK as usize) {
            ids.extend(self.chunk(&client, first, (first + CHUNK).min(assets)).await);
            eprint!("\rbench: {} of {assets} assets", ids.len());
        }
        client.batch_execute("ANALYZE assets, prices").await.expect("analyzed");
        let (steps, entered) = (Mutex::new(ids.chunks(STEP)), AtomicUsize::new(0));
        let enter = async || {
            let client = connect().await;
            client.batch_execute(QUICKLY).await.expect("prepared");
            loop {
                let Some(step) = steps.lock().expect("nobody panics").next() else { return };
                client.execute("SELECT penstock_enter_assets($1, NULL)", &[&step]).await.expect("entered");
                let all = entered.fetch_add(step.len(), Ordering::Relaxed) + step.len();
                eprint!("\rbench: {all} of {assets} assets entered into the search");
            }
        };
        join_all((0..CONNECTIONS).map(|_| enter())).await;
        eprintln!("\nbench: building the index");
        let finish = "CREATE INDEX asset_search_document ON asset_search USING gin (document) WITH (fastupdate = off)";
        client.batch_execute(finish).await.expect("indexed");
        client.batch_execute("VACUUM ANALYZE").await.expect("analyzed");
    }

    async fn chunk(&mut self, client: &Client, first: u64, behind: u64) -> Vec<Uuid> {
        let (mut rows, mut prices, mut ids) = (String::new(), String::new(), Vec::new());
        for number in first..behind {
            // One each 50 ms, in version 7.
            let millis = 1_700_000_000_000 + number * 50;
            let id = Uuid::new_v7(uuid::Timestamp::from_unix(
                uuid::NoContext,
                millis / 1000,
                (millis % 1000) as u32 * 1_000_000,
            ));
            let (words, description) = (2 + self.roll(6), 15 + self.roll(60));
            let name = self.text(words);
            let description = self.text(description);
            let media_type = pick(&mut self.dice, &MEDIA_TYPES);
            let dataset =
                if self.roll(5) == 0 { "\\N".to_owned() } else { format!("dataset-{}", self.skewed(DATASETS)) };
            let license = pick(&mut self.dice, &LICENSES);
            let meta = format!(r#"{{"license":"{license}","tags":["{}","{}"]}}"#, self.text(1), self.text(1));
            let producer = self.skewed(PRODUCERS);
            let _ = writeln!(
                rows,
                "{id}\tcontent{number}\t{name}\t{description}\t{media_type}\t{dataset}\t{meta}\tproducer{producer}\t{}",
                millis / 1000
            );
            let _ = writeln!(prices, "{id}\t{}\t{}", self.skewed(1000), millis / 1000);
            ids.push(id);
        }
        client
            .batch_execute(
                "CREATE TEMP TABLE IF NOT EXISTS arrived (id uuid, content text, name text, description text, media text,
                     dataset text, meta jsonb, producer text, at bigint);
                 CREATE TEMP TABLE IF NOT EXISTS arrived_prices (id uuid, satoshis bigint, at bigint);
                 TRUNCATE arrived, arrived_prices",
            )
            .await
            .expect("a place to arrive");
        copy(client, "COPY arrived FROM STDIN", rows).await;
        copy(client, "COPY arrived_prices FROM STDIN", prices).await;
        client
            .batch_execute(
                "INSERT INTO assets SELECT id, sha256(content::bytea), name, description, media, dataset, meta,
                     md5(producer)::uuid, to_timestamp(at) FROM arrived;
                 INSERT INTO prices SELECT id, satoshis, to_timestamp(at) FROM arrived_prices",
            )
            .await
            .expect("inserted");
        ids
    }
}

async fn copy(client: &Client, statement: &str, rows: String) {
    let mut sink = pin!(client.copy_in(statement).await.expect("a copy"));
    sink.send(bytes::Bytes::from(rows)).await.expect("sent");
    sink.finish().await.expect("copied");
}

fn pick<'a>(dice: &mut Dice, from: &[&'a str]) -> &'a str {
    from[usize::try_from(dice.roll(from.len() as u64)).unwrap_or_default()]
}

fn word(dice: &mut Dice, syllables: u64) -> String {
    const ONSETS: [&str; 24] = [
        "b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "br", "cl", "fl", "gr",
        "pl", "st", "tr",
    ];
    const VOWELS: [&str; 7] = ["a", "e", "i", "o", "u", "ai", "ea"];
    const ENDS: [&str; 6] = ["", "n", "r", "s", "l", "t"];
    let mut word = String::new();
    for _ in 0..syllables {
        word += pick(dice, &ONSETS);
        word += pick(dice, &VOWELS);
    }
    word + pick(dice, &ENDS)
}
