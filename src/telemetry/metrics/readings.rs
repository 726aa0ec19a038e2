//! Numbers that are read at each scrape, in the exporter's form.

use prometheus::proto::{self, MetricType};

/// A number with its labels. Numbers are exact up to 2^53, as in the format.
pub(super) fn metric<'l>(
    kind: MetricType,
    labels: impl IntoIterator<Item = (&'l str, &'l str)>,
    value: f64,
) -> proto::Metric {
    let mut metric = proto::Metric::default();
    let label = |(name, value): (&str, &str)| {
        let mut label = proto::LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        label
    };
    metric.set_label(labels.into_iter().map(label).collect());
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

/// The numbers of one name.
pub(super) fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<proto::Metric>) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
