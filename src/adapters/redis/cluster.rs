//! The map of a cluster: which node serves which slot, kept up to date.
//!
//! Each node has a lane, replicas too, so that a replica is connected already when it is promoted. The map is read
//! again when a node answers that a slot has moved, when a node cannot be reached, and at an interval. Until a failover
//! has finished, calls for keys of the lost master are refused at once, and calls for all other keys are served.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value,
};
use tokio::time::{sleep, timeout};

use super::{
    context::LinkContext,
    error::RedisFailure,
    lane::{QueuedCall, Redirect, RedisLane},
    reconnector::ManagedLane,
    settings::address_of,
    slot::SLOTS,
};

/// How often the map is read without a sign that it is wrong.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The least time between two reads of the map, because many calls may ask for one at once.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// The network address of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeAddress {
    host: String,
    port: u16,
}

impl NodeAddress {
    /// Parses `host:port`. Without a host (a node that does not know its own name), the host of the node that was asked
    /// is used.
    fn parse(text: &str, asked: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { host: if host.is_empty() { asked } else { host }.to_owned(), port: port.parse().ok()? })
    }

    fn of(info: &ConnectionInfo) -> Option<Self> {
        match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Self { host: host.clone(), port: *port })
            }
            _ => None,
        }
    }
}

/// The nodes, and which of them serves each slot.
#[derive(Default)]
struct SlotMap {
    lanes: BTreeMap<NodeAddress, Arc<ManagedLane>>,
    slots: Vec<Option<Arc<ManagedLane>>>,
    /// The nodes that serve slots; `None` while the node of some slot is unknown.
    masters: Option<Vec<Arc<ManagedLane>>>,
}

impl SlotMap {
    fn new(lanes: BTreeMap<NodeAddress, Arc<ManagedLane>>, slots: Vec<Option<Arc<ManagedLane>>>) -> Self {
        let masters = Self::masters_of(&slots);
        Self { lanes, slots, masters }
    }

    fn masters_of(slots: &[Option<Arc<ManagedLane>>]) -> Option<Vec<Arc<ManagedLane>>> {
        let mut masters: Vec<Arc<ManagedLane>> = Vec::new();
        for kept in slots {
            let kept = kept.as_ref()?;
            if !masters.iter().any(|known| Arc::ptr_eq(known, kept)) {
                masters.push(Arc::clone(kept));
            }
        }
        (!masters.is_empty()).then_some(masters)
    }
}

/// A range of slots as a node reports it: the first, the last, the master, the replicas.
#[derive(Debug, PartialEq, Eq)]
struct SlotRange {
    first: u16,
    last: u16,
    nodes: Vec<NodeAddress>,
}

pub(super) struct Cluster {
    seeds: Vec<ConnectionInfo>,
    map: RwLock<SlotMap>,
    context: Arc<LinkContext>,
    me: Weak<Self>,
}

impl Cluster {
    /// A cluster without a map, and the task that reads it. The task ends when the cluster is dropped.
    pub(super) fn start(seeds: Vec<ConnectionInfo>, context: Arc<LinkContext>) -> Arc<Self> {
        let cluster = Arc::new_cyclic(|me| Self { seeds, map: RwLock::default(), context, me: Weak::clone(me) });
        cluster.context.io.spawn(follow(Arc::downgrade(&cluster)));
        cluster
    }

