//! `CACHE_TTLS_JSON`: times to live in seconds, by cache, in one variable: `{"assets": 300, "quota": 45}`.

use serde_json::{Map, Value};

use super::{effective::Effective, problem::ConfigProblem, value_source::ValueSource};

const VARIABLE: &str = "CACHE_TTLS_JSON";

/// Names in the variable, and the keys they set.
const TTLS: [(&str, &str); 9] = [
    ("assets", "cache.assets_ttl"),
    ("listings", "cache.listings_ttl"),
    ("lineage", "cache.lineage_ttl"),
    ("sessions", "sessions.ttl"),
    ("policies", "cache.policies_ttl"),
    ("prices", "cache.prices_ttl"),
    ("receipts", "cache.receipts_ttl"),
    ("identities", "cache.identities_ttl"),
    ("quota", "quota.entry_ttl"),
];

/// Applies the variable over the present values.
pub(super) fn lay(env: &[(String, String)], effective: &mut Effective, problems: &mut Vec<ConfigProblem>) {
    let Some((_, text)) = env.iter().find(|(name, value)| name == VARIABLE && !value.is_empty()) else { return };
    let origin = ValueSource::Variable(VARIABLE.to_owned());
    let mut refuse = |why: String| problems.push(ConfigProblem::Variable { name: VARIABLE.to_owned(), why });
    let Ok(ttls) = serde_json::from_str::<Map<String, Value>>(text) else {
        return refuse(r#"must be an object of seconds by cache, such as {"assets": 300}"#.to_owned());
    };
    let mut known = Vec::new();
    for (name, seconds) in &ttls {
        let Some((_, key)) = TTLS.iter().find(|(known, _)| known == name) else {
            let names: Vec<_> = TTLS.iter().map(|(name, _)| *name).collect();
            refuse(format!("{name} must be one of {}", names.join(", ")));
            continue;
        };
        match seconds.as_u64() {
            Some(seconds) => known.push((*key, format!("{seconds}s"))),
            None => refuse(format!("{name} must be whole seconds, not negative")),
        }
    }
    for (key, text) in known {
        effective.lay_text(key, &text, &origin, problems);
    }
}
