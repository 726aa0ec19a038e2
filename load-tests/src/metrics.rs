//! What the node says of itself in the Prometheus text format. Nothing depends on it: a metric that is not there is not shown.

use std::collections::BTreeMap;

/// How many streams the node counts as running.
pub(crate) const ACTIVE_STREAMS: &str = "penstock_streams_active";

/// The sum of a metric over its labels.
pub(crate) fn sum(text: &str, name: &str) -> Option<f64> {
    let mut values = samples(text).filter(|(found, _)| base_name(found) == name).map(|(_, value)| value).peekable();
    values.peek()?;
    Some(values.sum())
}

/// A metric by the value of its only label.
pub(crate) fn by_label(text: &str, name: &str) -> BTreeMap<String, f64> {
    let label = |found: &str| found.split('"').nth(1).map(str::to_owned);
    let found = samples(text).filter(|(found, _)| base_name(found) == name);
    found.filter_map(|(found, value)| Some((label(found)?, value))).collect()
}

/// The counters of caches, with their labels.
pub(crate) fn cache_counters(text: &str) -> BTreeMap<String, f64> {
    let of_caches = |name: &str| name.contains("_cache_") && name.ends_with("_total");
    samples(text).filter(|(name, _)| of_caches(base_name(name))).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn samples(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name, value.parse().ok()?))
    })
}

fn base_name(sample: &str) -> &str {
    sample.split('{').next().unwrap_or(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP penstock_streams_active Streams.\n# TYPE penstock_streams_active gauge\n\
        penstock_streams_active{mode=\"a\"} 3\npenstock_streams_active{mode=\"b c\"} 4\n\
        penstock_blob_cache_hits_total 12\npenstock_blob_cache_bytes 99\n";

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        assert_eq!(sum(TEXT, ACTIVE_STREAMS), Some(7.0));
        assert_eq!(sum(TEXT, "penstock_other"), None);
    }

    #[test]
    fn a_metric_is_read_by_its_label() {
        let found = by_label(TEXT, ACTIVE_STREAMS);
        assert_eq!(found, BTreeMap::from([("a".to_owned(), 3.0), ("b c".to_owned(), 4.0)]));
    }

    #[test]
    fn only_the_counters_of_caches_are_shown() {
        assert_eq!(cache_counters(TEXT), BTreeMap::from([("penstock_blob_cache_hits_total".to_owned(), 12.0)]));
    }
}
