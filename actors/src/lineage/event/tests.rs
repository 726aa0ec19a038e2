use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: &str = "2026-11-23T12:00:00Z";

fn bounds() -> EventBounds {
    EventBounds {
        datasets: 3,
        facets: 5,
        facet_bytes: 1000,
        namespace: 20,
        name: 30,
        window: Duration::from_secs(30 * 86_400),
        ahead: Duration::from_secs(3600),
    }
}

fn run_event() -> Value {
    json!({
        "eventType": "RUNNING",
        "eventTime": "2026-11-23T11:00:00.123456789+01:00",
        "run": { "runId": "0195E6A4-3F9C-7D2A-8B1E-6C5D4E3F2A1B" },
        "job": { "namespace": "etl", "name": "load", "facets": { "sql": facet("select 1") } },
        "inputs": [{ "namespace": "db", "name": "a" }, { "namespace": "db", "name": "a", "facets": { "schema": facet(1) } }],
        "outputs": [{ "namespace": "db", "name": "b" }, { "namespace": "db", "name": "a" }],
        "producer": "urn:me:test",
        "schemaURL": "urn:me:schema",
    })
}

fn facet(is: impl Into<Value>) -> Value {
    json!({ "_producer": "urn:me:test", "_schemaURL": "urn:me:schema", "is": is.into() })
}

fn read_it(kind: EventKind, value: &Value) -> Result<LineageEvent, Vec<EventViolation>> {
    read(kind, value, value.to_string(), &bounds(), NOW.parse().expect("a time"))
}

fn paths(value: &Value) -> Vec<String> {
    let faults = read_it(EventKind::Run, value).expect_err("faults");
    faults.into_iter().map(|fault| fault.path).collect()
}

#[test]
fn an_event_becomes_what_it_says_each_thing_once() {
    let event = read_it(EventKind::Run, &run_event()).expect("an event");
    assert_eq!(event.state, Some(RunState::Running));
    assert_eq!(event.time.to_string(), "2026-11-23T10:00:00.123456Z");
    assert_eq!(event.run.map(|run| run.to_string()).as_deref(), Some("0195e6a4-3f9c-7d2a-8b1e-6c5d4e3f2a1b"));
    let names: Vec<String> = event.mentions.iter().map(|mention| mention.name.to_string()).collect();
    assert_eq!(names, ["job:etl:load", "dataset:db:a", "dataset:db:b"]);
    assert_eq!(event.edges, [(0, 1), (0, 2), (1, 0)], "a cycle is kept as it is");
    assert_eq!(event.mentions[1].facets.shown().into_keys().collect::<Vec<_>>(), ["schema"]);
}

#[test]
fn a_job_event_has_edges_and_no_run_and_a_dataset_event_neither() {
    let mut event = run_event();
    event.as_object_mut().expect("an object").remove("run");
    let read = read_it(EventKind::Job, &event).expect("an event");
    assert_eq!((read.run, read.state, read.edges.len()), (None, None, 3));
    let dataset = json!({
        "eventTime": NOW, "producer": "urn:me:test", "schemaURL": "urn:me:schema",
        "dataset": { "namespace": "db", "name": "a" },
    });
    let read = read_it(EventKind::Dataset, &dataset).expect("an event");
    assert_eq!((read.subject().name.to_string().as_str(), read.edges.len()), ("dataset:db:a", 0));
}

#[test]
fn all_bounds_that_are_broken_are_reported_with_their_places() {
    let mut event = run_event();
    event["eventTime"] = "2026-10-23T23:59:59Z".into();
    event["job"]["name"] = "n".repeat(31).into();
    event["inputs"][1]["namespace"] = "".into();
    event["outputs"][0]["name"] = "a\nb".into();
    assert_eq!(paths(&event), ["eventTime", "job.name", "inputs[1].namespace", "outputs[0].name"]);
    let mut event = run_event();
    event["eventTime"] = "2026-11-23T13:00:01Z".into();
    event["inputs"] = json!([1, 2, 3, 4]);
    event["run"]["facets"] = json!({ "a": 1, "b": 2, "c": 3, "d": 4, "e.f": ["x", { "y": "\u{0}" }] });
    assert_eq!(paths(&event), ["eventTime", "inputs", "", "run.facets[\"e.f\"][1].y"]);
}

