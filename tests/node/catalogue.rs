//! The catalogue: what was published is found, by words and filters, page by page.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde_json::{Value, json};

use crate::{
    node::{Setup, TestNode, expect, expect_problem, text},
    postgres::TestDatabase,
};

/// Publishes an asset; what it was answered.
async fn publish(node: &TestNode, asset: Value) -> Value {
    let hash = node.put(b"catalogue", "video/mp4").await;
    let mut body = json!({ "contentHash": hash });
    body.as_object_mut().unwrap().extend(asset.as_object().unwrap().clone());
    expect(node.admin(Method::POST, "/v1/assets").json(&body).send().await.unwrap(), &[201]).await
}

fn ask(node: &TestNode, query: &[(&str, &str)]) -> RequestBuilder {
    node.client.get(Url::parse_with_params(&node.url("/v1/catalog"), query).unwrap())
}

async fn catalog(node: &TestNode, query: &[(&str, &str)]) -> Value {
    expect(ask(node, query).send().await.unwrap(), &[200]).await
}

fn names(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| text(item, "name")).collect()
}

on_both!(numbers_of_the_policy_meta_are_shown_as_they_were_sent, async |node: &mut TestNode| {
    let hash = node.put(b"catalogue", "video/mp4").await;
    let meta = r#"{"exact":[0.1234567890123456789,1e400,12345678901234567890123,1.50,-0],"title":"Gauge"}"#;
    let body = format!(r#"{{"name":"Tides","contentHash":"{hash}","policyMeta":{meta}}}"#);
    let made = node.admin(Method::POST, "/v1/assets").header("content-type", "application/json").body(body);
    let made = made.send().await.unwrap();
    let location = made.headers()["location"].to_str().unwrap().to_owned();
    let made = made.text().await.unwrap();
    let shown = node.get(&location).send().await.unwrap().text().await.unwrap();
    let listed = ask(node, &[]).send().await.unwrap().text().await.unwrap();
    let found = ask(node, &[("q", "gauge")]).send().await.unwrap().text().await.unwrap();
    let meta = meta.replace("1e400", "1e+400");
    for answer in [&made, &shown, &listed, &found] {
        assert!(answer.contains(&format!("\"policyMeta\":{meta}")), "{answer}");
    }
    // What stands for a number in a database is no text.
    assert_eq!(catalog(node, &[("q", "1e400")]).await["items"], json!([]));
});

on_both!(what_is_published_is_found_at_once, async |node: &mut TestNode| {
    assert_eq!(catalog(node, &[]).await, json!({ "items": [], "nextCursor": null }));
    let tables = publish(
        node,
        json!({
            "name": "Tide tables",
            "description": "Every harbour of the <North> Sea.",
            "datasetId": "harbours/2026",
            "policyMeta": { "license": "CC-BY-4.0" },
            "priceSatoshis": 250,
        }),
    )
    .await;
    let film = publish(node, json!({ "name": "A film", "description": "Of tides." })).await;
    // The newest first, each as it was published.
    assert_eq!(catalog(node, &[]).await, json!({ "items": [film, tables], "nextCursor": null }));

    let found = catalog(node, &[("q", "NORTH har")]).await;
    let mut expected = tables.clone();
    expected["foundIn"] = json!("description");
    expected["highlights"] = json!({ "description": [
        { "text": "Every " }, { "text": "harbour", "hit": true }, { "text": " of the <" }, { "text": "North", "hit": true },
        { "text": "> Sea." },
    ] });
    assert_eq!(found, json!({ "items": [expected], "nextCursor": null }));
    let found = catalog(node, &[("q", "cc-by-4.0")]).await;
    assert_eq!(found["items"][0]["foundIn"], "policyMeta");
    assert_eq!(found["items"][0]["highlights"]["policyMeta"][0], json!({ "text": "CC", "hit": true }));
    for (query, hits) in [
        (("q", "tide"), vec!["Tide tables", "A film"]),
        (("q", "\"tide\""), vec!["Tide tables"]),
        (("q", "tide -film"), vec!["Tide tables"]),
        (("q", "desert"), vec![]),
        (("datasetId", "harbours/2026"), vec!["Tide tables"]),
        (("datasetId", "harbours"), vec![]),
        (("producerId", &text(&film, "producerId")), vec!["A film", "Tide tables"]),
        (("mediaType", "video/*"), vec!["A film", "Tide tables"]),
        (("mediaType", "Video/MP4"), vec!["A film", "Tide tables"]),
        (("mediaType", "text/csv"), vec![]),
        (("minPrice", "1"), vec!["Tide tables"]),
        (("maxPrice", "249"), vec!["A film"]),
        (("q", ""), vec!["A film", "Tide tables"]),
        (("datasetId", ""), vec!["A film", "Tide tables"]),
        (("minPrice", ""), vec!["A film", "Tide tables"]),
        (("maxPrice", ""), vec!["A film", "Tide tables"]),
        (("limit", ""), vec!["A film", "Tide tables"]),
        (("facets", ""), vec!["A film", "Tide tables"]),
    ] {
        assert_eq!(names(&catalog(node, &[query]).await), hits, "{query:?}");
    }
    // A new price is seen with the next question.
    let price = format!("/v1/assets/{}/price", text(&tables, "versionId"));
    expect(node.admin(Method::PUT, &price).json(&json!({ "satoshis": 1000 })).send().await.unwrap(), &[200]).await;
    let dear = catalog(node, &[("minPrice", "1000")]).await;
    assert_eq!(dear["items"][0]["priceSatoshis"], 1000);
});

/// Asks until the page has this asset under this name at this price.
async fn until_listed(node: &TestNode, name: &str, price: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let page = catalog(node, &[("q", "tide")]).await;
        let item = &page["items"][0];
        if item["name"] == name && item["priceSatoshis"] == price {
            return;
        }
        assert!(Instant::now() < deadline, "{page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_instance_publishes_another_one_lists() {
    let database = TestDatabase::empty().await;
    // Without Redis: they have the log of changes in common and nothing else. What is in memory would last for an hour.
    let blobs = tempfile::tempdir().unwrap();
    let setup = || {
        let setup = Setup::on_database_of(&database.url()).env("DATA_ROOT", blobs.path().to_str().unwrap());
        setup.env("CACHE_TTLS_JSON", r#"{"listings":3600}"#).start()
    };
    let (mut one, mut other) = tokio::join!(setup(), setup());
    assert_eq!(names(&catalog(&other, &[("q", "tide")]).await), [""; 0]);
    let made = publish(&one, json!({ "name": "Tide tables" })).await;
    assert_eq!(names(&catalog(&one, &[("q", "tide")]).await), ["Tide tables"], "who published it finds it at once");
    until_listed(&other, "Tide tables", 0).await;
    let price = format!("/v1/assets/{}/price", text(&made, "versionId"));
    expect(one.admin(Method::PUT, &price).json(&json!({ "satoshis": 7 })).send().await.unwrap(), &[200]).await;
    until_listed(&other, "Tide tables", 7).await;
    one.finish().await;
    other.finish().await;
}

on_both!(pages_go_on_where_they_stopped_although_assets_are_added, async |node: &mut TestNode| {
    for number in 0..5 {
        publish(node, json!({ "name": format!("Tide {number}") })).await;
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = catalog(node, &[("q", "tide"), ("limit", "2"), ("cursor", &cursor)]).await;
        seen.extend(names(&page));
        publish(node, json!({ "name": "Tide, too late" })).await;
        match page["nextCursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ["Tide 4", "Tide 3", "Tide 2", "Tide 1", "Tide 0"]);
    // A cursor that was cut, changed, made up, or belongs to another search.
    let page = catalog(node, &[("limit", "1")]).await;
    let cursor = text(&page, "nextCursor");
    let changed = cursor.replace(&cursor[5..6], if &cursor[5..6] == "x" { "y" } else { "x" });
    for (cursor, q) in [(&cursor[1..], ""), (&changed, ""), ("abc", ""), ("\u{0}", ""), ("🌊", ""), (&cursor, "tide")]
    {
        let answer = ask(node, &[("cursor", cursor), ("q", q)]).send().await.unwrap();
        expect_problem(answer, 400, "malformed-request").await;
    }
});

on_both!(facets_count_what_a_search_finds, async |node: &mut TestNode| {
    for (name, dataset, media) in
        [("One", "a", "text/csv"), ("Two", "b", "text/csv; header=absent"), ("Three", "b", "video/mp4")]
    {
        publish(node, json!({ "name": name, "datasetId": dataset, "mediaType": media, "description": "counted" }))
            .await;
    }
    let all = publish(node, json!({ "name": "Other" })).await;
    let page = catalog(node, &[("q", "counted"), ("facets", "true"), ("limit", "1")]).await;
    assert_eq!(names(&page), ["Three"]);
    let producer = text(&all, "producerId");
    assert_eq!(
        page["facets"],
        json!({
            "datasetId": [{ "value": "b", "count": 2 }, { "value": "a", "count": 1 }],
            "producerId": [{ "value": producer, "count": 3 }],
            "mediaType": [{ "value": "text/csv", "count": 2 }, { "value": "video/mp4", "count": 1 }],
            "counted": 3,
            "capped": false,
        })
    );
    assert!(catalog(node, &[("facets", "false")]).await["facets"].is_null());
});

on_both!(whatever_is_typed_gets_a_clear_answer, async |node: &mut TestNode| {
    publish(node, json!({ "name": "Tide \"tables\" & 100% of 'it' \\ سلام", "policyMeta": { "a": "b" } })).await;
    let long = "a".repeat(10_000);
    let words = "a ".repeat(40);
    let most = "a".repeat(512);
    for (typed, status) in [
        ("\"", 400),
        ("\"unbalanced", 200),
        ("tide\"", 200),
        ("((((", 400),
        ("tide & | ! ( ) : * <-> <2> \\ ' \" -", 200),
        ("tide:* | !(sea & 'x')", 200),
        ("NEAR(tide tables, 2) AND {name} : ^x OR NOT y +z", 200),
        ("-", 400),
        ("- - --tide", 200),
        ("-tide -\"a b\"", 200),
        ("or or or OR", 200),
        ("tide\u{0}tables", 200),
        ("\u{0}", 400),
        ("\u{1}\u{7f}\u{9f}", 400),
        ("🌊🌊", 400),
        ("🌊 tide", 200),
        ("\u{202e}edit\u{202c} سلام", 200),
        ("'; DROP TABLE assets; --", 200),
        ("%' OR 1=1 --", 200),
        ("$1 {^} {} {=} #0 @p *", 200),
        ("\u{fffd}\u{d7ff}\u{10ffff}", 200),
        (&most, 200),
        (&words, 400),
        (&long, 400),
    ] {
        let answer = ask(node, &[("q", typed), ("facets", "true")]).send().await.unwrap();
        assert_eq!(answer.status(), status, "{typed:.60?}");
        if status == 400 {
            let problem = expect_problem(answer, 400, "malformed-request").await;
            assert!(text(&problem, "detail").starts_with('q'), "{problem}");
        }
    }
    for query in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "minPrice=x",
        "minPrice=-1",
        "minPrice=2&maxPrice=1",
        "producerId=abc",
        "mediaType=video",
        "mediaType=*/*",
        "mediaType=%00/x",
        "datasetId=%00",
        "datasetId=a%0Ab",
        "facets=maybe",
        "sort=name",
        "q=a&q=b",
    ] {
        let answer = node.get(&format!("/v1/catalog?{query}")).send().await.unwrap();
        expect_problem(answer, 400, "malformed-request").await;
    }
    for query in
        ["q=%FF%FE", "q=%", "q=a%00b", "q=+tide+", "minPrice=18446744073709551615", "datasetId=%F0%9F%8C%8A%27%22"]
    {
        let answer = node.get(&format!("/v1/catalog?{query}")).send().await.unwrap();
        assert!([StatusCode::OK, StatusCode::BAD_REQUEST].contains(&answer.status()), "{query}");
    }
    let answer = node.get(&format!("/v1/catalog?q={}", "a".repeat(40_000))).send().await.unwrap();
    expect_problem(answer, 431, "headers-too-large").await;
});
