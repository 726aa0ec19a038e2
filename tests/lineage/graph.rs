//! The graph out: names in URLs, walks, formats, search.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    node::{On, Setup, TestNode, expect, expect_problem},
    scene::{ask, created, facet, graph, names, post_batch, run_event},
};

on_both!(a_walk_goes_up_down_or_both_ways_as_deep_as_it_is_asked_to, async |node: &mut TestNode| {
    let events: Vec<Value> = (0..6)
        .map(|n| {
            run_event("COMPLETE", Uuid::now_v7(), &format!("j{n}"), &[&format!("d{n}")], &[&format!("d{}", n + 1)])
        })
        .collect();
    post_batch(node, &events).await;
    let down = graph(node, "dataset:db:d1", &[("direction", "down"), ("depth", "3")]).await;
    assert_eq!(names(&down), ["d1", "d2", "j1", "j2"]);
    assert_eq!(
        (&down["node"], &down["depth"], &down["direction"]),
        (&json!("dataset:db:d1"), &json!(3), &json!("down"))
    );
    assert_eq!(down["stats"], json!({ "nodes": 4, "edges": 3, "truncated": false }));
    let edge = &down["edges"][0];
    assert!(edge["source"].is_string() && edge["target"].is_string() && edge["events"] == 1, "{edge}");
    assert_eq!(
        names(&graph(node, "job:etl:j1", &[("direction", "up"), ("depth", "10")]).await),
        ["d0", "d1", "j0", "j1"]
    );
    assert_eq!(names(&graph(node, "dataset:db:d3", &[("depth", "1")]).await), ["d3", "j2", "j3"]);
    let cyto = graph(node, "dataset:db:d1", &[("direction", "down"), ("depth", "1"), ("format", "cyto")]).await;
    let root = cyto["elements"]["nodes"].as_array().unwrap().iter().find(|node| node["data"]["depth"] == 0).unwrap();
    assert_eq!(
        (&root["data"]["id"], &root["data"]["label"], &root["classes"]),
        (&json!("dataset:db:d1"), &json!("d1"), &json!("dataset"))
    );
    let edge = &cyto["elements"]["edges"][0]["data"];
    assert_eq!((&edge["source"], &edge["target"]), (&json!("dataset:db:d1"), &json!("job:etl:j1")));
    assert!(edge["id"].is_string());
});

on_both!(names_with_anything_in_them_are_found_by_path_and_by_query, async |node: &mut TestNode| {
    let odd = [
        "s3://bucket/a b/c%20d?e=f&g#h",
        "..",
        "a:b:c",
        "100%",
        "grüße/🦆",
        "back\\slash",
        "+plus+",
        "semi;colon",
        "\"quoted\"",
    ];
    let namespaces = ["postgres://db.example:5432", "file:///tmp/%41", "plain"];
    for namespace in namespaces {
        for name in odd {
            let mut event = run_event("COMPLETE", Uuid::now_v7(), "load", &[], &[]);
            event["outputs"] = json!([{ "namespace": namespace, "name": name }]);
            event["job"] = json!({ "namespace": namespace, "name": name });
            let answer = crate::scene::post(node, &event).await;
            expect(answer, &[201]).await;
            let encoded = |text: &str| text.replace('%', "%25").replace(':', "%3A");
            let id = format!("dataset:{}:{}", encoded(namespace), encoded(name));
            let found = graph(node, &id, &[("direction", "up")]).await;
            assert_eq!((&found["node"], found["nodes"].as_array().unwrap().len()), (&json!(id), 2), "{found}");
            // A client that follows the rules of URLs takes `..` out of a path, encoded or not: such a name has the query.
            if name == ".." {
                continue;
            }
            for kind in ["nodes/dataset", "jobs"] {
                let mut url = reqwest::Url::parse(&node.url("/v1/openlineage")).unwrap();
                url.path_segments_mut().unwrap().extend(kind.split('/')).push(namespace).push(name);
                let shown = expect(node.client.get(url.clone()).send().await.unwrap(), &[200]).await;
                assert_eq!((&shown["namespace"], &shown["name"]), (&json!(namespace), &json!(name)), "{url}");
            }
        }
    }
});

