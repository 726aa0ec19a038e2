//! Limits of the machine that are reached, and clocks that jump.

use rlimit::{Resource, getrlimit, prlimit};

use crate::{
    node::TestNode,
    patience::eventually,
    scene::{Part, Plan, Scene},
    small_disk::fill,
};

const SMALL_DISK: Plan = Plan { disk: Some("64m"), ..Plan::ALONE };
const CLOCK_OF_AN_INSTANCE: Plan = Plan { clock: Some(Part::Instance), ..Plan::SHARED };
const CLOCK_OF_POSTGRESQL: Plan = Plan { clock: Some(Part::Postgres), ..Plan::SHARED };

/// Files that clients have open at any time, about half of which are not to be had.
const FILES_OF_CLIENTS: usize = 8;

scenario!(
    the_disk_of_an_instance_is_full,
    "the disk of an instance on SQLite",
    "full",
    SMALL_DISK,
    async |scene: &mut Scene| fill(&filler(scene)),
    async |scene: &mut Scene| std::fs::remove_file(filler(scene)).unwrap(),
);

scenario!(
    an_instance_has_no_file_descriptors_left,
    "one of two instances",
    "its limit of open files is reached",
    Plan::SHARED,
    async |scene: &mut Scene| {
        let node = &scene.instances[0].node;
        let files = node.open_files() - FILES_OF_CLIENTS;
        limit(node, Resource::NOFILE, files as u64);
        eventually("the limit is reached", async || node.open_files() >= files).await;
    },
    async |scene: &mut Scene| unlimit(&scene.instances[0].node, Resource::NOFILE),
);

long_scenario!(
    an_instance_has_no_memory_left,
    "one of two instances",
    "its limit of memory is reached",
    Plan::SHARED,
    async |scene: &mut Scene| {
        let node = &scene.instances[0].node;
        limit(node, Resource::AS, node.address_space());
    },
    async |scene: &mut Scene| {
        let instance = &mut scene.instances[0];
        // Memory that is not to be had ends a process.
        if instance.node.is_running() {
            unlimit(&instance.node, Resource::AS);
        } else {
            instance.has_ended().await;
            instance.restart().await;
        }
    },
);

scenario!(
    the_clock_of_an_instance_jumps_ahead_and_back,
    "one of two instances",
    "its clock jumps 2 h ahead, and back",
    CLOCK_OF_AN_INSTANCE,
    async |scene: &mut Scene| scene.set_clock("+7200"),
    async |scene: &mut Scene| scene.set_clock("+0"),
);

long_scenario!(
    the_clock_of_an_instance_jumps_back_and_ahead,
    "one of two instances",
    "its clock jumps 2 h back, and ahead",
    CLOCK_OF_AN_INSTANCE,
    async |scene: &mut Scene| scene.set_clock("-7200"),
    async |scene: &mut Scene| scene.set_clock("+0"),
);

long_scenario!(
    the_clock_of_postgresql_jumps_ahead_and_back,
    "PostgreSQL",
    "its clock jumps 2 h ahead, and back",
    CLOCK_OF_POSTGRESQL,
    async |scene: &mut Scene| scene.set_clock("+7200"),
    async |scene: &mut Scene| scene.set_clock("+0"),
);

long_scenario!(
    the_clock_of_postgresql_jumps_back_and_ahead,
    "PostgreSQL",
    "its clock jumps 2 h back, and ahead",
    CLOCK_OF_POSTGRESQL,
    async |scene: &mut Scene| scene.set_clock("-7200"),
    async |scene: &mut Scene| scene.set_clock("+0"),
);

fn filler(scene: &Scene) -> std::path::PathBuf {
    scene.data_dir().join("filler")
}

/// Lowers a limit of a process that runs. It may be raised again.
fn limit(node: &TestNode, resource: Resource, to: u64) {
    let (_, hard) = getrlimit(resource).unwrap();
    set(node, resource, (to, hard));
}

fn unlimit(node: &TestNode, resource: Resource) {
    set(node, resource, getrlimit(resource).unwrap());
}

fn set(node: &TestNode, resource: Resource, limits: (u64, u64)) {
    prlimit(i32::try_from(node.pid()).expect("a pid"), resource, Some(limits), None).expect("limited");
}