#[test]
fn of_many_faults_the_first_few_are_reported_and_of_a_long_path_its_beginning() {
    let nameless = json!({ "namespace": "", "name": "" });
    let mut event = run_event();
    event["inputs"] = vec![nameless; 500].into();
    let wide = EventBounds { datasets: 1000, ..bounds() };
    let faults = read(EventKind::Run, &event, String::new(), &wide, NOW.parse().expect("a time")).expect_err("faults");
    assert_eq!(faults.len(), FAULTS);
    assert_eq!((faults[0].path.as_str(), faults[1].path.as_str()), ("inputs[0].namespace", "inputs[0].name"));
    let mut event = run_event();
    event["run"]["facets"] = json!({ "é".repeat(100_000): "\u{0}" });
    let told = paths(&event);
    assert!(told[0].starts_with("run.facets[\"éé") && told[0].len() < 600, "{}", told[0].len());
}

#[test]
fn the_window_begins_with_a_day() {
    let mut event = run_event();
    for (time, taken) in [
        ("2026-10-24T00:00:00Z", true),
        ("2026-10-23T23:59:59.999999Z", false),
        ("0001-01-01T00:00:00Z", false),
        ("9999-12-30T00:00:00Z", false),
        ("2026-11-23T13:00:00Z", true),
    ] {
        event["eventTime"] = time.into();
        assert_eq!(read_it(EventKind::Run, &event).is_ok(), taken, "{time}");
    }
}

#[test]
fn a_time_beyond_all_that_can_be_held_lies_ahead() {
    let mut event = run_event();
    for time in ["9999-12-31T23:59:59Z", "9999-12-30T12:00:00Z", "2026-11-23T13:00:01Z"] {
        event["eventTime"] = time.into();
        let faults = read_it(EventKind::Run, &event).expect_err("faults");
        assert!(
            faults[0].path == "eventTime" && faults[0].detail.ends_with("it lies in the future"),
            "{time}: {faults:?}"
        );
    }
    event["eventTime"] = "2026-11-23T12:00:00".into();
    assert!(read_it(EventKind::Run, &event).expect_err("faults")[0].detail.contains("with its offset"));
}

#[test]
fn a_day_begins_at_midnight_in_utc() {
    let time: Timestamp = "2026-02-28T23:59:59.999999Z".parse().expect("a time");
    assert_eq!(start_of(day_of(time)).to_string(), "2026-02-28T00:00:00Z");
}

#[test]
fn numbers_are_distinguished_by_their_text() {
    let of = |number: &str| hash_of(&serde_json::from_str(&format!("{{\"rows\":{number}}}")).expect("JSON"));
    for (one, other) in [
        ("12345678901234567890123", "12345678901234567890124"),
        ("123456789012345678901", "123456789012345678902"),
        ("0.1234567890123456789", "0.1234567890123456788"),
        ("1e400", "1e401"),
        ("1", "1.0"),
        ("0", "-0"),
    ] {
        assert_ne!(of(one), of(other), "{one} and {other}");
        assert_eq!(of(one), of(one));
    }
    assert_eq!(of("1E5"), of("1e+5"), "the letter and the plus of an exponent change nothing");
}

proptest! {
    #[test]
    fn neither_white_space_nor_the_order_of_members_makes_another_event(a in any::<i64>(), b in "\\PC{0,20}", c in any::<f64>()) {
        let c = if c.is_finite() { c } else { 0.0 };
        let name = Value::from(b.as_str());
        let one = format!("{{\"a\":{a},\"b\":{{\"x\":{name},\"y\":[{c:?},null]}}}}");
        let other = format!("{{ \"b\" : {{\"y\": [ {c:?} , null ], \"x\" : {name} }},\n\t\"a\": {a} }}");
        let (one, other): (Value, Value) = (serde_json::from_str(&one).expect("JSON"), serde_json::from_str(&other).expect("JSON"));
        prop_assert_eq!(hash_of(&one), hash_of(&other));
        prop_assert_ne!(hash_of(&one), hash_of(&json!({ "a": a, "b": { "x": name, "y": [c, false] } })));
    }
}
