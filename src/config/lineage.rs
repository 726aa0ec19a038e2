//! `[lineage]`: OpenLineage events, the window in which they are kept, and the node's own events.

use std::time::Duration;

use penstock_actors::lineage::{event::EventBounds, node_events::NodeEventNames};
use serde::Deserialize;

use super::{problem::Rules, value};

/// The longest namespace and the longest name, in bytes: longer than any path or table name of a real system.
const NAMESPACE_BYTES: usize = 1024;
const NAME_BYTES: usize = 2048;

/// The largest allowed limit on a facet: a job or a dataset keeps up to 64 of them in one row.
const MOST_FACET: u64 = 1 << 20;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// Whether the node emits events about its uploads, assets, receipts and streams.
    pub emit: bool,
    /// The namespace of the node's own jobs and datasets.
    pub namespace: String,
    /// A URI that identifies the producer of the events.
    pub producer: String,
    /// How often the node looks for events to emit.
    #[serde(deserialize_with = "value::duration")]
    pub emit_interval: Duration,
    /// Events written together.
    #[serde(deserialize_with = "value::count")]
    pub batch_events: usize,
    /// The most bytes of events under way.
    #[serde(deserialize_with = "value::size")]
    pub queue: u64,
    /// Bytes of one event.
    #[serde(deserialize_with = "value::size")]
    pub max_event: u64,
    /// Bytes of a batch request.
    #[serde(deserialize_with = "value::size")]
    pub max_batch: u64,
    /// Events of a batch request.
    #[serde(deserialize_with = "value::count")]
    pub max_batch_events: usize,
    /// Inputs, or outputs, of one event.
    #[serde(deserialize_with = "value::count")]
    pub max_datasets: usize,
    /// Facets of one event.
    #[serde(deserialize_with = "value::count")]
    pub max_facets: usize,
    /// Bytes of a facet that is stored with its job or dataset.
    #[serde(deserialize_with = "value::size")]
    pub max_facet: u64,
    /// How far ahead a producer's clock may be.
    #[serde(deserialize_with = "value::duration")]
    pub ahead: Duration,
    /// How long events are kept.
    #[serde(deserialize_with = "value::duration")]
    pub window: Duration,
    /// The most events of a namespace.
    #[serde(deserialize_with = "value::count")]
    pub window_events: u64,
    /// How long edges, jobs and datasets are kept after they were last seen.
    #[serde(deserialize_with = "value::duration")]
    pub graph: Duration,
    /// How often events that have left the window are removed.
    #[serde(deserialize_with = "value::duration")]
    pub prune_interval: Duration,
    /// The most rows of one step.
    #[serde(deserialize_with = "value::count")]
    pub prune_step: u32,
    /// The pause between two steps.
    #[serde(deserialize_with = "value::duration")]
    pub prune_pause: Duration,
    /// How long after the death of the pruning instance another one takes over.
    #[serde(deserialize_with = "value::duration")]
    pub prune_lease: Duration,
    /// The most nodes in an answer.
    #[serde(deserialize_with = "value::count")]
    pub graph_nodes: u32,
    /// The time budget of a walk through the graph.
    #[serde(deserialize_with = "value::duration")]
    pub graph_time: Duration,
}

impl Lineage {
    /// The limits on stored parts of events.
    pub fn bounds(&self) -> EventBounds {
        EventBounds {
            datasets: self.max_datasets,
            facets: self.max_facets,
            facet_bytes: usize::try_from(self.max_facet).unwrap_or(usize::MAX),
            namespace: NAMESPACE_BYTES,
            name: NAME_BYTES,
            window: self.window,
            ahead: self.ahead,
        }
    }

    pub fn own_names(&self) -> NodeEventNames {
        NodeEventNames { namespace: self.namespace.clone(), producer: self.producer.clone() }
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        let plain = |text: &str, most: usize| {
            !text.is_empty() && text.len() <= most && !text.chars().any(|letter| letter.is_control())
        };
        rules.require(
            plain(&self.namespace, NAMESPACE_BYTES),
            &["lineage.namespace"],
            format_args!("have 1 to {NAMESPACE_BYTES} bytes and no control characters"),
        );
        let is_uri = self.producer.split_once(':').is_some_and(|(scheme, rest)| {
            scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
                && !rest.is_empty()
                && rest.bytes().all(|b| b.is_ascii_graphic())
        });
        rules.require(is_uri, &["lineage.producer"], "be a URI, such as https://example.org/node");
        rules.some_time(self.emit_interval, &["lineage.emit_interval"]);
        rules.at_least_one(self.batch_events, &["lineage.batch_events"]);
        rules.at_least_one(self.max_event, &["lineage.max_event"]);
        rules.require(self.max_facet <= MOST_FACET, &["lineage.max_facet"], "be at most 1 MiB");
        rules.require(
            self.max_batch >= self.max_event,
            &["lineage.max_batch", "lineage.max_event"],
            "be at least lineage.max_event",
        );
        rules.require(
            self.queue >= self.max_batch && self.queue <= u64::from(u32::MAX),
            &["lineage.queue", "lineage.max_batch"],
            "be at least lineage.max_batch, and less than 4 GiB",
        );
        rules.at_least_one(self.max_batch_events, &["lineage.max_batch_events"]);
        rules.at_least_one(self.max_datasets, &["lineage.max_datasets"]);
        rules.require(
            self.window >= Duration::from_hours(24),
            &["lineage.window"],
            "be at least 1day, because days leave the window as a whole",
        );
        rules.at_least_one(self.window_events, &["lineage.window_events"]);
        rules.require(
            self.graph >= self.window,
            &["lineage.graph", "lineage.window"],
            "be at least lineage.window, or the graph forgets jobs and datasets that stored events still name",
        );
        rules.some_time(self.prune_interval, &["lineage.prune_interval"]);
        rules.at_least_one(self.prune_step, &["lineage.prune_step"]);
        rules.some_time(self.prune_lease, &["lineage.prune_lease"]);
        rules.at_least_one(self.graph_nodes, &["lineage.graph_nodes"]);
    }
}
