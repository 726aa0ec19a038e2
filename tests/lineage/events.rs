//! Events in.

use std::io::Write as _;

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    node::{TestNode, expect, expect_problem, text},
    scene::{created, facet, graph, names, paths, post, post_batch, run_event},
};

on_both!(an_event_is_created_once_and_known_ever_after, async |node: &mut TestNode| {
    let event = run_event("START", Uuid::now_v7(), "load", &["raw"], &["clean"]);
    let first = post(node, &event).await;
    let location = first.headers()["location"].to_str().unwrap().to_owned();
    let first = expect(first, &[201]).await;
    assert_eq!(first["outcome"], "created");
    let again = expect(post(node, &event).await, &[200]).await;
    assert_eq!((&again["outcome"], &again["eventHash"]), (&json!("known"), &first["eventHash"]));
    let run = expect(node.get(&location).send().await.unwrap(), &[200]).await;
    assert_eq!(
        (&run["state"], &run["events"], &run["history"][0]["eventHash"]),
        (&json!("START"), &json!(1), &first["eventHash"])
    );
    assert_eq!((&run["inputs"], &run["outputs"]), (&json!(["dataset:db:raw"]), &json!(["dataset:db:clean"])));
    assert_eq!(run["job"]["id"], "job:etl:load");
});

on_both!(events_that_differ_in_one_digit_of_a_number_are_two, async |node: &mut TestNode| {
    let run = Uuid::now_v7();
    let mut event = run_event("RUNNING", run, "count", &["raw"], &[]);
    event["inputs"][0]["facets"] = json!({ "rows": facet("ROWS") });
    event["run"]["facets"] = json!({ "rows": facet("ROWS") });
    let event = event.to_string();
    let send = async |rows: &str, status| {
        let body = event.replace("\"ROWS\"", rows);
        let sent = node.admin(Method::POST, "/api/v1/lineage").header("content-type", "application/json").body(body);
        expect(sent.send().await.unwrap(), &[status]).await
    };
    let rows = ["12345678901234567890123", "12345678901234567890124", "0.1234567890123456789", "1e+400"];
    for rows in rows {
        assert_eq!(send(rows, 201).await["outcome"], "created");
        assert_eq!(send(rows, 200).await["outcome"], "known");
    }
    let shown =
        node.get(&format!("/v1/openlineage/runs/{run}?include=events")).send().await.unwrap().text().await.unwrap();
    for rows in rows {
        assert!(shown.contains(&format!("\"is\":{rows}}}")), "{rows}: {shown}");
    }
    // Of four events at one time one has brought the facet that is kept.
    let kept = node.get("/v1/openlineage/nodes/dataset/db/raw").send().await.unwrap().text().await.unwrap();
    assert!(rows.iter().any(|rows| kept.contains(&format!("\"is\":{rows}}}"))), "{kept}");
});

on_both!(a_running_run_shows_at_once_and_so_does_what_it_finds_later, async |node: &mut TestNode| {
    let run = Uuid::now_v7();
    created(node, &run_event("RUNNING", run, "stream", &["raw"], &[])).await;
    assert_eq!(names(&graph(node, "dataset:db:raw", &[]).await), ["raw", "stream"]);
    // The answer before is in the cache by now; it does not stand in the way.
    created(node, &run_event("RUNNING", run, "stream", &["raw"], &["clean"])).await;
    assert_eq!(names(&graph(node, "dataset:db:raw", &[]).await), ["clean", "raw", "stream"]);
    assert_eq!(graph(node, "dataset:db:raw", &[]).await["stats"]["truncated"], false);
    let job = expect(node.get("/v1/openlineage/jobs/etl/stream").send().await.unwrap(), &[200]).await;
    assert_eq!((&job["events"], &job["latestRuns"][0]["state"]), (&json!(2), &json!("RUNNING")));
});

