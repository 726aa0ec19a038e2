//! Input that means harm, or was made by a program gone wrong: a clear answer each, nothing kept, and the node goes on.

use reqwest::Method;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    node::{TestNode, expect, expect_problem},
    scene::{created, facet, graph, paths, post, post_batch, run_event},
};

fn event() -> Value {
    run_event("START", Uuid::now_v7(), "load", &["a"], &["b"])
}

fn many_facets(count: usize) -> Value {
    let facets: Map<String, Value> =
        (0..count).map(|n| (format!("f{n}"), json!({ "_producer": "urn:a:b", "_schemaURL": "urn:a:b" }))).collect();
    facets.into()
}

/// Nothing of the events before has been kept, and the node answers.
async fn unharmed(node: &TestNode) {
    assert_eq!(node.metric("penstock_lineage_events_total", "new").await, 0.0);
    created(node, &event()).await;
    assert_eq!(graph(node, "job:etl:load", &[]).await["stats"]["nodes"], 3);
    expect(node.get("/health/ready").send().await.unwrap(), &[200]).await;
}

on_both!(ten_thousand_facets_are_too_many, async |node: &mut TestNode| {
    for place in ["run", "job", "inputs", "outputs"] {
        let mut event = event();
        let facets = many_facets(10_000);
        match place {
            "run" | "job" => event[place]["facets"] = facets,
            _ => event[place][0]["facets"] = facets,
        }
        let problem = expect_problem(post(node, &event).await, 422, "validation-failed").await;
        assert_eq!(paths(&problem), [""], "{problem}");
        assert!(problem["errors"][0]["detail"].as_str().unwrap().contains("10000 facets"), "{problem}");
    }
    unharmed(node).await;
});

on_both!(absurd_times_are_refused, async |node: &mut TestNode| {
    for time in [
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "-9999-01-01T00:00:00Z",
        "292277026596-12-04T15:30:08Z",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-23T25:00:00Z",
        "2026-11-23",
        "2026-11-23T10:00:00",
        "now",
        "",
        "1e9",
        "2026-11-23T10:00:00+99:99",
    ] {
        let mut event = event();
        event["eventTime"] = time.into();
        let problem = expect_problem(post(node, &event).await, 422, "validation-failed").await;
        assert_eq!(paths(&problem), ["eventTime"], "{time}: {problem}");
    }
    for time in [json!(1_700_000_000), json!(null), json!(["2026-11-23T10:00:00Z"]), json!({})] {
        let mut event = event();
        event["eventTime"] = time.clone();
        let problem = expect_problem(post(node, &event).await, 422, "validation-failed").await;
        assert!(paths(&problem).contains(&"eventTime"), "{time}: {problem}");
    }
    unharmed(node).await;
});

on_both!(absurd_names_are_refused, async |node: &mut TestNode| {
    let long = "n".repeat(5000);
    for name in ["", "a\u{0}b", "a\nb", "\u{7f}", "\u{1b}[31m", long.as_str()] {
        for (member, part) in [("job", "namespace"), ("job", "name"), ("inputs", "name"), ("outputs", "namespace")] {
            let mut event = event();
            let place = if member == "job" { &mut event["job"] } else { &mut event[member][0] };
            place[part] = name.into();
            let problem = expect_problem(post(node, &event).await, 422, "validation-failed").await;
            let expected = if member == "job" { format!("job.{part}") } else { format!("{member}[0].{part}") };
            assert!(paths(&problem).iter().all(|path| *path == expected), "{name:?}: {problem}");
        }
    }
    let mut event = event();
    event["run"]["facets"] = json!({ "log": facet("one\u{0}two") });
    let problem = expect_problem(post(node, &event).await, 422, "validation-failed").await;
    assert_eq!(paths(&problem), ["run.facets.log.is"]);
    unharmed(node).await;
});

