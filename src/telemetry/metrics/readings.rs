//! Numbers that are read at each scrape, in the exporter's form.

use std::{collections::HashMap, time::Duration};

use penstock_actors::flow::timings::{STEPS, TimingsSnapshot};
use prometheus::{
    IntCounter,
    core::Desc,
    proto::{self, MetricType},
};

/// What a collector says in advance of a name: its help and its labels.
pub(super) fn desc((name, help): (&str, &str), labels: &[&str]) -> Result<Desc, prometheus::Error> {
    let labels = labels.iter().map(ToString::to_string).collect();
    Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())
}

/// Brings a counter up to a count that is kept elsewhere. A scrape may be overtaken by another one.
pub(super) fn catch_up(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

/// A number with its labels. Numbers are exact up to 2^53, as in the format.
pub(super) fn metric<'l>(
    kind: MetricType,
    labels: impl IntoIterator<Item = (&'l str, &'l str)>,
    value: f64,
) -> proto::Metric {
    let mut metric = labelled(labels);
    if kind == MetricType::COUNTER {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

/// Times with their labels.
pub(super) fn histogram<'l>(
    labels: impl IntoIterator<Item = (&'l str, &'l str)>,
    timings: &TimingsSnapshot,
) -> proto::Metric {
    let bucket = |(end, within): (&Duration, &u64)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(end.as_secs_f64());
        bucket.set_cumulative_count(*within);
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(STEPS.iter().zip(&timings.within).map(bucket).collect());
    histogram.set_sample_count(timings.count);
    histogram.set_sample_sum(timings.sum.as_secs_f64());
    let mut metric = labelled(labels);
    metric.set_histogram(histogram);
    metric
}

fn labelled<'l>(labels: impl IntoIterator<Item = (&'l str, &'l str)>) -> proto::Metric {
    let label = |(name, value): (&str, &str)| {
        let mut label = proto::LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        label
    };
    let mut metric = proto::Metric::default();
    metric.set_label(labels.into_iter().map(label).collect());
    metric
}

/// The numbers of one name.
pub(super) fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<proto::Metric>) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
