//! The whole node: starts the actors in order, reports whether they live, and drains them in order.
//!
//! Actors run on arbiters of their own, never on a web worker's, so a flooded actor delays no connection, and actors
//! always outlive the workers. One arbiter serves the ledger's actors (batcher, heartbeat, Janitor), one reads ahead for
//! large streams, and the quota shards have the rest.
//!
//! [`janitor`] removes what expired; [`change_follower`] reads what other instances have changed; `start` puts the
//! parts together. The server starts one [`Node`] and speaks to the actors through its handles.

pub mod change_follower;
pub mod janitor;
mod start;

use std::{sync::Arc, time::Duration};

use actix::ArbiterHandle;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use self::{
    change_follower::{ChangeFollower, ChangeListener},
    janitor::{Janitor, JanitorDeps, JanitorSettings, Observer},
};
use crate::{
    clock::{Clock, watch::ClockWatch},
    content::{
        delivery::{Delivery, DeliveryOrder},
        reader::{ContentSettings, ContentStore},
        resumable::{ResumableIngest, ResumableSettings},
        upload::{Ingest, IngestSettings},
    },
    flow::{
        admission::{Admission, AdmissionSnapshot},
        fairness::FairAdmission,
    },
    ids::{ContentHash, NodeId, ReceiptId},
    model::Credit,
    ports::{
        BlobCopies, BlobStore, BlobTrash, Changes, ContentIndex, GovernancePolicies, Installations, Ledger, Leftover,
        PortResult, ResumableUploads, SharedState, SpoolStatus, StorageRecords, StoredContents, Tag, Timelines, Upkeep,
        UploadParts, UsageSpool,
    },
    quota::{
        cache::{QuotaHandle, QuotaSettings},
        heartbeat::{self, Endings, EpochListener, Heartbeat},
        node_epoch::NodeEpochState,
        usage_batcher::{UsageHandle, UsageSettings},
    },
    storage::{
        last_access::LastAccess,
        maintenance::{self, MaintenanceSettings, StorageMaintenance},
        mover::Mover,
        verifier::Verifier,
    },
    supervision::Supervised,
};

/// How long cut connections may take to close.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);

/// The ports of a node.
#[derive(Clone)]
pub struct Ports {
    pub ledger: Arc<dyn Ledger>,
    pub upkeep: Arc<dyn Upkeep>,
    pub index: Arc<dyn ContentIndex>,
    pub changes: Arc<dyn Changes>,
    pub timelines: Arc<dyn Timelines>,
    pub policies: Arc<dyn GovernancePolicies>,
    pub blobs: Arc<dyn BlobStore>,
    pub copies: Arc<dyn BlobCopies>,
    pub trash: Arc<dyn BlobTrash>,
    pub resumable: Arc<dyn ResumableUploads>,
    pub upload_parts: Arc<dyn UploadParts>,
    pub shared: Arc<dyn SharedState>,
    pub storage: StorageRecords,
    pub installations: Arc<dyn Installations>,
    /// The clock that all instances use.
    pub clock: Arc<dyn Clock>,
    /// Whether that clock is reliable.
    pub watch: Arc<ClockWatch>,
}

impl From<&Ports> for JanitorDeps {
    fn from(ports: &Ports) -> Self {
        Self {
            ledger: Arc::clone(&ports.ledger),
            upkeep: Arc::clone(&ports.upkeep),
            index: Arc::clone(&ports.index),
            changes: Arc::clone(&ports.changes),
            policies: Arc::clone(&ports.policies),
            trash: Arc::clone(&ports.trash),
            resumable: Arc::clone(&ports.resumable),
            upload_parts: Arc::clone(&ports.upload_parts),
            installations: Arc::clone(&ports.installations),
            clock: Arc::clone(&ports.clock),
            watch: Arc::clone(&ports.watch),
        }
    }
}

