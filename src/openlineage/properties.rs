//! What holds for every text that is sent as an event.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use super::*;

/// Bytes of a path or a detail that is reported, with the ellipsis of one that was cut.
const TOLD_BYTES: usize = 512 + '…'.len_utf8();

/// Small bounds, which inputs reach.
const BOUNDS: EventBounds = EventBounds {
    datasets: 4,
    facets: 6,
    facet_bytes: 100,
    namespace: 32,
    name: 48,
    window: Duration::from_secs(30 * 86_400),
    ahead: Duration::from_secs(3600),
};

/// `None` when the bundled schema cannot be used, which other tests find.
static READER: LazyLock<Option<EventReader>> = LazyLock::new(|| EventReader::new(BOUNDS).ok());

/// The time at which every event arrives: 2026-11-23, 12:00.
const NOW: i64 = 1_795_435_200;

/// # Panics
/// When an event breaks a bound, or has another identity when it is written in another way.
pub(crate) fn check(text: &str) {
    let Some(reader) = READER.as_ref() else { return };
    let now = Timestamp::from_second(NOW).unwrap_or(Timestamp::UNIX_EPOCH);
    let event = match reader.read(text, now) {
        Ok(event) => event,
        Err(faults) => {
            assert!((1..=FAULTS).contains(&faults.len()));
            assert!(faults.iter().all(|fault| fault.path.len() <= TOLD_BYTES && fault.detail.len() <= TOLD_BYTES));
            return;
        }
    };
    check_event(&event);
    let Ok(value) = serde_json::from_str::<Value>(text) else { panic!("an event is JSON") };
    assert_eq!(event::hash_of(&value), event.hash);
    for rewritten in [value.to_string(), format!("{value:#}"), turned(&value).to_string()] {
        let again = reader.read(&rewritten, now).map(|again| LineageEvent { body: event.body.clone(), ..again });
        assert_eq!(again.as_ref(), Ok(&event), "{rewritten}");
    }
}

fn check_event(event: &LineageEvent) {
    assert!((1..=1 + 2 * BOUNDS.datasets).contains(&event.mentions.len()));
    for mention in &event.mentions {
        let (namespace, name) = (&mention.name.namespace, &mention.name.name);
        assert!((1..=BOUNDS.namespace).contains(&namespace.len()) && (1..=BOUNDS.name).contains(&name.len()));
        assert!(!namespace.contains('\0') && !name.contains('\0'), "databases cannot store NUL");
        assert_eq!(mention.key, mention.name.key());
        assert_eq!(event.mentions.iter().filter(|other| other.key == mention.key).count(), 1);
        // The parts of a word are separated when it is indexed.
        assert!(!mention.name.words().contains(char::is_control));
    }
    assert!(event.edges.iter().all(|&(from, to)| from < event.mentions.len() && to < event.mentions.len()));
    assert!(event.edges.is_sorted_by(|one, other| one < other), "each edge once");
    assert_eq!(event.run.is_some(), event.kind == EventKind::Run);
}

/// The same value, its members in the opposite order.
fn turned(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(turned).collect(),
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            Value::Object(sorted.into_iter().rev().map(|(name, member)| (name.clone(), turned(member))).collect())
        }
        plain => plain.clone(),
    }
}
