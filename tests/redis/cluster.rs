//! A cluster: keys find their node, whichever has it, and go on finding it when nodes go and slots move.

use penstock::adapters::redis::{Call, RedisLink, Script};
use penstock_actors::ports::PortError;

use crate::support::{RedisCluster, link, settings, until};

static COUNT_UP: Script = Script::new("count_up", "return redis.call('INCRBY', KEYS[1], ARGV[1])");

/// Keys enough that every master has some.
const KEYS: u64 = 200;

async fn count_all(link: &RedisLink) -> Vec<Result<i64, PortError>> {
    let calls = (0..KEYS).map(|id| COUNT_UP.on(&[&link.key("count", id)]).arg(1)).collect();
    let answers = link.ask_all(calls).await;
    answers.into_iter().map(|answer| Ok(redis::from_redis_value(answer?).expect("a number"))).collect()
}

async fn all_count(link: &RedisLink) -> bool {
    count_all(link).await.iter().all(Result::is_ok)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_find_their_node_before_and_after_a_failover_and_a_move_of_slots() {
    let mut cluster = RedisCluster::start();
    let (link, metrics) = link(settings(cluster.servers())).await;
    assert!(link.is_up());
    assert!(all_count(&link).await);
    let before = metrics.redis.round_trips();
    let counts = count_all(&link).await;
    assert!(counts.iter().all(|count| matches!(count, Ok(2))), "{counts:?}");
    assert_eq!(metrics.redis.round_trips() - before, 3, "one for each master");
    link.ping().await.expect("every master is there");
    assert_eq!(link.nodes().expect("known").len(), 3);
    assert_eq!((link.status().nodes, link.status().open), (6, 0));
    for node in link.nodes().expect("known") {
        let keys: i64 = link.ask_node(&node, Call::command("dbsize", "DBSIZE")).await.expect("counted");
        assert!(keys > 0, "every master has some");
    }

    // A master goes: its keys fail at once until its replica has taken over, and those of the others go on.
    cluster.master_of(0).kill();
    until("the others go on", async || {
        let answers = count_all(&link).await;
        let served = answers.iter().filter(|answer| answer.is_ok()).count();
        served > 0 && served < answers.len()
    })
    .await;
    until("the replica has taken over", async || all_count(&link).await).await;
    until("the link is whole", async || link.is_up()).await;

    // Slots move while they are used.
    let (from, to) = (cluster.master_of(0).port(), cluster.master_of(16383).port());
    let counting = tokio::spawn({
        let link = link.clone();
        async move {
            let mut failed = 0;
            for _ in 0..50 {
                failed += count_all(&link).await.iter().filter(|answer| answer.is_err()).count();
            }
            failed
        }
    });
    move_slots(from, to).await;
    assert_eq!(counting.await.expect("no panic"), 0, "calls were sent on to where their slots went");
    assert!(all_count(&link).await);
}

/// Moves some slots from one master to another.
async fn move_slots(from: u16, to: u16) {
    let id = async |port: u16| -> String {
        let output =
            tokio::process::Command::new("redis-cli").args(["-p", &port.to_string(), "cluster", "myid"]).output();
        String::from_utf8(output.await.expect("asked").stdout).expect("text").trim().to_owned()
    };
    let (from_id, to_id) = (id(from).await, id(to).await);
    let moved = tokio::process::Command::new("redis-cli")
        .args(["--cluster", "reshard", &format!("127.0.0.1:{to}")])
        .args(["--cluster-from", &from_id, "--cluster-to", &to_id, "--cluster-slots", "300", "--cluster-yes"])
        .output()
        .await
        .expect("moved");
    assert!(
        moved.status.success(),
        "{}{}",
        String::from_utf8_lossy(&moved.stdout),
        String::from_utf8_lossy(&moved.stderr)
    );
}