/// Bounds and times of a node.
#[derive(Debug, Clone, Copy)]
pub struct NodeSettings {
    pub quota: QuotaSettings,
    pub usage: UsageSettings,
    pub content: ContentSettings,
    pub ingest: IngestSettings,
    pub resumable: ResumableSettings,
    pub janitor: JanitorSettings,
    pub storage: MaintenanceSettings,
    /// Concurrent streams on this instance.
    pub max_streams: u32,
    /// Concurrent searches of the catalogue.
    pub max_searches: u32,
    /// How long leases live without a heartbeat.
    pub lease_ttl: Duration,
    pub heartbeat: Duration,
    /// How often the log of changes is polled.
    pub change_poll: Duration,
}

/// What a node has of its own, and of the processes before it.
pub struct NodeFolder {
    pub node: NodeId,
    pub spool: Arc<dyn UsageSpool>,
    /// What earlier processes left in the spool.
    pub left: Leftover,
}

/// Listeners to a node's events.
#[derive(Clone)]
pub struct Observers {
    /// Called with this node's epochs, so that the next process of this identity knows them.
    pub epochs: EpochListener,
    /// Called after each pass of the Janitor.
    pub janitor: Observer,
    /// Called for each change, made here or elsewhere, in addition to the quota cache.
    pub changes: ChangeListener,
}

/// A running node.
#[derive(Clone)]
pub struct Node {
    pub quota: QuotaHandle,
    pub usage: UsageHandle,
    pub content: ContentStore,
    pub ingest: Ingest,
    pub resumable: ResumableIngest,
    /// Verifies and repairs stored copies.
    pub verifier: Verifier,
    pub mover: Mover,
    /// Concurrent verifications and moves that clients asked for.
    pub storage_work: Admission,
    /// Running streams: a permit each, from before the first check of the receipt until the body is dropped. One receipt
    /// cannot take them all.
    pub streams: FairAdmission<ReceiptId>,
    /// Running searches of the catalogue: any client may send them, and they must leave the database to streams.
    pub searches: Admission,
    storage: ArbiterHandle,
    ledger: Arc<dyn Ledger>,
    spool: Arc<dyn UsageSpool>,
    uses: Arc<LastAccess>,
    contents: Arc<dyn StoredContents>,
    clock: Arc<dyn Clock>,
    maintenance: Supervised<StorageMaintenance>,
    epoch_state: Arc<NodeEpochState>,
    listener: ChangeListener,
    heartbeat: Supervised<Heartbeat>,
    follower: Supervised<ChangeFollower>,
    janitor: Supervised<Janitor>,
}

/// The work left when a node stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Streams that had not ended.
    pub streams: u64,
    /// Usage rows that are not in the ledger.
    pub unsettled: u64,
    /// Notes of such rows in the usage spool, from which the next start settles them.
    pub spooled: u64,
    /// Whether the node's epoch was closed in the ledger. If not, the rest of its leases is charged or released when
    /// its time is over, as after a crash.
    pub closed: bool,
}

impl Node {
    /// Opens the body of an admitted stream.
    ///
    /// # Errors
    /// As [`Delivery::open`].
    pub async fn deliver(&self, order: DeliveryOrder) -> PortResult<Delivery> {
        Delivery::open(&self.content, order, &self.storage).await
    }

    /// Whether every actor lives, or is about to be built again. Otherwise the node should exit with an error.
    pub fn is_alive(&self) -> bool {
        let given_up = self.heartbeat.is_given_up() || self.follower.is_given_up();
        let given_up = given_up || self.janitor.is_given_up() || self.maintenance.is_given_up();
        self.quota.is_alive() && self.usage.is_alive() && !given_up
    }

    /// How often actors died of a panic and were built again.
    pub fn actor_restarts(&self) -> u64 {
        let upkeep = self.janitor.restarts() + self.maintenance.restarts();
        self.heartbeat.restarts() + self.follower.restarts() + upkeep
    }

    /// The time that all instances use.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Notes that a content was delivered.
    pub fn used(&self, hash: ContentHash) {
        self.uses.used(hash, self.clock.now());
    }

    /// The name of this instance in the ledger.
    pub fn id(&self) -> NodeId {
        self.epoch_state.current().node
    }