on_both!(events_in_disorder_and_repeated_come_to_the_same, async |node: &mut TestNode| {
    let run = Uuid::now_v7();
    let mut events: Vec<Value> =
        ["START", "RUNNING", "COMPLETE"].map(|state| run_event(state, run, "load", &["a"], &["b"])).into();
    let times: Vec<Value> = events.iter().map(|event| event["eventTime"].clone()).collect();
    events.reverse();
    for event in events.iter().chain(&events) {
        expect(post(node, event).await, &[200, 201]).await;
    }
    let shown = expect(node.get(&format!("/v1/openlineage/runs/{run}")).send().await.unwrap(), &[200]).await;
    assert_eq!((&shown["state"], &shown["events"]), (&json!("COMPLETE"), &json!(3)));
    let states: Vec<_> = shown["history"].as_array().unwrap().iter().map(|event| event["eventType"].clone()).collect();
    assert_eq!(states, ["COMPLETE", "RUNNING", "START"]);
    // Databases keep microseconds.
    let micros = |time: &Value| time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_microsecond();
    assert_eq!((micros(&shown["startedAt"]), micros(&shown["endedAt"])), (micros(&times[0]), micros(&times[2])));
});

on_both!(jobs_and_datasets_may_tell_of_themselves, async |node: &mut TestNode| {
    let mut job = run_event("START", Uuid::now_v7(), "design", &["a"], &["b"]);
    job.as_object_mut().unwrap().remove("run");
    job.as_object_mut().unwrap().remove("eventType");
    job["schemaURL"] = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/JobEvent".into();
    job["job"]["facets"] = json!({ "documentation": facet("nightly") });
    let answer = post(node, &job).await;
    assert_eq!(answer.headers()["location"], "/v1/openlineage/jobs/etl/design");
    expect(answer, &[201]).await;
    let dataset = json!({
        "eventTime": jiff::Timestamp::now().to_string(),
        "producer": "https://example.org/etl",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/DatasetEvent",
        "dataset": { "namespace": "db", "name": "a", "facets": { "of my own": facet(json!({ "deep": [1, null] })) } },
    });
    created(node, &dataset).await;
    let shown = expect(node.get("/v1/openlineage/nodes/dataset/db/a").send().await.unwrap(), &[200]).await;
    assert_eq!(shown["facets"]["of my own"]["is"], json!({ "deep": [1, null] }), "facets that nobody knows are kept");
    assert_eq!(shown["consumedBy"][0]["id"], "job:etl:design");
    let shown = expect(node.get("/v1/openlineage/jobs/etl/design").send().await.unwrap(), &[200]).await;
    assert_eq!(
        (&shown["outputs"][0]["name"], &shown["facets"]["documentation"]["is"]),
        (&json!("b"), &json!("nightly"))
    );
});

on_both!(a_batch_has_a_result_for_each_event, async |node: &mut TestNode| {
    let run = Uuid::now_v7();
    let good = run_event("START", run, "load", &["a"], &["b"]);
    let mut bad = run_event("START", run, "load", &["a"], &["b"]);
    bad["job"].as_object_mut().unwrap().remove("name");
    bad["inputs"][0]["namespace"] = 7.into();
    let report = post_batch(
        node,
        &[good.clone(), bad, json!("no event"), good.clone(), run_event("COMPLETE", run, "load", &[], &[])],
    )
    .await;
    let outcomes: Vec<_> = report["results"].as_array().unwrap().iter().map(|result| text(result, "outcome")).collect();
    assert_eq!(outcomes, ["created", "invalid", "invalid", "known", "created"]);
    assert_eq!(report["status"], "partial_success");
    let summary = json!({ "received": 5, "successful": 3, "failed": 2, "retriable": 0, "non_retriable": 2 });
    assert_eq!(report["summary"], summary);
    let mut told = paths(&report["results"][1]);
    told.sort_unstable();
    assert_eq!(told, ["inputs[0].namespace", "job.name"]);
    assert_eq!(report["failed_events"][0]["index"], 1);
    assert_eq!(post_batch(node, &[]).await["status"], "success");
    let run = expect(node.get(&format!("/v1/openlineage/runs/{run}")).send().await.unwrap(), &[200]).await;
    assert_eq!((&run["events"], &run["state"]), (&json!(2), &json!("COMPLETE")));
});

