//! How long messages wait for actors, and how long usage is on its way to the ledger. The actors keep plain timings; they are read at each
//! scrape.

use std::sync::Arc;

use penstock_actors::{lineage::Lineage, mailbox::Mailbox, node::Node, quota::usage_batcher::UsageHandle};
use prometheus::{
    core::{Collector, Desc},
    proto::{MetricFamily, MetricType},
};

use super::readings::{desc, family, histogram, metric};

const WAIT: (&str, &str) =
    ("penstock_mailbox_wait_seconds", "Time that a message waited in the mailbox of an actor before it was handled.");
const WAITING: (&str, &str) = ("penstock_mailbox_messages", "Messages that wait in the mailbox of an actor.");
const FLUSH: (&str, &str) =
    ("penstock_usage_flush_seconds", "Time until the ledger had answered about a batch of usage, with all retries.");
const AGE: (&str, &str) = (
    "penstock_usage_batch_age_seconds",
    "Time from the end of the oldest stream of a batch of usage until the batch was sent to the ledger.",
);

/// Reads the timings of actors at each scrape.
pub(super) struct ActorCollector {
    mailboxes: [Arc<Mailbox>; 3],
    usage: UsageHandle,
    descs: Vec<Desc>,
}

impl ActorCollector {
    pub(super) fn new(node: &Node, lineage: &Lineage) -> Result<Self, prometheus::Error> {
        let descs = vec![desc(WAIT, &["actor"])?, desc(WAITING, &["actor"])?, desc(FLUSH, &[])?, desc(AGE, &[])?];
        let mailboxes = [node.quota.mailbox(), node.usage.mailbox(), lineage.ingest.mailbox()].map(Arc::clone);
        Ok(Self { mailboxes, usage: node.usage.clone(), descs })
    }
}

impl Collector for ActorCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let label = |mailbox: &Mailbox| [("actor", mailbox.actor())];
        let waits = self.mailboxes.iter().map(|mailbox| histogram(label(mailbox), &mailbox.waits()));
        let waiting =
            self.mailboxes.iter().map(|mailbox| metric(MetricType::GAUGE, label(mailbox), mailbox.waiting() as f64));
        let counters = self.usage.counters();
        let timings = |(name, help): (&str, &str), timings| family(name, help, MetricType::HISTOGRAM, timings);
        vec![
            timings(WAIT, waits.collect()),
            family(WAITING.0, WAITING.1, MetricType::GAUGE, waiting.collect()),
            timings(FLUSH, vec![histogram([], &counters.flushes.snapshot())]),
            timings(AGE, vec![histogram([], &counters.ages.snapshot())]),
        ]
    }
}