    /// Whether another process runs with this node's identity. This one then takes no more leases, and should end.
    pub fn has_namesake(&self) -> bool {
        self.epoch_state.has_namesake()
    }

    /// How often the database was found to have been restored while this node ran.
    pub fn restores(&self) -> u64 {
        self.epoch_state.restores()
    }

    /// Invalidates everything on this instance that depends on the tag.
    pub fn invalidate(&self, tag: &Tag) {
        (self.listener)(Some(tag));
    }

    /// Instances that the ledger knew to be alive at the last heartbeat, including this one.
    pub fn instances(&self) -> u32 {
        self.epoch_state.instances()
    }

    /// Lost leases of this node whose charge was taken back, since it lived on and no client received that part; and the bytes.
    pub fn uncharged_leases(&self) -> (u64, u64) {
        self.epoch_state.uncharged()
    }

    /// Credit that the ledger had leased to this node at the last comparison, without the node's knowledge.
    pub fn unknown_leases(&self) -> Credit {
        self.epoch_state.unknown()
    }

    /// The state of the usage spool.
    pub fn spool(&self) -> SpoolStatus {
        self.spool.status()
    }

    /// The time of the oldest note in the usage spool.
    pub fn oldest_note(&self) -> Option<Timestamp> {
        self.spool.oldest()
    }

    /// The queues of the node, for gauges.
    pub fn queues(&self) -> Vec<AdmissionSnapshot> {
        let single = [
            self.streams.snapshot(),
            self.searches.snapshot(),
            self.usage.queue(),
            self.ingest.queue(),
            self.ingest.queue_in_parts(),
            self.content.read_ahead(),
            self.storage_work.snapshot(),
        ];
        self.quota.queues().chain(single).collect()
    }

    /// Waits until the usage of a receipt's ended streams is in the ledger, so that a client reads the usage of its last stream; false
    /// when it is not within `patience`.
    pub async fn settled(&self, receipt: ReceiptId, patience: Duration) -> bool {
        self.quota.left(receipt).await;
        self.usage.flush(patience).await
    }

    /// Gives leases back, waits until usage is in the ledger, and closes the node's epoch there, all within `patience`. For
    /// shutdown, after the last stream has ended.
    pub async fn drain(&self, patience: Duration) -> DrainReport {
        let deadline = Instant::now() + patience;
        let left = || deadline.saturating_duration_since(Instant::now());
        // Cut connections may still be closing. A stream gives its permit back after it has reported its end, so when
        // all permits are back, all sent bytes are reported.
        self.streams.all_returned(CLOSING_PATIENCE.min(left())).await;
        if timeout_at(deadline, self.quota.drain()).await.is_err() {
            tracing::warn!(
                "not all leases were handed back before the deadline; they are released with this node's epoch"
            );
        }
        let flushed = self.usage.flush(left()).await;
        let (streams, unsettled) = (self.streams.snapshot().in_use, self.usage.queue().in_use);
        // The unsettled bytes of a stream are covered by its lease alone, so an epoch with such a stream is not closed.
        let closed = flushed && streams == 0 && unsettled == 0 && self.close(left()).await;
        let spooled = self.spool.status().entries;
        self.spool.stop();
        // A use that is not recorded makes content look older than it is, by the uses of the last seconds.
        let told = timeout_at(deadline, maintenance::flush_accesses(&self.uses, &*self.contents)).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::warn!(
                "the last uses of content were not recorded; content used in the last seconds may look unused"
            );
        }
        DrainReport { streams, unsettled, spooled, closed }
    }

    async fn close(&self, patience: Duration) -> bool {
        let endings = Endings { ledger: &*self.ledger, epoch_state: &self.epoch_state, spool: &*self.spool };
        let left = heartbeat::close(endings, patience).await;
        if let Some(credit) = left.filter(|credit| !credit.is_zero()) {
            let Credit { bytes, requests } = credit;
            tracing::warn!(
                bytes,
                requests,
                "the ledger had leases for this node that the node did not hold; they were released"
            );
        }
        left.is_some()
    }
}
