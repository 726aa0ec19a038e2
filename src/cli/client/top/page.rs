//! A page of metrics in the Prometheus text format, as far as this command needs it.

use std::collections::HashMap;

/// The samples by the names of their metrics.
#[derive(Debug, Clone, Default)]
pub(super) struct MetricsPage {
    samples: HashMap<String, Vec<Sample>>,
}

#[derive(Debug, Clone)]
struct Sample {
    /// As they stand on the page: `class="streaming",le="0.1"`.
    labels: String,
    value: f64,
}

impl MetricsPage {
    /// Reads a page. Lines that are no samples are left out.
    pub(super) fn read(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').to_owned();
            page.samples.entry(name.to_owned()).or_default().push(Sample { labels, value });
        }
        page
    }

    pub(super) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The sum of a metric over the series whose labels contain this text.
    pub(super) fn sum(&self, name: &str, labels: &str) -> f64 {
        let samples = self.samples.get(name).into_iter().flatten();
        samples.filter(|sample| sample.labels.contains(labels)).map(|sample| sample.value).sum()
    }

    /// The buckets of a histogram over all series, by their upper bounds, in order.
    pub(super) fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.samples.get(&format!("{name}_bucket")).into_iter().flatten() {
            let Some((_, bound)) = sample.labels.rsplit_once("le=\"") else { continue };
            let bound = match bound.split('"').next() {
                Some("+Inf") => f64::INFINITY,
                Some(bound) => bound.parse().unwrap_or(f64::INFINITY),
                None => continue,
            };
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((bound, sample.value)),
            }
        }
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_their_labels_and_buckets_over_all_series() {
        let page = MetricsPage::read(
            "# HELP a Something.\n# TYPE a counter\na{x=\"1\",y=\"a b\"} 2\na{x=\"2\"} 3.5\nb 1e3\nnonsense\n\
             h_bucket{class=\"a\",le=\"0.1\"} 1\nh_bucket{class=\"a\",le=\"+Inf\"} 2\nh_bucket{class=\"b\",le=\"0.1\"} 4\n",
        );
        assert_eq!(
            (page.sum("a", ""), page.sum("a", "x=\"1\""), page.sum("b", ""), page.sum("c", "")),
            (5.5, 2.0, 1000.0, 0.0)
        );
        assert_eq!(page.buckets("h"), [(0.1, 5.0), (f64::INFINITY, 2.0)]);
    }
}