on_both!(a_text_that_may_mean_several_nodes_means_the_one_that_exists, async |node: &mut TestNode| {
    let of = |namespace: &str, name: &str| {
        let mut event = run_event("COMPLETE", Uuid::now_v7(), "load", &[], &[]);
        event["outputs"] = json!([{ "namespace": namespace, "name": name }]);
        event
    };
    created(node, &of("postgres://db:5432", "public.users")).await;
    let found = graph(node, "dataset:postgres://db:5432:public.users", &[]).await;
    assert_eq!(found["node"], "dataset:postgres%3A//db%3A5432:public.users");
    created(node, &of("postgres", "//db:5432:public.users")).await;
    let answer = ask(node, "/v1/openlineage/lineage", &[("node", "dataset:postgres://db:5432:public.users")]).await;
    let problem = expect_problem(answer, 400, "malformed-request").await;
    assert!(problem["detail"].as_str().unwrap().contains("postgres%3A//db%3A5432:public.users"), "{problem}");
    let found = graph(node, "dataset:postgres%3A//db%3A5432:public.users", &[]).await;
    assert_eq!(names(&found), ["load", "public.users"]);
});

on_both!(the_id_that_the_node_writes_means_that_node_whatever_others_there_are, async |node: &mut TestNode| {
    let namespaces = [("a:b", "dataset:a%3Ab:c"), ("a%3Ab", "dataset:a%253Ab:c"), ("a%253Ab", "dataset:a%25253Ab:c")];
    for (namespace, _) in namespaces {
        let mut event = run_event("COMPLETE", Uuid::now_v7(), "load", &[], &[]);
        event["outputs"] = json!([{ "namespace": namespace, "name": "c" }]);
        created(node, &event).await;
    }
    for (namespace, id) in namespaces {
        let found = graph(node, id, &[]).await;
        assert_eq!((&found["node"], &found["nodes"][0]["namespace"]), (&json!(id), &json!(namespace)));
    }
});

on_sqlite!(what_is_unknown_or_malformed_is_told_apart, async |node: &mut TestNode| {
    let ask = async |query: &[(&str, &str)]| ask(node, "/v1/openlineage/lineage", query).await;
    expect_problem(ask(&[("node", "dataset:db:nothing")]).await, 404, "unknown-lineage").await;
    expect_problem(ask(&[("node", "dataset:a:b:c:nothing")]).await, 404, "unknown-lineage").await;
    for bad in ["", "dataset", "dataset:db", "dataset::x", "run:a:b", "x"] {
        expect_problem(ask(&[("node", bad)]).await, 400, "malformed-request").await;
    }
    for (member, bad) in [
        ("depth", "0"),
        ("depth", "11"),
        ("depth", "-1"),
        ("depth", "x"),
        ("direction", "left"),
        ("format", "dot"),
        ("dpeth", "1"),
    ] {
        expect_problem(ask(&[("node", "dataset:db:x"), (member, bad)]).await, 400, "malformed-request").await;
    }
    expect_problem(ask(&[]).await, 400, "malformed-request").await;
    for path in ["nodes/dataset/db/x", "jobs/db/x", "runs/67e55044-10b1-426f-9247-bb680e5fe0c8"] {
        let answer = node.get(&format!("/v1/openlineage/{path}")).send().await.unwrap();
        expect_problem(answer, 404, "unknown-lineage").await;
    }
    expect_problem(node.get("/v1/openlineage/runs/x").send().await.unwrap(), 400, "malformed-request").await;
});