on_sqlite!(a_body_may_be_coded_and_is_bounded_either_way, async |node: &mut TestNode| {
    let event = run_event("START", Uuid::now_v7(), "load", &["a"], &["b"]);
    let gzip = |bytes: &[u8]| {
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        coder.write_all(bytes).unwrap();
        coder.finish().unwrap()
    };
    let send = async |path: &str, coding: &str, body: Vec<u8>| {
        let request = node.admin(Method::POST, path).header("content-encoding", coding);
        request.header("content-type", "application/json").body(body).send().await.unwrap()
    };
    let coded = gzip(event.to_string().as_bytes());
    expect(send("/api/v1/lineage", "gzip", coded.clone()).await, &[201]).await;
    expect_problem(send("/api/v1/lineage", "br", coded).await, 415, "unsupported-media-type").await;
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 100_000);
    for path in ["/api/v1/lineage", "/api/v1/lineage/batch"] {
        let problem = expect_problem(send(path, "gzip", bomb.clone()).await, 413, "upload-too-large").await;
        assert!(problem["limit"].as_u64().unwrap() >= 1 << 20);
    }
    let long = run_event("START", Uuid::now_v7(), &"x".repeat(1 << 20), &[], &[]);
    expect_problem(post(node, &long).await, 413, "upload-too-large").await;
    // In a batch a single event is bounded just the same, and the others are kept.
    let report = post_batch(node, &[long, run_event("COMPLETE", Uuid::now_v7(), "load", &[], &[])]).await;
    assert_eq!((&report["summary"]["failed"], &report["summary"]["successful"]), (&json!(1), &json!(1)));
    let many: Vec<Value> = (0..1001).map(|_| json!({})).collect();
    let batch = node.admin(Method::POST, "/api/v1/lineage/batch").json(&many).send().await.unwrap();
    expect_problem(batch, 422, "validation-failed").await;
});

on_sqlite!(events_need_a_key_and_the_graph_needs_none, async |node: &mut TestNode| {
    let event = run_event("START", Uuid::now_v7(), "load", &["a"], &["b"]);
    for path in ["/api/v1/lineage", "/api/v1/lineage/batch"] {
        let anonymous = node.client.post(node.url(path)).json(&event).send().await.unwrap();
        expect_problem(anonymous, 401, "unauthorized").await;
    }
    let producer = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": "etl" })).send().await.unwrap();
    let key = text(&expect(producer, &[201]).await, "key");
    let sent = node.client.post(node.url("/api/v1/lineage")).bearer_auth(key).json(&event).send().await.unwrap();
    expect(sent, &[201]).await;
    assert_eq!(names(&graph(node, "job:etl:load", &[]).await), ["a", "b", "load"]);
    let form = node.admin(Method::POST, "/api/v1/lineage").header("content-type", "text/plain").body("{}");
    expect_problem(form.send().await.unwrap(), 415, "unsupported-media-type").await;
});

on_both!(what_was_kept_is_there_after_a_restart_and_known_again, async |node: &mut TestNode| {
    let events: Vec<Value> =
        (0..50).map(|n| run_event("COMPLETE", Uuid::now_v7(), &format!("job{n}"), &["a"], &["b"])).collect();
    let report = post_batch(node, &events).await;
    assert_eq!(report["summary"]["successful"], 50);
    // What was answered for is durable.
    node.kill().await;
    node.boot().await;
    let again = post_batch(node, &events).await;
    assert!(again["results"].as_array().unwrap().iter().all(|result| result["outcome"] == "known"), "{again}");
    assert_eq!(graph(node, "dataset:db:a", &[("depth", "1")]).await["stats"]["nodes"], 51);
});
