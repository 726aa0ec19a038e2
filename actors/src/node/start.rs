//! The start of a node: each part in a function of its own, in the order in which [`Node::start`] calls them.

use std::sync::Arc;

use actix::{Arbiter, ArbiterHandle};
use tokio::{
    runtime::Handle,
    sync::{Notify, broadcast::error::RecvError},
};

use super::{
    Node, NodeFolder, NodeSettings, Observers, Ports,
    change_follower::{ChangeFollower, ChangeListener, FollowerDeps},
    janitor::{Janitor, JanitorDeps, JanitorParts, Observer},
};
use crate::{
    content::{
        quarantine_sync,
        reader::ContentStore,
        resumable::{ResumableDeps, ResumableIngest},
        upload::{Hashers, Ingest, IngestDeps},
    },
    flow::{admission::Admission, fairness::FairAdmission},
    ids::NodeId,
    ports::{ChangeMark, Invalidations, Leftover, PortResult, Tag, UsageSpool},
    quota::{
        cache::{QuotaDeps, QuotaHandle},
        heartbeat::{EpochListener, Heartbeat, HeartbeatDeps, end_fenced, send_heartbeat, watch_nodes},
        node_epoch::NodeEpochState,
        replay::replay,
        usage_batcher::{UsageDeps, UsageHandle},
    },
    storage::{
        copy_context::CopyContext,
        last_access::LastAccess,
        maintenance::{MaintenanceDeps, StorageMaintenance},
        mover::Mover,
        verifier::Verifier,
    },
    supervision::Supervised,
};

/// Concurrent verifications and moves that clients asked for: each reads as fast as the storage allows.
const STORAGE_WORK: u32 = 4;

impl Node {
    /// Starts a node. Needs a running actix system; reads, hashes and uploads run on `io`.
    ///
    /// # Errors
    /// When the ledger does not acknowledge the first heartbeat.
    pub async fn start(
        ports: &Ports,
        settings: &NodeSettings,
        folder: NodeFolder,
        observers: Observers,
        io: Handle,
    ) -> PortResult<Self> {
        let NodeFolder { node, spool, left } = folder;
        let Observers { epochs, janitor: after_pass, changes: after_change } = observers;
        // Before anything is kept in memory: changes from here on are read in the log.
        let from = ports.changes.changes(None, 1).await.ok();
        let epoch_state =
            Arc::new(NodeEpochState::new(node, ports.clock.now().as_microsecond(), ports.clock.monotonic()));
        if let Some(from) = &from {
            epoch_state.enter(from.timeline.timeline_id);
        }
        spool.epoch_began(epoch_state.current().epoch);
        epochs(&epoch_state.record());
        let ledger_arbiter = Arbiter::new().handle();
        let hashers = Hashers::new(io.clone());
        let fenced = Arc::default();
        let start = Start { ports, settings, node, io, hashers, epoch_state, spool, fenced, ledger_arbiter };

        let usage = start.usage();
        let quota = start.quota(&usage);
        let heartbeat = start.heartbeat(&usage, &quota, epochs, left).await?;
        let content = start.content().await?;
        let listener = listener(quota.clone(), &content, after_change);
        let follower = start.changes(from.map(|page| page.mark), &listener);
        let janitor = start.janitor(after_pass);
        let Storage { verifier, mover, uses, maintenance } = start.storage(&content);
        let ingest = start.ingest(&content, &verifier);
        let resumable = start.resumable(&ingest);

        Ok(Self {
            quota,
            usage,
            ingest,
            resumable,
            content,
            verifier,
            mover,
            storage_work: Admission::new("storage_work", STORAGE_WORK),
            ledger: Arc::clone(&ports.ledger),
            spool: start.spool,
            uses,
            contents: Arc::clone(&ports.storage.contents),
            clock: Arc::clone(&ports.clock),
            maintenance,
            streams: FairAdmission::new("streams", settings.max_streams),
            searches: Admission::new("searches", settings.max_searches),
            storage: Arbiter::new().handle(),
            epoch_state: start.epoch_state,
            listener,
            heartbeat,
            follower,
            janitor,
        })
    }
}