    /// The lane of a slot, if the node that serves it is known.
    pub(super) fn lane(&self, slot: u16) -> Option<Arc<RedisLane>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.slots.get(usize::from(slot))?.as_ref().map(|kept| Arc::clone(&kept.lane))
    }

    /// The lanes of all nodes.
    pub(super) fn lanes(&self) -> Vec<Arc<RedisLane>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.lanes.values().map(|kept| Arc::clone(&kept.lane)).collect()
    }

    /// The lanes of all masters, or `None` while the node of some slot is unknown.
    pub(super) fn masters(&self) -> Option<Vec<Arc<RedisLane>>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        Some(map.masters.as_ref()?.iter().map(|kept| Arc::clone(&kept.lane)).collect())
    }

    /// A node said where a slot is, or, with `for_good` false, where it is moving to.
    fn lane_told(&self, node: &str, slot: u16, asked: &str, for_good: bool) -> Option<Arc<RedisLane>> {
        let asked = asked.rsplit_once(':').map_or(asked, |(host, _)| host);
        let address = NodeAddress::parse(node, asked)?;
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let kept = Arc::clone(map.lanes.entry(address.clone()).or_insert_with(|| self.reach(&address)));
        let lane = Arc::clone(&kept.lane);
        if for_good && let Some(place) = map.slots.get_mut(usize::from(slot)) {
            *place = Some(kept);
            map.masters = SlotMap::masters_of(&map.slots);
        }
        drop(map);
        if for_good {
            self.context.look.notify_one();
        }
        Some(lane)
    }

    fn reach(&self, address: &NodeAddress) -> Arc<ManagedLane> {
        let others: Weak<dyn Redirect> = self.me.clone();
        Arc::new(ManagedLane::new(self.info(address), &self.context, Some(others)))
    }

    /// How to connect to a node: as to the first seed, at the node's address.
    fn info(&self, address: &NodeAddress) -> ConnectionInfo {
        let (info, NodeAddress { host, port }) = (self.seeds[0].clone(), address.clone());
        let encrypted = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        info.set_addr(address_of(host, port, encrypted))
    }

    /// Installs a new map: lanes of nodes that are still in it stay, the others end.
    fn install(&self, ranges: &[SlotRange]) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut lanes = BTreeMap::new();
        for address in ranges.iter().flat_map(|range| &range.nodes) {
            if !lanes.contains_key(address) {
                let kept = map.lanes.remove(address).unwrap_or_else(|| self.reach(address));
                lanes.insert(address.clone(), kept);
            }
        }
        let mut slots = vec![None; usize::from(SLOTS)];
        for SlotRange { first, last, nodes } in ranges {
            let master = nodes.first().and_then(|address| lanes.get(address));
            for place in slots.iter_mut().take(usize::from(*last) + 1).skip(usize::from(*first)) {
                *place = master.cloned();
            }
        }
        let gone = std::mem::replace(&mut *map, SlotMap::new(lanes, slots));
        drop(map);
        // Dropped outside the lock, because the drop ends tasks.
        drop(gone);
    }

    /// Asks nodes for the map until one answers: connected nodes first, then the seeds.
    async fn ask(&self) -> Option<Vec<SlotRange>> {
        let connected: Vec<_> = {
            let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
            let lanes = map.lanes.iter();
            lanes.filter_map(|(address, kept)| Some((address.host.clone(), kept.lane.connection()?.0))).collect()
        };
        let patience = self.context.settings.connect_timeout;
        for (host, mut connection) in connected {
            let answer = async { redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await };
            if let Ok(Ok(value)) = timeout(patience, answer).await {
                return Some(ranges(&value, &host));
            }
        }
        for seed in &self.seeds {
            let answer = async {
                let config =
                    AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(None);
                let client = self.context.settings.client(seed.clone())?;
                let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
                redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await as RedisResult<Value>
            };
            match timeout(patience, answer).await {
                Ok(Ok(value)) => {
                    return Some(ranges(&value, &NodeAddress::of(seed).map(|seed| seed.host).unwrap_or_default()));
                }
                Ok(Err(error)) => {
                    tracing::debug!(server = %seed.addr(), %error, "a node of the Redis cluster did not answer CLUSTER SLOTS; the next node is asked");
                }
                Err(_) => {
                    tracing::debug!(server = %seed.addr(), "a node of the Redis cluster did not answer in time; the next node is asked");
                }
            }
        }
        None
    }
}

impl Redirect for Cluster {
    fn redirect(&self, mut job: QueuedCall, error: &RedisError, asked: &str) {
        let for_good = error.kind() == ErrorKind::Server(ServerErrorKind::Moved);
        let lane = error.redirect_node().and_then(|(node, slot)| self.lane_told(node, slot, asked, for_good));
        let Some(lane) = lane else { return job.fail(RedisFailure::Answered(error.clone())) };
        job.asking = !for_good;
        lane.submit(vec![job]);
    }
}

