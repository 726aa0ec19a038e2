//! The heartbeats of the other nodes, as this node has seen them: which epochs have been silent for the validity of a lease.
//!
//! Two clocks decide that a node is dead: the ledger's, and the monotonic clock of the node that reclaims its leases. The
//! heartbeat actor reads the heartbeat counts of all epochs after each heartbeat of its own. An epoch is silent when its count
//! has not changed for the validity of its leases; the statement that fences it compares the count once more. So no clock that
//! jumps, of the ledger or of a machine, makes a live node look dead.
//!
//! **Bound.** One entry for each epoch in the ledger that is not fenced; each read replaces all of them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{model::NodeEpoch, ports::Pulse};

/// An epoch, and how long it has been silent.
#[derive(Debug, Clone, Copy)]
struct Heard {
    pulse: Pulse,
    /// Until `read_at`.
    silent: Duration,
    read_at: Instant,
}

impl Heard {
    /// Between two reads, at most half the validity of a lease counts as silence. After a longer time this node was suspended or
    /// the ledger was unreachable, so the others may have had no chance to send a heartbeat.
    fn silent_at(&self, now: Instant, lease: Duration) -> Duration {
        self.silent + now.saturating_duration_since(self.read_at).min(lease / 2)
    }
}

#[derive(Debug, Default)]
struct Notes {
    /// The validity of this node's own leases.
    lease: Duration,
    heard: HashMap<NodeEpoch, Heard>,
}

/// The heartbeats of the other nodes.
#[derive(Debug, Default)]
pub(crate) struct OtherEpochs(Mutex<Notes>);

impl OtherEpochs {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a read that was sent and answered at these times. `lease` is the validity of this node's own leases.
    pub(crate) fn saw(&self, pulses: &[Pulse], lease: Duration, sent: Instant, answered: Instant) {
        let mut notes = self.notes();
        let last = std::mem::take(&mut notes.heard);
        notes.lease = lease;
        notes.heard = pulses
            .iter()
            .map(|&pulse| {
                let heard = match last.get(&pulse.node_epoch) {
                    Some(last) if last.pulse.heartbeats == pulse.heartbeats => {
                        Heard { pulse, silent: last.silent_at(sent, lease), read_at: sent.max(last.read_at) }
                    }
                    // The heartbeat may have come at any time before the answer.
                    _ => Heard { pulse, silent: Duration::ZERO, read_at: answered },
                };
                (pulse.node_epoch, heard)
            })
            .collect();
    }

    /// Epochs that at `now` have been silent for the validity of their leases.
    pub(crate) fn silent(&self, now: Instant) -> Vec<Pulse> {
        let notes = self.notes();
        let is_over = |heard: &&Heard| {
            heard.silent_at(now, notes.lease) >= heard.pulse.lease.unwrap_or_default().max(notes.lease)
        };
        notes.heard.values().filter(is_over).map(|heard| heard.pulse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;

    const LEASE: Duration = Duration::from_secs(60);

    struct Scene {
        epochs: OtherEpochs,
        began: Instant,
        pulse: Pulse,
    }

    impl Scene {
        fn new() -> Self {
            let node_epoch = NodeEpoch { node: NodeId::random(), epoch: 1 };
            Self {
                epochs: OtherEpochs::default(),
                began: Instant::now(),
                pulse: Pulse { node_epoch, heartbeats: 1, lease: None, alive: true },
            }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.began + Duration::from_secs(seconds)
        }

        fn saw(&self, heartbeats: u64, at: u64) {
            self.epochs.saw(&[Pulse { heartbeats, ..self.pulse }], LEASE, self.at(at), self.at(at));
        }

        fn is_silent(&self, at: u64) -> bool {
            !self.epochs.silent(self.at(at)).is_empty()
        }
    }

    #[test]
    fn a_life_is_silent_after_the_time_of_a_lease_in_which_it_sent_nothing() {
        let scene = Scene::new();
        for at in [0, 15, 30, 45] {
            scene.saw(1, at);
            assert!(!scene.is_silent(at));
        }
        assert!(!scene.is_silent(59));
        assert!(scene.is_silent(60), "no further look is needed: the ledger compares the count");
        scene.saw(2, 61);
        assert!(!scene.is_silent(75), "it lives");
    }

    #[test]
    fn a_node_that_has_just_started_takes_no_other_node_for_dead() {
        let scene = Scene::new();
        assert!(!scene.is_silent(1000));
        scene.saw(1, 1000);
        assert!(!scene.is_silent(1029));
    }

    #[test]
    fn time_without_a_read_counts_as_silence_for_half_a_lease_at_most() {
        let scene = Scene::new();
        scene.saw(1, 0);
        assert!(!scene.is_silent(1000), "the ledger was away, or this process stood still");
        scene.saw(1, 1000);
        assert!(!scene.is_silent(1029));
        assert!(scene.is_silent(1030));
    }

    #[test]
    fn a_longer_lease_of_another_ones_is_waited_for() {
        let mut scene = Scene::new();
        scene.pulse.lease = Some(Duration::from_secs(600));
        for at in (0..600).step_by(15) {
            scene.saw(1, at);
            assert!(!scene.is_silent(at));
        }
        assert!(scene.is_silent(600));
    }

    #[test]
    fn who_is_fenced_or_gone_is_forgotten() {
        let scene = Scene::new();
        for at in [0, 30, 60] {
            scene.saw(1, at);
        }
        assert!(scene.is_silent(60));
        scene.epochs.saw(&[], LEASE, scene.at(61), scene.at(61));
        assert!(!scene.is_silent(61));
        scene.saw(1, 62);
        assert!(!scene.is_silent(90), "it is watched anew");
    }
}