on_both!(search_finds_jobs_and_datasets_by_the_beginnings_of_words, async |node: &mut TestNode| {
    created(
        node,
        &run_event("COMPLETE", Uuid::now_v7(), "nightly.load_orders", &["raw/Orders 2026"], &["orders_clean"]),
    )
    .await;
    let search = async |q: &str| {
        let answer = expect(ask(node, "/v1/openlineage/search", &[("q", q)]).await, &[200]).await;
        let mut found: Vec<_> =
            answer["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
        found.sort();
        found
    };
    assert_eq!(
        search("orders").await,
        ["dataset:db:orders_clean", "dataset:db:raw/Orders 2026", "job:etl:nightly.load_orders"]
    );
    assert_eq!(search("NIGHT ord").await, ["job:etl:nightly.load_orders"]);
    assert_eq!(search("orders 2026").await, ["dataset:db:raw/Orders 2026"]);
    for nothing in ["", "  ", "!!!", "rders", "orders nothing", "' OR 1=1 --", "orders & | ! ( ) <-> :*"] {
        let expected = if nothing.starts_with("orders &") { 3 } else { 0 };
        assert_eq!(search(nothing).await.len(), expected, "{nothing:?}");
    }
    for limit in ["0", "101", "x"] {
        let answer = ask(node, "/v1/openlineage/search", &[("q", "orders"), ("limit", limit)]).await;
        expect_problem(answer, 400, "malformed-request").await;
    }
});

/// A node whose answers have at most ten nodes.
async fn narrow(on: On) -> TestNode {
    Setup::new(on).env("PENSTOCK_LINEAGE__GRAPH_NODES", "10").start().await
}

async fn says_that_it_was_cut(on: On) {
    let mut node = narrow(on).await;
    let outputs: Vec<String> = (0..50).map(|n| format!("out{n}")).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    created(&node, &run_event("COMPLETE", Uuid::now_v7(), "fan", &["in"], &outputs)).await;
    let cut = graph(&node, "dataset:db:in", &[]).await;
    assert_eq!((&cut["stats"]["nodes"], &cut["stats"]["truncated"]), (&json!(10), &json!(true)));
    let ids: Vec<&Value> = cut["nodes"].as_array().unwrap().iter().map(|node| &node["id"]).collect();
    assert!(
        cut["edges"]
            .as_array()
            .unwrap()
            .iter()
            .all(|edge| ids.contains(&&edge["source"]) && ids.contains(&&edge["target"]))
    );
    let near = graph(&node, "dataset:db:in", &[("depth", "1")]).await;
    assert_eq!(near["stats"], json!({ "nodes": 2, "edges": 1, "truncated": false }));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_cut_says_so_on_sqlite() {
    says_that_it_was_cut(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_cut_says_so_on_postgres() {
    says_that_it_was_cut(On::Postgres).await;
}

on_both!(a_wide_schema_is_kept_and_one_that_is_too_long_is_linked_to_its_event, async |node: &mut TestNode| {
    let columns = |count: usize| -> Value {
        (0..count)
            .map(|n| json!({ "name": format!("column_{n}"), "type": "VARCHAR(255)", "description": "words" }))
            .collect()
    };
    let (wide, longer) = (facet(columns(3500)), facet(columns(6000)));
    assert!(wide.to_string().len() > 200_000 && longer.to_string().len() > 256 << 10);
    let run = Uuid::now_v7();
    let mut event = run_event("COMPLETE", run, "load", &[], &["kept"]);
    event["outputs"][0]["facets"] = json!({ "schema": wide, "longer": longer });
    let hash = created(node, &event).await["eventHash"].clone();
    let shown = expect(ask(node, "/v1/openlineage/nodes/dataset/db/kept", &[]).await, &[200]).await;
    assert!(shown["facets"]["schema"] == wide, "every column is there");
    let link = json!({
        "_producer": longer["_producer"],
        "_schemaURL": longer["_schemaURL"],
        "_omittedBytes": longer.to_string().len(),
        "_eventHash": hash,
        "_runId": run,
    });
    assert_eq!(shown["facets"]["longer"], link);
    // Where the link leads.
    let whole = ask(node, &format!("/v1/openlineage/runs/{run}"), &[("include", "events")]).await;
    let whole = expect(whole, &[200]).await;
    assert_eq!(whole["history"][0]["eventHash"], hash);
    assert!(whole.to_string().contains("column_5999"));
});
