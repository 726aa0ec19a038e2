//! The figures of the nodes, looked at once a second while a run lasts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde::Serialize;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, timeout},
};

use crate::{api::Api, metrics};

const EVERY: Duration = Duration::from_secs(1);

/// An instance that stands still does not keep the figures of the others back for longer.
const PATIENCE: Duration = Duration::from_secs(2);

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
    pub(crate) fn start(instances: Vec<Arc<Api>>, began: Instant) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let to = samples.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for _ in 0..MOST {
                ticks.tick().await;
                let told = join_all(instances.iter().map(|api| timeout(PATIENCE, api.metrics()))).await;
                // Under load the answers take a while: the figures are of the moment when they arrive. An instance that is down has none.
                let at = began.elapsed().as_secs_f64();
                let each = told.into_iter().filter_map(|told| told.ok().flatten()).map(|text| parse(&text, at));
                if let Some(sample) = each.reduce(Sample::and) {
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

impl Sample {
    /// The figures of two instances: their sum, and the fuller of two queues.
    fn and(mut self, other: Self) -> Self {
        let add =
            |one: Option<f64>, other: Option<f64>| one.zip(other).map(|(one, other)| one + other).or(one).or(other);
        self.resident_mib = add(self.resident_mib, other.resident_mib);
        self.cpu_seconds = add(self.cpu_seconds, other.cpu_seconds);
        self.open_files = add(self.open_files, other.open_files);
        self.threads = add(self.threads, other.threads);
        self.streams = add(self.streams, other.streams);
        self.connections = add(self.connections, other.connections);
        for (queue, percent) in other.in_use_percent {
            let fuller = self.in_use_percent.entry(queue).or_default();
            *fuller = fuller.max(percent);
        }
        for (state, count) in other.pool {
            *self.pool.entry(state).or_default() += count;
        }
        self
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

    #[test]
    fn the_figures_of_instances_are_added_up() {
        let one = parse("process_resident_memory_bytes 2097152\nprocess_threads 3\n", 1.0);
        let mut other = parse("process_resident_memory_bytes 1048576\n", 1.0);
        other.in_use_percent.insert("uploads".to_owned(), 50.0);
        let both = one.and(other);
        assert_eq!((both.resident_mib, both.threads, both.streams), (Some(3.0), Some(3.0), None));
        assert_eq!(both.in_use_percent["uploads"], 50.0);
    }
}
