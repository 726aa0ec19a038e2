//! The figures of the dashboard: the families below, summed to the labels that it shows.

use std::collections::BTreeMap;

use prometheus::proto::{Metric, MetricFamily, MetricType};
use serde::Serialize;

use super::Metrics;

/// A family, and the labels by which the dashboard tells its series apart. Series that differ in other labels are added up.
const SHOWN: [(&str, &[&str]); 38] = [
    ("penstock_actors_alive", &[]),
    ("penstock_admission_capacity", &["queue"]),
    ("penstock_admission_in_use", &["queue"]),
    ("penstock_clock_in_doubt", &[]),
    ("penstock_content_cache_hits_total", &[]),
    ("penstock_content_cache_misses_total", &[]),
    ("penstock_content_read_bytes_total", &[]),
    ("penstock_data_folder_free_bytes", &[]),
    ("penstock_data_folder_size_bytes", &[]),
    ("penstock_db_pool_connections", &["server", "state"]),
    ("penstock_db_pool_refusals_total", &[]),
    ("penstock_http_requests_total", &["status"]),
    ("penstock_http_response_bytes_total", &[]),
    ("penstock_instances", &[]),
    ("penstock_janitor_left_alone", &[]),
    ("penstock_quota_hits_total", &[]),
    ("penstock_quota_leases_unknown_bytes", &[]),
    ("penstock_quota_misses_total", &[]),
    ("penstock_redis_breakers_open", &[]),
    ("penstock_storage_quarantined", &[]),
    ("penstock_store_standing", &["standing", "tier"]),
    ("penstock_streams_active", &[]),
    ("penstock_streams_cut_total", &[]),
    ("penstock_streams_granted_total", &[]),
    ("penstock_streams_refused_total", &[]),
    ("penstock_streams_revoked_total", &[]),
    ("penstock_uploads_active", &[]),
    ("penstock_usage_batches_total", &[]),
    ("penstock_usage_dropped_total", &[]),
    ("penstock_usage_recorded_total", &[]),
    ("penstock_usage_retries_total", &[]),
    ("penstock_usage_set_aside_total", &[]),
    ("penstock_usage_settled_total", &[]),
    ("process_cpu_seconds_total", &[]),
    ("process_max_fds", &[]),
    ("process_open_fds", &[]),
    ("process_resident_memory_bytes", &[]),
    ("process_start_time_seconds", &[]),
];

/// A histogram, and its name on the dashboard.
const TIMED: [(&str, &str); 3] = [
    ("penstock_http_response_seconds", "http"),
    ("penstock_db_query_seconds", "db"),
    ("penstock_db_pool_wait_seconds", "pool"),
];

/// The class of requests that are left out: health, scrapes, and the dashboard itself.
const LEFT_OUT: &str = "operations";

/// The buckets of a histogram, its series added up.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Times {
    /// Upper bounds in seconds; the last bucket, without a bound, is not among them.
    pub bounds: Vec<f64>,
    /// What was measured up to each bound, and at all.
    pub counts: Vec<u64>,
}

/// What the dashboard shows, at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Snapshot {
    /// By the name of the metric and the values of its labels, as `penstock_admission_in_use|streams`.
    pub values: BTreeMap<String, f64>,
    pub times: BTreeMap<&'static str, Times>,
}

impl Metrics {
    /// The figures of the dashboard, now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.families())
    }
}

impl Snapshot {
    fn of(families: &[MetricFamily]) -> Self {
        let mut snapshot = Self::default();
        for family in families {
            if let Some((name, labels)) = SHOWN.iter().find(|(name, _)| *name == family.name()) {
                for metric in family.get_metric() {
                    let labels = labels.iter().filter_map(|label| label_value(metric, label));
                    let key = labels.fold((*name).to_owned(), |key, value| key + "|" + value);
                    *snapshot.values.entry(key).or_default() += value(metric, family.get_field_type());
                }
            }
            if let Some((_, name)) = TIMED.iter().find(|(name, _)| *name == family.name()) {
                let times = snapshot.times.entry(name).or_default();
                let shown = family.get_metric().iter().filter(|metric| label_value(metric, "class") != Some(LEFT_OUT));
                shown.for_each(|metric| times.add(metric));
            }
        }
        snapshot
    }
}

impl Times {
    fn add(&mut self, metric: &Metric) {
        let histogram = metric.get_histogram();
        let bounded = || histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
        if self.bounds.is_empty() {
            self.bounds = bounded().map(|bucket| bucket.upper_bound()).collect();
            self.counts = vec![0; self.bounds.len() + 1];
        }
        let counts = bounded().map(|bucket| bucket.cumulative_count()).chain([histogram.get_sample_count()]);
        self.counts.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
}

fn label_value<'a>(metric: &'a Metric, label: &str) -> Option<&'a str> {
    metric.get_label().iter().find(|pair| pair.name() == label).map(|pair| pair.value())
}

fn value(metric: &Metric, kind: MetricType) -> f64 {
    match kind {
        MetricType::COUNTER => metric.get_counter().get_value(),
        MetricType::GAUGE => metric.get_gauge().get_value(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{route_class::RouteClass, telemetry::metrics::EndedRequest};

    #[test]
    fn series_are_added_up_to_the_labels_that_are_shown() {
        let metrics = Metrics::new().expect("names are unique");
        let ended = |status, route| EndedRequest {
            route,
            method: "GET",
            status,
            outcome: "ok",
            class: RouteClass::Catalogue,
            bytes: 10,
        };
        for (status, route) in [("2xx", "/a"), ("2xx", "/b"), ("5xx", "/a")] {
            metrics.http.request_ended(&ended(status, route));
        }
        metrics.http.answer_began(RouteClass::Catalogue, Duration::from_millis(3));
        metrics.http.answer_began(RouteClass::Streaming, Duration::from_secs(60));
        metrics.http.answer_began(RouteClass::Operations, Duration::from_secs(60));
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.values["penstock_http_requests_total|2xx"], 2.0);
        assert_eq!(snapshot.values["penstock_http_requests_total|5xx"], 1.0);
        let times = &snapshot.times["http"];
        assert_eq!(times.counts.len(), times.bounds.len() + 1);
        assert_eq!(times.counts.last(), Some(&2), "health and scrapes are left out");
        let within = times.bounds.iter().position(|&bound| bound == 0.005).expect("a bound");
        assert_eq!(times.counts[within], 1);
    }
}
