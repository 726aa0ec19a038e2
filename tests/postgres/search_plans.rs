//! The search finds by its indexes alone, whatever is asked.

use std::future::poll_fn;

use penstock_actors::{
    clock::{Clock as _, SystemClock},
    ids::{ContentHash, ProducerId, VersionId},
    model::NewAsset,
    ports::{Assets as _, Media, Search as _, SearchFilter},
    search::TextQuery,
};
use tokio_postgres::{AsyncMessage, NoTls};

use crate::{large::Large, support::TestDatabase};

/// As many as make a table large.
const ENTER: &str = "
    SELECT penstock_enter_assets(array_agg(md5('asset' || n)::uuid), NULL) FROM generate_series(1, 12000) n;
    ANALYZE asset_search, asset_words;";

/// Two words, as the adapter asks for them, and facets.
const TWO_WORDS: &str = "
    SELECT m.rank, m.number, a.name
    FROM penstock_search($$(('^name') & ({^}))$$, $$(('name') & ({}))$$, $$(('name' | '=name') & (({}) | ({=})))$$, '119',
        NULL, NULL, NULL, NULL, 0, 9223372036854775807, NULL, NULL, NULL, 21) m
    LEFT JOIN assets a USING (version_id);
    SELECT * FROM penstock_facets($$(('name' | '=name') & ('119' | '=119'))$$, NULL, NULL, NULL, NULL, 'text', 0,
        9223372036854775807, 1000, 10)";

/// The plans by which the server ran some statements, those within functions included.
async fn plans(database: &TestDatabase, statements: &str) -> Vec<String> {
    let (client, mut connection) = database.config().connect(NoTls).await.expect("a connection");
    let plans = tokio::spawn(async move {
        let mut plans = Vec::new();
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message.expect("a message") {
                plans.push(notice.message().to_owned());
            }
        }
        plans
    });
    let explain =
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;
        SET client_min_messages = log";
    client.batch_execute(explain).await.expect("explained");
    client.batch_execute(statements).await.expect("run");
    drop(client);
    plans.await.expect("plans")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_never_scans_a_large_table() {
    let large = Large::new().await;
    large.client.batch_execute(ENTER).await.expect("entered");
    let plans = plans(&large.database, TWO_WORDS).await;
    let found_by = |index: &str| plans.iter().filter(|plan| plan.contains(index)).count();
    assert!(found_by("Bitmap Index Scan on asset_search_document") >= 2, "a page, and facets: {plans:#?}");
    assert!(found_by("using asset_words") >= 1, "what begins with the last word: {plans:#?}");
    assert_eq!(found_by("Seq Scan"), 0, "{plans:#?}");
    let producer = ProducerId::from_uuid(large.id("producer", 5).await);
    let text = |typed: &str| SearchFilter { text: TextQuery::parse(typed).ok(), ..SearchFilter::default() };
    let dataset = SearchFilter { dataset_id: Some("dataset 7".into()), ..SearchFilter::default() };
    for (name, filter, hits) in [
        ("a listing", SearchFilter::default(), 20),
        ("a common word", text("name"), 20),
        ("two words", text("name 6000"), 1),
        ("a beginning", text("name 119"), 20),
        ("a phrase", text("\"of 6\" -name"), 0),
        ("nothing", text("nothing"), 0),
        ("what only excludes", text("-of"), 0),
        ("a dataset", dataset.clone(), 20),
        ("a word in a dataset", SearchFilter { text: TextQuery::parse("name").ok(), ..dataset }, 20),
        ("a producer", SearchFilter { producer_id: Some(producer), ..SearchFilter::default() }, 1),
        ("a media type", SearchFilter { media: Some(Media::Type("text/plain".into())), ..text("name") }, 20),
        ("a family", SearchFilter { media: Some(Media::Family("video".into())), ..SearchFilter::default() }, 0),
        ("a price", SearchFilter { min_price: Some(2), ..SearchFilter::default() }, 0),
        ("a word for a price", SearchFilter { max_price: Some(1), ..text("name") }, 20),
    ] {
        let mut behind = None;
        large
            .call(name, async |store| {
                let page = store.search(&filter, None, 20).await.expect("searched");
                assert_eq!(page.hits.len(), hits, "{name}");
                behind = page.next;
            })
            .await;
        if behind.is_some() {
            large.call(name, async |store| drop(store.search(&filter, behind, 20).await.expect("searched"))).await;
        }
        large.call(name, async |store| drop(store.facets(&filter, 1000, 10).await.expect("counted"))).await;
    }
    let new = NewAsset {
        version_id: VersionId::next(),
        content_hash: ContentHash::from_bytes(large.hash("content", 5).await),
        name: "New words".into(),
        description: String::new(),
        media_type: None,
        dataset_id: None,
        policy_meta: serde_json::json!({ "more": "words" }),
        producer_id: producer,
        price_satoshis: 1,
        created_at: SystemClock.now(),
    };
    large.call("a new asset", async |store| drop(store.create_asset(&new).await.expect("made"))).await;
    large
        .call("a new price", async |store| {
            assert!(store.set_price(new.version_id, 2, None, SystemClock.now()).await.expect("priced"));
        })
        .await;
    let before = large.scanned().await;
    let client = large.database.client().await;
    client.batch_execute("SELECT penstock_backfill_search(100)").await.expect("entered");
    drop(client);
    // The server has counted what that connection did when it has counted what a later one did.
    large.call("an asset", async |store| drop(store.asset(new.version_id).await.expect("read"))).await;
    assert_eq!(large.scanned().await, before, "a step of entering assets reads a table from end to end");
}
