//! The search on PostgreSQL, as far as it is PostgreSQL's own: words in SQL, what was there before, both ways of looking, and pages
//! that stop.

use std::sync::Arc;

use penstock::adapters::postgres::migrate;
use penstock_actors::{
    ports::{Search, SearchFilter},
    search::{TextQuery, words},
    testkit::{dice::Dice, search_suite},
};
use tokio_postgres::Client;

use crate::support::{TestDatabase, store};

/// Characters that are letters in newer versions of Unicode than that of the server's libraries, in which case they have no
/// lower case there.
fn is_new(character: char) -> bool {
    matches!(
        character,
        '\u{558}' | '\u{58b}' | '\u{58c}' | '\u{1c89}' | '\u{209d}'..='\u{209f}' | '\u{a7c0}'..='\u{a7dc}' | '\u{a7f1}' | '\u{1d6a6}'
    )
}

async fn words_in_sql(client: &Client, texts: &[String]) -> Vec<Vec<String>> {
    let ask = "SELECT penstock_words(t.text) FROM unnest($1::text[]) WITH ORDINALITY AS t (text, nth) ORDER BY nth";
    let rows = client.query(ask, &[&texts]).await.expect("words");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_is_the_same_in_sql_as_here() {
    let database = TestDatabase::migrated().await;
    let client = database.client().await;
    // Every character alone and between letters, as far as text is written with it: the basic plane, emoji, and some above.
    let characters = ('\u{1}'..='\u{ffff}').chain('\u{1d400}'..='\u{1d7ff}').chain('\u{1f000}'..='\u{1fbff}');
    let characters = characters.chain('\u{20000}'..='\u{20100}').chain('\u{e0000}'..='\u{e01ef}');
    let mut texts: Vec<_> =
        characters.filter(|&character| !is_new(character)).map(|one| format!("{one} a{one}b")).collect();
    let mut dice = Dice(3);
    for _ in 0..2000 {
        let random = (0..dice.roll(40)).filter_map(|_| {
            let range = [0x80, 0x250, 0x590, 0x1000, 0x3100, 0xffff][dice.roll(6) as usize];
            char::from_u32(1 + dice.roll(range) as u32).filter(|&character| !is_new(character))
        });
        texts.push(random.collect());
    }
    texts.push("x".repeat(100) + &"é".repeat(65) + " " + &"ﬃ".repeat(30));
    let in_sql = words_in_sql(&client, &texts).await;
    let different: Vec<_> = texts.iter().zip(&in_sql).filter(|(text, in_sql)| words(text) != **in_sql).collect();
    assert!(different.is_empty(), "{} differ: {:?}", different.len(), &different[..different.len().min(20)]);
}

/// Twenty assets that nobody has entered, as if they were older than the search.
const OLDER: &str = "
    SET session_replication_role = replica;
    INSERT INTO producers VALUES (md5('producer')::uuid, 'name', now());
    INSERT INTO overlay_storage_index (content_hash, size_bytes, media_type, state, producer_id, announced_at, stored_at)
        VALUES (sha256('content'), 1, 'text/plain', 'stored', md5('producer')::uuid, now(), now());
    INSERT INTO assets SELECT lpad(n::text, 32, '0')::uuid, sha256('content'), 'tide ' || n, '', 'text/plain', NULL, '{}',
        md5('producer')::uuid, now() FROM generate_series(1, 20) n;
    INSERT INTO prices SELECT lpad(n::text, 32, '0')::uuid, n, now() FROM generate_series(1, 20) n;
    RESET session_replication_role;
    INSERT INTO asset_search_backfill (below, number) VALUES ('ffffffff-ffff-ffff-ffff-ffffffffffff', 1099511627776);
    INSERT INTO assets VALUES (lpad('21', 32, '0')::uuid, sha256('content'), 'tide 21', '', 'text/plain', NULL, '{}',
        md5('producer')::uuid, now());
    INSERT INTO prices VALUES (lpad('21', 32, '0')::uuid, 21, now());";

fn tide() -> SearchFilter {
    SearchFilter { text: TextQuery::parse("tide").ok(), ..SearchFilter::default() }
}

async fn pages(store: &impl Search, limit: u32) -> (Vec<String>, usize) {
    names_on_all_pages(store, &tide(), limit).await
}

/// The names on all pages, and how many pages those were.
async fn names_on_all_pages(store: &impl Search, filter: &SearchFilter, limit: u32) -> (Vec<String>, usize) {
    let (mut names, mut pages, mut behind) = (Vec::new(), 0, None);
    loop {
        let page = store.search(filter, behind, limit).await.expect("searched");
        names.extend(page.hits.into_iter().map(|hit| hit.asset.name));
        pages += 1;
        behind = page.next;
        if behind.is_none() {
            return (names, pages);
        }
    }
}

fn newest_first() -> Vec<String> {
    (1..=21).rev().map(|n| format!("tide {n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_the_search_is_found_behind_what_came_since() {
    let database = TestDatabase::migrated().await;
    let client = database.client().await;
    client.batch_execute(OLDER).await.expect("older assets");
    let (store, _metrics) = store(database.settings()).await;
    assert_eq!(pages(&store, 10).await.0, ["tide 21"]);
    // A step, then a process that goes on where it stopped; one that comes later has nothing to do.
    client.batch_execute("SELECT penstock_backfill_search(7)").await.expect("a step");
    assert_eq!(pages(&store, 10).await.0, newest_first()[..7]);
    for _ in 0..2 {
        migrate(&database.settings()).await.expect("migrated");
        assert_eq!(pages(&store, 10).await, (newest_first(), 3));
    }
    let dear = SearchFilter { min_price: Some(20), max_price: Some(20), ..SearchFilter::default() };
    assert_eq!(store.search(&dear, None, 10).await.expect("searched").hits.len(), 1);
    let changed = "UPDATE assets SET name = 'ebb' WHERE name = 'tide 20'; DELETE FROM prices WHERE satoshis = 19;
        DELETE FROM assets WHERE name = 'tide 19'";
    client.batch_execute(changed).await.expect("changed");
    let ebb = SearchFilter { text: TextQuery::parse("ebb").ok(), ..SearchFilter::default() };
    assert_eq!(store.search(&ebb, None, 10).await.expect("searched").hits.len(), 1);
    assert_eq!(pages(&store, 100).await.0.len(), 19);
}

/// What the release before this one entered: its words told `ß` and `ss` apart.
const OTHER_WORDS: &str = "
    SET session_replication_role = replica;
    UPDATE assets SET name = 'Lange Straße' WHERE name = 'tide 7';
    RESET session_replication_role;
    INSERT INTO asset_search_refold (below) VALUES (9223372036854775807);";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_entered_with_other_words_is_entered_anew_where_it_stood() {
    let database = TestDatabase::migrated().await;
    let client = database.client().await;
    client.batch_execute(OLDER).await.expect("older assets");
    migrate(&database.settings()).await.expect("entered");
    client.batch_execute(OTHER_WORDS).await.expect("other words");
    let (store, _metrics) = store(database.settings()).await;
    let strasse = SearchFilter { text: TextQuery::parse("STRASSE").ok(), ..SearchFilter::default() };
    assert!(store.search(&strasse, None, 10).await.expect("searched").hits.is_empty());
    let numbers = "SELECT array_agg(number ORDER BY version_id) FROM asset_search";
    let before: Vec<i64> = client.query_one(numbers, &[]).await.expect("numbers").get(0);
    migrate(&database.settings()).await.expect("entered anew");
    assert_eq!(names_on_all_pages(&store, &strasse, 10).await.0, ["Lange Straße"]);
    let after: Vec<i64> = client.query_one(numbers, &[]).await.expect("numbers").get(0);
    assert_eq!(before, after, "the order of results is as it was");
    let rest: Vec<_> = newest_first().into_iter().filter(|name| name != "tide 7").collect();
    assert_eq!(pages(&store, 10).await.0, rest);
}

/// Assets enough for several steps, in one statement, as an operator brings a catalogue in; then all of them changed in one.
const BULK: [&str; 2] = [
    "INSERT INTO assets SELECT md5('bulk' || n)::uuid, sha256('content'), 'ebb ' || n, '', 'text/plain', NULL, '{}',
        md5('producer')::uuid, now() FROM generate_series(1, 2500) n;
    INSERT INTO prices SELECT version_id, 1, now() FROM assets WHERE name LIKE 'ebb %'",
    "UPDATE assets SET name = replace(name, 'ebb', 'flood') WHERE name LIKE 'ebb %'",
];

#[tokio::test(flavor = "multi_thread")]
async fn assets_that_come_and_change_at_once_are_found_in_their_order() {
    let database = TestDatabase::migrated().await;
    let client = database.client().await;
    client.batch_execute(OLDER).await.expect("a producer with a content");
    let (store, _metrics) = store(database.settings()).await;
    for (statement, word) in BULK.into_iter().zip(["ebb", "flood"]) {
        client.batch_execute(statement).await.expect("done");
        let filter = SearchFilter { text: TextQuery::parse(word).ok(), ..SearchFilter::default() };
        let found = names_on_all_pages(&store, &filter, 100).await.0;
        let newest_first: Vec<_> = (1..=2500).rev().map(|n| format!("{word} {n}")).collect();
        assert_eq!(found, newest_first, "{word}");
    }
}

/// Makes every query one that is thought to find many assets, so that it looks into spans.
const MANY_EXPECTED: &str = "CREATE OR REPLACE FUNCTION penstock_expected(query tsquery) RETURNS bigint
    LANGUAGE sql STRICT AS 'SELECT 1000000::bigint'";

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_many_assets_keeps_the_same_promises() {
    let database = TestDatabase::migrated().await;
    database.client().await.batch_execute(MANY_EXPECTED).await.expect("replaced");
    let (store, _metrics) = store(database.settings()).await;
    search_suite::run(Arc::new(store)).await;
}

/// Makes every query one that is thought to find few assets, as filters are that always go together.
const FEW_EXPECTED: &str = "CREATE OR REPLACE FUNCTION penstock_expected(query tsquery) RETURNS bigint
    LANGUAGE sql STRICT AS 'SELECT 1::bigint'";

/// More assets than are looked at as a whole: every other one has the word in its name, the rest in the description.
const COMMON: &str = "
    INSERT INTO assets SELECT md5('common' || n)::uuid, sha256('content'), CASE n % 2 WHEN 0 THEN 'ebb ' ELSE 'sea ' END || n,
        CASE n % 2 WHEN 0 THEN '' ELSE 'ebb' END, 'video/mp4', NULL, '{}', md5('producer')::uuid, now()
    FROM generate_series(1, 12000) n";

/// The assets that the first page of a family of media types reads.
const READ_FOR_A_PAGE: &str = "
    BEGIN;
    DO $$ BEGIN PERFORM penstock_search(NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'video', 0, 9223372036854775807, NULL, NULL,
        NULL, 21); END $$;
    CREATE TEMP TABLE fetched AS SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'asset_search';
    COMMIT";

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_rare_and_is_not_is_found_in_its_order_and_not_read_as_a_whole() {
    let database = TestDatabase::migrated().await;
    let client = database.client().await;
    client.batch_execute(OLDER).await.expect("a producer with a content");
    client.batch_execute(COMMON).await.expect("made");
    client.batch_execute(FEW_EXPECTED).await.expect("replaced");
    let (store, _metrics) = store(database.settings()).await;
    let filter = SearchFilter { text: TextQuery::parse("ebb").ok(), ..SearchFilter::default() };
    let (names, _) = names_on_all_pages(&store, &filter, 1500).await;
    let newest_first = |name: &'static str, odd| (0..6000).rev().map(move |half| format!("{name} {}", 2 * half + odd));
    assert_eq!(names, newest_first("ebb", 2).chain(newest_first("sea", 1)).collect::<Vec<_>>());
    for (most, counted) in [(20_000, 12_000), (5000, 5000)] {
        let facets = store.facets(&filter, most, 10).await.expect("counted");
        assert_eq!((facets.counted, facets.capped), (counted, counted == 5000));
    }
    client.batch_execute(READ_FOR_A_PAGE).await.expect("a page");
    let fetched: i64 = client.query_one("SELECT idx_tup_fetch FROM fetched", &[]).await.expect("counted").get(0);
    assert!((21..8000).contains(&fetched), "{fetched} were read");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_that_has_lost_its_price_is_listed_at_the_last_one() {
    let database = TestDatabase::migrated().await;
    let client = database.client().await;
    client.batch_execute(OLDER).await.expect("assets");
    client.batch_execute("DELETE FROM prices WHERE satoshis = 21").await.expect("gone");
    let (store, _metrics) = store(database.settings()).await;
    let page = store.search(&SearchFilter { min_price: Some(21), ..tide() }, None, 10).await.expect("a page");
    assert_eq!(page.hits.iter().map(|hit| hit.asset.price_satoshis).collect::<Vec<_>>(), [21]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_takes_too_long_ends_early_and_the_next_goes_on() {
    let database = TestDatabase::migrated().await;
    let client = database.client().await;
    client.batch_execute(OLDER).await.expect("older assets");
    // As far apart as if a million others were between each two, and a search that has no time at all.
    let apart =
        "SELECT penstock_enter_assets(ARRAY[version_id], ARRAY[n * 1048576])
        FROM (SELECT version_id, row_number() OVER (ORDER BY version_id) AS n FROM assets WHERE name <> 'tide 21') AS a";
    client.batch_execute(apart).await.expect("entered");
    let (store, _metrics) = store(database.settings()).await;
    assert_eq!(pages(&store, 10).await, (newest_first(), 3));
    let hasty: String = client
        .query_one("SELECT replace(pg_get_functiondef('penstock_matches'::regproc), '1 second', '-1 second')", &[])
        .await
        .expect("the function")
        .get(0);
    client.batch_execute(&hasty).await.expect("replaced");
    client.batch_execute(MANY_EXPECTED).await.expect("replaced");
    let (names, count) = pages(&store, 10).await;
    assert_eq!(names, newest_first());
    assert!(count > 10, "every million has a page of its own: {count}");
    let facets = store.facets(&tide(), 100, 10).await.expect("counted");
    assert!(facets.capped && facets.counted < 21, "{facets:?}");
    // Also when there is nothing to look for but a price.
    let cheap = SearchFilter { max_price: Some(1), ..SearchFilter::default() };
    let (names, count) = names_on_all_pages(&store, &cheap, 10).await;
    assert_eq!(names, ["tide 1"]);
    assert!(count > 1, "{count}");
}