/// Keeps the map up to date for as long as the cluster exists.
async fn follow(cluster: Weak<Cluster>) {
    let mut logged = false;
    loop {
        let Some(known) = cluster.upgrade() else { return };
        match known.ask().await {
            Some(ranges) => {
                logged = false;
                known.install(&ranges);
            }
            None if !std::mem::replace(&mut logged, true) => {
                tracing::warn!(
                    "no node of the Redis cluster answers CLUSTER SLOTS; this instance keeps its last map and asks again"
                );
            }
            None => {}
        }
        let context = Arc::clone(&known.context);
        let wait = if known.masters().is_some() { LOOK_EVERY } else { context.settings.breaker_period };
        // Dropped, so that the link can end meanwhile.
        drop(known);
        let _ = timeout(wait, context.look.notified()).await;
        sleep(LOOK_PAUSE).await;
    }
}

/// The ranges in an answer to `CLUSTER SLOTS`. Ranges that cannot be parsed are left out: their slots then have no
/// known node.
fn ranges(value: &Value, asked: &str) -> Vec<SlotRange> {
    let Value::Array(ranges) = value else { return Vec::new() };
    ranges.iter().filter_map(|range| range_of(range, asked)).collect()
}

fn range_of(value: &Value, asked: &str) -> Option<SlotRange> {
    let Value::Array(parts) = value else { return None };
    let [Value::Int(first), Value::Int(last), nodes @ ..] = parts.as_slice() else { return None };
    let nodes: Vec<NodeAddress> = nodes.iter().filter_map(|node| node_of(node, asked)).collect();
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    (first <= last && last < SLOTS && !nodes.is_empty()).then_some(SlotRange { first, last, nodes })
}

fn node_of(value: &Value, asked: &str) -> Option<NodeAddress> {
    let Value::Array(parts) = value else { return None };
    let [host, Value::Int(port), ..] = parts.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        _ => "",
    };
    // A node that does not know its own name has the address at which it was asked.
    let host = if host.is_empty() || host == "?" { asked } else { host };
    Some(NodeAddress { host: host.to_owned(), port: u16::try_from(*port).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec()), Value::Array(Vec::new())])
    }

    fn name(host: &str) -> Value {
        Value::BulkString(host.as_bytes().to_vec())
    }

    #[test]
    fn the_map_is_read_with_whatever_a_node_calls_itself() {
        let answer = Value::Array(vec![
            Value::Array(vec![Value::Int(0), Value::Int(99), node(name("10.0.0.1"), 1), node(name("10.0.0.2"), 2)]),
            Value::Array(vec![Value::Int(100), Value::Int(199), node(Value::Nil, 3)]),
            Value::Array(vec![Value::Int(200), Value::Int(200), node(name("?"), 4)]),
            Value::Array(vec![Value::Int(300), Value::Int(70_000), node(name("10.0.0.1"), 1)]),
            Value::Array(vec![Value::Int(400)]),
            Value::Okay,
        ]);
        let at = |host: &str, port| NodeAddress { host: host.to_owned(), port };
        assert_eq!(
            ranges(&answer, "asked"),
            [
                SlotRange { first: 0, last: 99, nodes: vec![at("10.0.0.1", 1), at("10.0.0.2", 2)] },
                SlotRange { first: 100, last: 199, nodes: vec![at("asked", 3)] },
                SlotRange { first: 200, last: 200, nodes: vec![at("asked", 4)] },
            ]
        );
        assert_eq!(ranges(&Value::Nil, "asked"), []);
    }

    #[test]
    fn a_redirection_names_a_node_of_any_kind() {
        let at = |host: &str, port| Some(NodeAddress { host: host.to_owned(), port });
        assert_eq!(NodeAddress::parse("10.0.0.1:7000", "asked"), at("10.0.0.1", 7000));
        assert_eq!(NodeAddress::parse("::1:7000", "asked"), at("::1", 7000));
        assert_eq!(NodeAddress::parse(":7000", "asked"), at("asked", 7000));
        assert_eq!(NodeAddress::parse("nowhere", "asked"), None);
    }
}
