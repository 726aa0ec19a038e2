//! Faults of an instance, beside another one that goes on, and of one by itself.

use std::time::Duration;

use crate::{
    proxy::Fault,
    scene::{Part, Plan, Scene},
};

/// An instance that is silent for longer than a lease counts as lost.
const LONGER_THAN_A_LEASE: Plan = Plan {
    lasts: Duration::from_secs(10),
    settings: &[
        ("PENSTOCK_QUOTA__LEASE_TTL", "5s"),
        ("PENSTOCK_QUOTA__HEARTBEAT", "1s"),
        ("PENSTOCK_JANITOR__INTERVAL", "1s"),
    ],
    ..Plan::SHARED
};

scenario!(
    an_instance_is_killed,
    "one of two instances",
    "killed (`SIGKILL`), started again",
    Plan::SHARED,
    async |scene: &mut Scene| scene.instances[0].kill().await,
    async |scene: &mut Scene| scene.instances[0].restart().await,
);

long_scenario!(
    an_instance_is_killed_and_its_leases_reclaimed,
    "one of two instances",
    "killed, started again after another one reclaimed its leases (`quota.lease_ttl` 5 s)",
    LONGER_THAN_A_LEASE,
    async |scene: &mut Scene| scene.instances[0].kill().await,
    async |scene: &mut Scene| scene.instances[0].restart().await,
);

long_scenario!(
    an_instance_is_paused,
    "one of two instances",
    "paused (`SIGSTOP`)",
    Plan::SHARED,
    async |scene: &mut Scene| scene.instances[0].pause(),
    async |scene: &mut Scene| scene.instances[0].resume(),
);

scenario!(
    an_instance_is_paused_for_longer_than_a_lease,
    "one of two instances",
    "paused for longer than a lease (`quota.lease_ttl` 5 s)",
    LONGER_THAN_A_LEASE,
    async |scene: &mut Scene| scene.instances[0].pause(),
    async |scene: &mut Scene| scene.instances[0].resume(),
);

scenario!(
    an_instance_is_cut_off_from_its_services,
    "one of two instances",
    "partitioned from all services for longer than a lease (`quota.lease_ttl` 5 s)",
    LONGER_THAN_A_LEASE,
    async |scene: &mut Scene| scene.instances[0].break_lines_to_services(Fault::Hole),
    async |scene: &mut Scene| scene.instances[0].heal_lines_to_services(),
);

long_scenario!(
    an_instance_is_in_a_hole,
    "both instances",
    "partitioned from their clients: connections stay, nothing passes",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::Instance, Fault::Hole),
    async |scene: &mut Scene| scene.heal_lines(Part::Instance),
);

long_scenario!(
    connections_of_clients_are_reset,
    "both instances",
    "each connection of a client is reset",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::Instance, Fault::Reset),
    async |scene: &mut Scene| scene.heal_lines(Part::Instance),
);

long_scenario!(
    clients_are_slow,
    "both instances",
    "slow: 200 KB/s for each client",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::Instance, Fault::Trickle(200_000)),
    async |scene: &mut Scene| scene.heal_lines(Part::Instance),
);

long_scenario!(
    an_instance_on_sqlite_is_killed,
    "one instance on SQLite",
    "killed (`SIGKILL`), started again",
    Plan::ALONE,
    async |scene: &mut Scene| scene.instances[0].kill().await,
    async |scene: &mut Scene| scene.instances[0].restart().await,
);

long_scenario!(
    an_instance_on_sqlite_is_paused,
    "one instance on SQLite",
    "paused (`SIGSTOP`)",
    Plan::ALONE,
    async |scene: &mut Scene| scene.instances[0].pause(),
    async |scene: &mut Scene| scene.instances[0].resume(),
);