on_both!(depth_and_width_bombs_are_refused, async |node: &mut TestNode| {
    let raw = async |body: String| {
        let request = node.admin(Method::POST, "/api/v1/lineage").header("content-type", "application/json").body(body);
        request.send().await.unwrap()
    };
    let bomb = format!("{}1{}", "[".repeat(400_000), "]".repeat(400_000));
    let mut deep = event();
    deep["run"]["facets"] = json!({ "deep": "HERE" });
    for body in [bomb.clone(), deep.to_string().replace("\"HERE\"", &bomb), "{\"a\":".repeat(100_000)] {
        let answer = raw(body).await;
        assert!([400, 422].contains(&answer.status().as_u16()), "{}", answer.status());
    }
    let mut wide = event();
    wide["inputs"] = (0..5000).map(|n| json!({ "namespace": "db", "name": format!("d{n}") })).collect();
    let problem = expect_problem(post(node, &wide).await, 422, "validation-failed").await;
    assert_eq!(paths(&problem), ["inputs"]);
    for body in ["", " ", "null", "true", "[]", "\"x\"", "{", "{}{}", "\u{feff}{}"] {
        let answer = raw(body.to_owned()).await;
        assert!([400, 422].contains(&answer.status().as_u16()), "{body:?}: {}", answer.status());
    }
    let not_utf8 = node
        .admin(Method::POST, "/api/v1/lineage")
        .header("content-type", "application/json")
        .body(vec![b'"', 0xff, b'"']);
    expect_problem(not_utf8.send().await.unwrap(), 400, "malformed-request").await;
    unharmed(node).await;
});

on_both!(cycles_and_knots_end, async |node: &mut TestNode| {
    // Every job reads every dataset and writes every dataset: the densest knot that eight names can make.
    let datasets: Vec<String> = (0..8).map(|n| format!("d{n}")).collect();
    let datasets: Vec<&str> = datasets.iter().map(String::as_str).collect();
    for n in 0..8 {
        created(node, &run_event("RUNNING", Uuid::now_v7(), &format!("j{n}"), &datasets, &datasets)).await;
    }
    for direction in ["up", "down", "both"] {
        let knot = graph(node, "dataset:db:d0", &[("direction", direction), ("depth", "10")]).await;
        assert_eq!(knot["stats"], json!({ "nodes": 16, "edges": 128, "truncated": false }), "{direction}");
    }
});

on_sqlite!(a_batch_full_of_faults_has_a_short_answer_with_one_of_each_event, async |node: &mut TestNode| {
    let nameless = json!({ "namespace": "", "name": "" });
    let mut event = event();
    event["inputs"] = vec![nameless; 30].into();
    event["outputs"] = event["inputs"].clone();
    let problem = expect_problem(post(node, &event).await, 422, "validation-failed").await;
    assert_eq!(paths(&problem).len(), 50);
    let report = post_batch(node, &vec![event; 40]).await;
    let results = report["results"].as_array().unwrap();
    let told: Vec<usize> = results.iter().map(|result| paths(result).len()).collect();
    assert_eq!((told[0], told[39]), (50, 1));
    assert_eq!(told.iter().sum::<usize>(), 1000 + 40);
    assert_eq!(report["summary"]["failed"], 40);
    let named_long = json!({ "f".repeat(500_000): 1 });
    let mut event = run_event("START", Uuid::now_v7(), "load", &[], &[]);
    event["run"]["facets"] = named_long;
    let answer = post(node, &event).await;
    assert_eq!(answer.status(), 422);
    assert!(answer.text().await.unwrap().len() < 5000);
});

on_sqlite!(values_are_not_repeated_in_refusals, async |node: &mut TestNode| {
    let mut event = event();
    event["producer"] = "x".repeat(500_000).into();
    event["run"]["runId"] = "y".repeat(200_000).into();
    let answer = post(node, &event).await;
    assert_eq!(answer.status(), 422);
    assert!(answer.text().await.unwrap().len() < 2000);
});
