//! The node's own figures, looked at once a second while a run lasts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::task::JoinHandle;

use crate::{api::Api, metrics};

const EVERY: Duration = Duration::from_secs(1);

/// A day: a run is no longer than that.
const MOST: usize = 24 * 3600;

/// One look. A figure that the node does not show is left out.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sample {
    /// Seconds after the beginning of the run.
    pub(crate) at: f64,
    pub(crate) resident_mib: Option<f64>,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) open_files: Option<f64>,
    pub(crate) threads: Option<f64>,
    pub(crate) streams: Option<f64>,
    pub(crate) connections: Option<f64>,
    /// What is taken of each bounded queue and pool, in percent.
    pub(crate) in_use_percent: BTreeMap<String, f64>,
    /// Connections to the database, by state.
    pub(crate) pool: BTreeMap<String, f64>,
}

/// Looks until it is stopped.
pub(crate) struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: JoinHandle<()>,
}

impl Sampler {
    pub(crate) fn start(api: Arc<Api>, began: Instant) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let to = samples.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            for _ in 0..MOST {
                ticks.tick().await;
                // Under load the answer takes a while: the figures are of the moment when they arrive.
                if let Some(text) = api.metrics().await {
                    let sample = parse(&text, began.elapsed().as_secs_f64());
                    to.lock().expect("no task panics with it").push(sample);
                }
            }
        });
        Self { samples, task }
    }

    pub(crate) fn stop(self) -> Vec<Sample> {
        self.task.abort();
        std::mem::take(&mut *self.samples.lock().expect("no task panics with it"))
    }
}

fn parse(text: &str, at: f64) -> Sample {
    let taken = metrics::by_label(text, "penstock_admission_in_use");
    let capacity = metrics::by_label(text, "penstock_admission_capacity");
    let percent = |(queue, taken): (String, f64)| {
        let capacity = *capacity.get(&queue)?;
        (capacity > 0.0).then_some((queue, taken / capacity * 100.0))
    };
    Sample {
        at,
        resident_mib: metrics::sum(text, "process_resident_memory_bytes").map(|bytes| bytes / f64::from(1 << 20)),
        cpu_seconds: metrics::sum(text, "process_cpu_seconds_total"),
        open_files: metrics::sum(text, "process_open_fds"),
        threads: metrics::sum(text, "process_threads"),
        streams: metrics::sum(text, metrics::ACTIVE_STREAMS),
        connections: metrics::sum(text, "penstock_http_connections"),
        in_use_percent: taken.into_iter().filter_map(percent).collect(),
        pool: metrics::by_label(text, "penstock_db_pool_connections"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_the_node_are_read_and_those_that_it_does_not_show_are_left_out() {
        let sample = parse(
            "process_resident_memory_bytes 2097152\npenstock_admission_capacity{queue=\"uploads\"} 32\n\
             penstock_admission_in_use{queue=\"uploads\"} 8\npenstock_admission_in_use{queue=\"new\"} 1\n",
            1.5,
        );
        assert_eq!((sample.at, sample.resident_mib, sample.threads), (1.5, Some(2.0), None));
        assert_eq!(sample.in_use_percent, BTreeMap::from([("uploads".to_owned(), 25.0)]));
    }
}
