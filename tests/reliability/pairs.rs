//! Two faults at the same time.

use crate::{
    proxy::Fault,
    scene::{Part, Plan, Scene},
};

long_scenario!(
    postgresql_and_redis_are_killed,
    "PostgreSQL and Redis",
    "killed (`SIGKILL`), started again",
    Plan::SHARED,
    async |scene: &mut Scene| {
        scene.postgres().kill();
        scene.redis().kill();
    },
    async |scene: &mut Scene| {
        scene.redis().restart();
        scene.postgres().boot().await;
    },
);

long_scenario!(
    postgresql_and_s3_are_in_a_hole,
    "PostgreSQL and S3",
    "partitioned: connections stay, nothing passes",
    Plan::SHARED,
    async |scene: &mut Scene| {
        scene.break_lines(Part::Postgres, Fault::Hole);
        scene.break_lines(Part::S3, Fault::Hole);
    },
    async |scene: &mut Scene| {
        scene.heal_lines(Part::Postgres);
        scene.heal_lines(Part::S3);
    },
);

long_scenario!(
    redis_and_s3_are_reset,
    "Redis and S3",
    "each connection is reset",
    Plan::SHARED,
    async |scene: &mut Scene| {
        scene.break_lines(Part::Redis, Fault::Reset);
        scene.break_lines(Part::S3, Fault::Reset);
    },
    async |scene: &mut Scene| {
        scene.heal_lines(Part::Redis);
        scene.heal_lines(Part::S3);
    },
);

scenario!(
    an_instance_is_killed_while_postgresql_is_away,
    "PostgreSQL and one of two instances",
    "PostgreSQL is partitioned, the instance killed; both come back",
    Plan::SHARED,
    async |scene: &mut Scene| {
        scene.break_lines(Part::Postgres, Fault::Hole);
        scene.instances[0].kill().await;
    },
    async |scene: &mut Scene| {
        scene.heal_lines(Part::Postgres);
        scene.instances[0].restart().await;
    },
);

long_scenario!(
    an_instance_is_killed_while_postgresql_is_slow,
    "PostgreSQL and one of two instances",
    "PostgreSQL trickles (16 KB/s), the instance is killed; both come back",
    Plan::SHARED,
    async |scene: &mut Scene| {
        scene.break_lines(Part::Postgres, Fault::Trickle(16_000));
        scene.instances[0].kill().await;
    },
    async |scene: &mut Scene| {
        scene.heal_lines(Part::Postgres);
        scene.instances[0].restart().await;
    },
);

long_scenario!(
    an_instance_is_killed_while_redis_is_away,
    "Redis and one of two instances",
    "Redis is paused, the instance killed; both come back",
    Plan::SHARED,
    async |scene: &mut Scene| {
        scene.redis().pause();
        scene.instances[0].kill().await;
    },
    async |scene: &mut Scene| {
        scene.redis().resume();
        scene.instances[0].restart().await;
    },
);

long_scenario!(
    an_instance_is_killed_while_s3_is_away,
    "S3 and one of two instances",
    "S3 is partitioned, the instance killed; both come back",
    Plan::SHARED,
    async |scene: &mut Scene| {
        scene.break_lines(Part::S3, Fault::Hole);
        scene.instances[0].kill().await;
    },
    async |scene: &mut Scene| {
        scene.heal_lines(Part::S3);
        scene.instances[0].restart().await;
    },
);

long_scenario!(
    both_instances_are_killed,
    "both instances",
    "killed (`SIGKILL`), started again",
    Plan::SHARED,
    async |scene: &mut Scene| {
        for instance in &mut scene.instances {
            instance.kill().await;
        }
    },
    async |scene: &mut Scene| {
        for instance in &mut scene.instances {
            instance.restart().await;
        }
    },
);

long_scenario!(
    one_instance_is_paused_and_the_other_killed,
    "both instances",
    "one is paused, the other one killed; both come back",
    Plan::SHARED,
    async |scene: &mut Scene| {
        scene.instances[0].pause();
        scene.instances[1].kill().await;
    },
    async |scene: &mut Scene| {
        scene.instances[0].resume();
        scene.instances[1].restart().await;
    },
);