/// What the parts of a node have in common.
struct Start<'a> {
    ports: &'a Ports,
    settings: &'a NodeSettings,
    node: NodeId,
    io: Handle,
    hashers: Hashers,
    epoch_state: Arc<NodeEpochState>,
    spool: Arc<dyn UsageSpool>,
    /// Wakes the heartbeat: the ledger has fenced this node's epoch, or its timeline has ended.
    fenced: Arc<Notify>,
    /// Serves every actor but the quota shards and the reads ahead.
    ledger_arbiter: ArbiterHandle,
}

/// What verifies, repairs and moves stored copies.
struct Storage {
    verifier: Verifier,
    mover: Mover,
    uses: Arc<LastAccess>,
    maintenance: Supervised<StorageMaintenance>,
}

impl Start<'_> {
    fn usage(&self) -> UsageHandle {
        let deps = UsageDeps {
            ledger: Arc::clone(&self.ports.ledger),
            clock: Arc::clone(&self.ports.clock),
            epoch_state: Arc::clone(&self.epoch_state),
            spool: Arc::clone(&self.spool),
        };
        UsageHandle::start(self.settings.usage, deps, &self.ledger_arbiter)
    }

    fn quota(&self, usage: &UsageHandle) -> QuotaHandle {
        let Ports { ledger, shared, changes, clock, .. } = self.ports;
        let deps = QuotaDeps {
            ledger: Arc::clone(ledger),
            slots: shared.clone(),
            sessions: shared.clone(),
            bus: shared.clone(),
            changes: Arc::clone(changes),
            clock: Arc::clone(clock),
            usage: usage.clone(),
            epoch_state: Arc::clone(&self.epoch_state),
            fenced: Arc::clone(&self.fenced),
        };
        let settings = self.settings.quota;
        let arbiters: Vec<_> = (0..settings.shards.max(1)).map(|_| Arbiter::new().handle()).collect();
        QuotaHandle::start(settings, &deps, &arbiters)
    }

    /// Sends the first heartbeat once the usage batcher and the quota shards run, settles what earlier processes left, and then starts
    /// the actor that sends the other heartbeats.
    async fn heartbeat(
        &self,
        usage: &UsageHandle,
        quota: &QuotaHandle,
        epochs: EpochListener,
        left: Leftover,
    ) -> PortResult<Supervised<Heartbeat>> {
        let deps = HeartbeatDeps {
            ledger: Arc::clone(&self.ports.ledger),
            timelines: Arc::clone(&self.ports.timelines),
            clock: Arc::clone(&self.ports.clock),
            epoch_state: Arc::clone(&self.epoch_state),
            quota: quota.clone(),
            spool: Arc::clone(&self.spool),
            fenced: Arc::clone(&self.fenced),
            epochs,
            ttl: self.settings.lease_ttl,
            heartbeat: self.settings.heartbeat,
        };
        usage.flush(self.settings.quota.patience).await;
        quota.started().await;
        send_heartbeat(&deps).await?;
        watch_nodes(&deps).await;
        // Before this node's Janitor would reclaim the leases that the spool explains.
        if replay(left, usage, &self.epoch_state, self.settings.quota.patience).await {
            end_fenced(&deps).await;
        }
        Ok(Heartbeat::start(deps, Arc::clone(&self.ports.watch), &self.ledger_arbiter))
    }

    /// The content store, which knows the quarantine before it is read from.
    async fn content(&self) -> PortResult<ContentStore> {
        let quarantine = &self.ports.storage.quarantine;
        let content = ContentStore::new(Arc::clone(&self.ports.blobs), self.settings.content, self.io.clone());
        content.quarantine().load(&**quarantine).await?;
        self.io.spawn(quarantine_sync::follow(content.clone(), Arc::clone(quarantine)));
        Ok(content)
    }

    /// Passes the changes of other instances on, as they announce them and as the log has them.
    fn changes(&self, from: Option<ChangeMark>, listener: &ChangeListener) -> Supervised<ChangeFollower> {
        self.ledger_arbiter.spawn(follow(self.ports.shared.invalidations(), Arc::clone(listener)));
        let deps = FollowerDeps {
            changes: Arc::clone(&self.ports.changes),
            timelines: Arc::clone(&self.ports.timelines),
            from,
            epoch_state: Arc::clone(&self.epoch_state),
            fenced: Arc::clone(&self.fenced),
            clock: Arc::clone(&self.ports.clock),
            interval: self.settings.change_poll,
            listener: Arc::clone(listener),
        };
        ChangeFollower::start(deps, &self.ledger_arbiter)
    }

    fn janitor(&self, observer: Observer) -> Supervised<Janitor> {
        let parts = JanitorParts {
            deps: JanitorDeps::from(self.ports),
            settings: self.settings.janitor,
            epoch_state: Arc::clone(&self.epoch_state),
            observer,
        };
        Janitor::start(parts, &self.ledger_arbiter)
    }

    fn storage(&self, content: &ContentStore) -> Storage {
        let Ports { copies, storage: records, clock, watch, .. } = self.ports;
        let settings = self.settings.storage;
        let context = CopyContext {
            copies: Arc::clone(copies),
            records: records.clone(),
            content: content.clone(),
            clock: Arc::clone(clock),
            node: self.node,
            io: self.io.clone(),
            hashers: self.hashers.clone(),
            counters: Arc::default(),
        };
        let verifier = Verifier::new(context.clone(), settings.missing_per_hour);
        let (mover, uses) = (Mover::new(context, verifier.clone()), Arc::<LastAccess>::default());
        let deps = MaintenanceDeps {
            records: records.clone(),
            content: content.clone(),
            verifier: verifier.clone(),
            mover: mover.clone(),
            uses: Arc::clone(&uses),
            clock: Arc::clone(clock),
            watch: Arc::clone(watch),
            node: self.node,
        };
        let maintenance = StorageMaintenance::start(deps, settings, &self.ledger_arbiter);
        Storage { verifier, mover, uses, maintenance }
    }

    fn ingest(&self, content: &ContentStore, verifier: &Verifier) -> Ingest {
        let deps = IngestDeps {
            blobs: Arc::clone(&self.ports.blobs),
            index: Arc::clone(&self.ports.index),
            clock: Arc::clone(&self.ports.clock),
            hashers: self.hashers.clone(),
            quarantine: content.quarantine().clone(),
            repair_check: Arc::new(verifier.clone()),
        };
        Ingest::new(deps, self.settings.ingest)
    }

    fn resumable(&self, ingest: &Ingest) -> ResumableIngest {
        let deps = ResumableDeps {
            catalogue: Arc::clone(&self.ports.resumable),
            parts: Arc::clone(&self.ports.upload_parts),
            ingest: ingest.clone(),
            clock: Arc::clone(&self.ports.clock),
            io: self.io.clone(),
        };
        ResumableIngest::new(deps, self.settings.resumable)
    }
}

/// Passes a change, made here or elsewhere, to all that depends on it.
fn listener(quota: QuotaHandle, content: &ContentStore, after_change: ChangeListener) -> ChangeListener {
    let quarantine = content.quarantine().clone();
    Arc::new(move |tag: Option<&Tag>| {
        quarantine.heard(tag);
        match tag {
            Some(tag) => quota.invalidate(tag),
            None => quota.invalidate_all(),
        }
        after_change(tag);
    })
}

/// Passes on messages of other instances. Missed ones are found in the log of changes a moment later.
async fn follow(mut tags: Invalidations, listener: ChangeListener) {
    loop {
        match tags.recv().await {
            Ok(tag) => listener(Some(&tag)),
            Err(RecvError::Lagged(missed)) => {
                tracing::debug!(missed, "messages of other nodes were missed; the log of changes has them");
            }
            Err(RecvError::Closed) => return,
        }
    }
}
