use std::{sync::LazyLock, time::Duration};

use proptest::prelude::*;

use super::*;

const NOW: &str = "2026-11-23T12:00:00Z";

fn reader() -> EventReader {
    EventReader::new(EventBounds {
        datasets: 100,
        facets: 100,
        facet_bytes: 1000,
        namespace: 1024,
        name: 2048,
        window: Duration::from_secs(30 * 86_400),
        ahead: Duration::from_secs(3600),
    })
    .expect("the bundled schema")
}

/// Created once: compiling the schema takes longer than using it.
static READER: LazyLock<EventReader> = LazyLock::new(reader);

fn read(value: &Value) -> Result<LineageEvent, Vec<EventViolation>> {
    READER.read(&value.to_string(), NOW.parse().expect("a time"))
}

fn faults(value: &Value) -> Vec<(String, String)> {
    let faults = read(value).expect_err("faults");
    faults.into_iter().map(|fault| (fault.path, fault.detail)).collect()
}

fn run_event() -> Value {
    json!({
        "eventType": "START",
        "eventTime": "2026-11-23T11:00:00.123Z",
        "run": { "runId": "0195e6a4-3f9c-7d2a-8b1e-6c5d4e3f2a1b", "facets": { "mine": facet() } },
        "job": { "namespace": "etl", "name": "load" },
        "inputs": [{ "namespace": "db", "name": "a", "facets": { "of nobody": facet() } }],
        "outputs": [],
        "producer": "https://example.org/me",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
    })
}

fn facet() -> Value {
    json!({ "_producer": "https://example.org/me", "_schemaURL": "https://example.org/facet", "deep": [{ "er": 1 }] })
}

#[test]
fn the_kind_is_what_the_schema_url_names_or_else_what_it_looks_like() {
    let url = |definition: &str| format!("https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/{definition}");
    let (run, job, dataset) = (json!({ "run": 1, "job": 1 }), json!({ "job": 1 }), json!({ "dataset": 1 }));
    for (mut value, kind) in [(run, EventKind::Run), (job, EventKind::Job), (dataset, EventKind::Dataset)] {
        assert_eq!(kind_of(&value), kind);
        value["schemaURL"] = "https://openlineage.io/spec/1-0-0/OpenLineage.json".into();
        assert_eq!(kind_of(&value), kind);
        for (definition, named) in
            [("RunEvent", EventKind::Run), ("JobEvent", EventKind::Job), ("DatasetEvent", EventKind::Dataset)]
        {
            value["schemaURL"] = url(definition).into();
            assert_eq!(kind_of(&value), named);
        }
        value["schemaURL"] = url("BaseEvent").into();
        assert_eq!(kind_of(&value), kind);
    }
}

#[test]
fn events_of_each_kind_are_read() {
    assert_eq!(read(&run_event()).expect("an event").kind, EventKind::Run);
    let mut job = run_event();
    job.as_object_mut().expect("an object").remove("run");
    job.as_object_mut().expect("an object").remove("eventType");
    job["schemaURL"] = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/JobEvent".into();
    assert_eq!(read(&job).expect("an event").kind, EventKind::Job);
    let dataset = json!({
        "eventTime": NOW, "producer": "https://example.org/me", "dataset": { "namespace": "db", "name": "a" },
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/DatasetEvent",
    });
    assert_eq!(read(&dataset).expect("an event").kind, EventKind::Dataset);
}

#[test]
fn every_violation_is_reported_with_its_path() {
    let mut event = run_event();
    event["eventType"] = "BEGIN".into();
    event["eventTime"] = "yesterday".into();
    event["run"]["runId"] = "1".into();
    event["job"].as_object_mut().expect("an object").remove("name");
    event["inputs"][0]["namespace"] = 5.into();
    event["producer"] = "not a uri".into();
    let reported = faults(&event);
    for (path, detail) in [
        ("eventType", "must be one of [\"START\",\"RUNNING\",\"COMPLETE\",\"ABORT\",\"FAIL\",\"OTHER\"]"),
        ("eventTime", "must be a date-time"),
        ("run.runId", "must be a uuid"),
        ("job.name", "is missing"),
        ("inputs[0].namespace", "must be a text"),
        ("producer", "must be a uri"),
    ] {
        assert!(reported.contains(&(path.into(), detail.into())), "{path}: {reported:#?}");
    }
    assert_eq!(reported.len(), 6, "{reported:#?}");
}

#[test]
fn a_facet_must_name_its_producer_and_may_have_any_other_member() {
    let mut event = run_event();
    event["inputs"][0]["facets"]["of nobody"] = json!({ "anything": 1 });
    let expected = ["_producer", "_schemaURL"].map(|member| format!("inputs[0].facets[\"of nobody\"].{member}"));
    let mut paths: Vec<_> = faults(&event).into_iter().map(|(path, _)| path).collect();
    paths.sort();
    assert_eq!(paths, expected);
}

#[test]
fn an_event_of_one_kind_with_members_of_another_is_refused() {
    let mut event = run_event();
    event["schemaURL"] = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/JobEvent".into();
    assert_eq!(faults(&event), [(String::new(), "has members of an event of another kind".into())]);
    event.as_object_mut().expect("an object").remove("run");
    event["schemaURL"] = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent".into();
    assert_eq!(faults(&event), [("run".into(), "is missing".into())]);
}

#[test]
fn what_is_no_event_at_all_is_reported_in_few_words() {
    for value in [json!(null), json!([]), json!("x"), json!(5), json!({})] {
        assert!(!faults(&value).is_empty(), "{value}");
    }
    let mut event = run_event();
    event["inputs"] = (0..1000).map(|_| json!({})).collect();
    assert_eq!(faults(&event).len(), FAULTS);
    event["inputs"] = json!([{ "namespace": "db", "name": 7, "facets": "x".repeat(1 << 16) }]);
    assert!(faults(&event).iter().all(|(_, detail)| detail.len() < 200), "values are not repeated");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let reported = READER.read(&deep, NOW.parse().expect("a time")).expect_err("too deep");
    assert_eq!(reported[0].detail, "is nested too deep");
}

/// Any JSON, with a few levels.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(json!("2026-11-23T11:00:00Z")),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("(_producer|namespace|name|facets|.{0,4})", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// All positions in a value, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            places(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(number, value)| places(value, &format!("{at}/{number}"), found));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_event_is_read_or_its_faults_are_reported(which in any::<prop::sample::Index>(), put in any_json()) {
        let mut event = run_event();
        let mut all = Vec::new();
        places(&event, "", &mut all);
        let place = &all[which.index(all.len())];
        *event.pointer_mut(place).expect("a place") = put;
        match READER.read(&event.to_string(), NOW.parse().expect("a time")) {
            // An event that was read can be read again from its own text, with the same result.
            Ok(read) => {
                let again = READER.read(&read.body, NOW.parse().expect("a time")).expect("read before");
                prop_assert_eq!(again.hash, read.hash);
            }
            Err(faults) => {
                prop_assert!(!faults.is_empty() && faults.len() <= FAULTS);
                prop_assert!(faults.iter().all(|fault| !fault.detail.is_empty()));
            }
        }
    }
}
