//! Faults of PostgreSQL, of Redis and of S3, for all instances.

use std::time::Duration;

use crate::{
    proxy::Fault,
    scene::{Part, Plan, Scene},
};

const S3_OF_ITS_OWN: Plan = Plan { own_s3: true, ..Plan::SHARED };

scenario!(
    postgresql_is_killed,
    "PostgreSQL",
    "killed (`SIGKILL`), started again",
    Plan::SHARED,
    async |scene: &mut Scene| scene.postgres().kill(),
    async |scene: &mut Scene| scene.postgres().boot().await,
);

long_scenario!(
    postgresql_is_paused,
    "PostgreSQL",
    "paused (`SIGSTOP`)",
    Plan::SHARED,
    async |scene: &mut Scene| scene.postgres().pause(),
    async |scene: &mut Scene| scene.postgres().resume(),
);

scenario!(
    postgresql_is_in_a_hole,
    "PostgreSQL",
    "partitioned: connections stay, nothing passes",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::Postgres, Fault::Hole),
    async |scene: &mut Scene| scene.heal_lines(Part::Postgres),
);

long_scenario!(
    postgresql_resets,
    "PostgreSQL",
    "each connection is reset",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::Postgres, Fault::Reset),
    async |scene: &mut Scene| scene.heal_lines(Part::Postgres),
);

long_scenario!(
    postgresql_is_half_in_a_hole,
    "PostgreSQL",
    "every second connection hangs",
    Plan::SHARED,
    async |scene: &mut Scene| {
        scene.instances.iter().for_each(|instance| instance.line(Part::Postgres).set_for_one_in(2, Fault::Hole));
    },
    async |scene: &mut Scene| scene.heal_lines(Part::Postgres),
);

long_scenario!(
    postgresql_is_far_away,
    "PostgreSQL",
    "slow: each packet 300 ms later",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::Postgres, Fault::Delay(Duration::from_millis(300))),
    async |scene: &mut Scene| scene.heal_lines(Part::Postgres),
);

long_scenario!(
    postgresql_trickles,
    "PostgreSQL",
    "slow: 16 KB/s for each connection",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::Postgres, Fault::Trickle(16_000)),
    async |scene: &mut Scene| scene.heal_lines(Part::Postgres),
);

long_scenario!(
    postgresql_loses_answers,
    "PostgreSQL",
    "each seventh answer is lost with its connection",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::Postgres, Fault::LoseAnswers(7)),
    async |scene: &mut Scene| scene.heal_lines(Part::Postgres),
);

scenario!(
    redis_is_killed,
    "Redis",
    "killed (`SIGKILL`), started again empty",
    Plan::SHARED,
    async |scene: &mut Scene| scene.redis().kill(),
    async |scene: &mut Scene| scene.redis().restart(),
);

long_scenario!(
    redis_is_paused,
    "Redis",
    "paused (`SIGSTOP`)",
    Plan::SHARED,
    async |scene: &mut Scene| scene.redis().pause(),
    async |scene: &mut Scene| scene.redis().resume(),
);

long_scenario!(
    redis_is_in_a_hole,
    "Redis",
    "partitioned: connections stay, nothing passes",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::Redis, Fault::Hole),
    async |scene: &mut Scene| scene.heal_lines(Part::Redis),
);

long_scenario!(
    redis_resets,
    "Redis",
    "each connection is reset",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::Redis, Fault::Reset),
    async |scene: &mut Scene| scene.heal_lines(Part::Redis),
);

long_scenario!(
    redis_is_far_away,
    "Redis",
    "slow: each packet 100 ms later",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::Redis, Fault::Delay(Duration::from_millis(100))),
    async |scene: &mut Scene| scene.heal_lines(Part::Redis),
);

long_scenario!(
    s3_is_killed,
    "S3",
    "killed (`SIGKILL`), started again",
    S3_OF_ITS_OWN,
    async |scene: &mut Scene| scene.s3().kill(),
    async |scene: &mut Scene| scene.s3().restart(),
);

long_scenario!(
    s3_is_paused,
    "S3",
    "paused (`SIGSTOP`)",
    S3_OF_ITS_OWN,
    async |scene: &mut Scene| scene.s3().pause(),
    async |scene: &mut Scene| scene.s3().resume(),
);

scenario!(
    s3_is_in_a_hole,
    "S3",
    "partitioned: connections stay, nothing passes",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::S3, Fault::Hole),
    async |scene: &mut Scene| scene.heal_lines(Part::S3),
);

long_scenario!(
    s3_resets,
    "S3",
    "each connection is reset",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::S3, Fault::Reset),
    async |scene: &mut Scene| scene.heal_lines(Part::S3),
);

long_scenario!(
    s3_trickles,
    "S3",
    "slow: 500 KB/s for each connection",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::S3, Fault::Trickle(500_000)),
    async |scene: &mut Scene| scene.heal_lines(Part::S3),
);

long_scenario!(
    s3_is_far_away,
    "S3",
    "slow: each packet 200 ms later",
    Plan::SHARED,
    async |scene: &mut Scene| scene.break_lines(Part::S3, Fault::Delay(Duration::from_millis(200))),
    async |scene: &mut Scene| scene.heal_lines(Part::S3),
);
