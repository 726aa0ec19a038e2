//! What holds, whatever happens to ten instances while clients stream from them: no byte and no request goes over a limit, limits are used to
//! their end, and usage rows, windows and what clients received agree to the byte.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use tokio_postgres::Client;

use crate::{
    accounts::{self, Instances},
    clients::{LONG, Request},
    fleet::PATIENCE,
    patience::{eventually, within},
    stage::{Plan, Stage},
};

/// Answers that show that something goes on.
const SOME: u64 = 20;

/// Something happens while clients stream; it names the instances that were killed. Then they use up what is left, the instances stop,
/// and the ledger is compared with what clients received.
async fn holds(plan: Plan, happens: impl AsyncFnOnce(&mut Stage) -> Vec<usize>) {
    let mut stage = Stage::set_up(plan).await;
    stage.clients.are_answered(SOME).await;
    let killed = happens(&mut stage).await;

    let ledger = stage.cluster.client().await;
    stage.clients.flush_now(true);
    all_is_used_up(&ledger, &stage).await;
    all_refuse(&stage).await;
    stage.clients.stop();
    while let Some(task) = stage.tasks.join_next().await {
        task.unwrap();
    }
    let identities = (0..stage.nodes.len()).map(|instance| stage.identity(instance)).collect();
    let instances = Instances { identities, killed };
    let mut last = None;
    for node in stage.nodes.iter_mut().filter(|node| node.is_running()) {
        assert_eq!(node.metric("penstock_usage_dropped_total", "").await, 0.0, "no usage row is lost");
        assert!(node.terminate().await.success(), "it drains and exits with 0");
        last = Some(node);
    }
    // An audit of what they share.
    last.expect("an instance that lives").finish().await;

    let requests = stage.clients.requests();
    for (number, product) in stage.clients.products.iter().enumerate() {
        let requests: Vec<&Request> = requests.iter().filter(|request| request.product == number).collect();
        let accounts = accounts::compare(&ledger, product, &requests, &instances).await;
        // On a busy machine any instance may be late; one that lives on is charged for nothing that no client received.
        let mut lost = accounts.lost.keys();
        let was_killed = |lost: &_| instances.killed.iter().any(|&killed| instances.identities[killed] == *lost);
        assert!(lost.all(was_killed), "only a crash is charged: {accounts:?}");
        eprintln!("{accounts:?}");
    }
}

/// Waits until less is left of each receipt's month than a stream takes.
async fn all_is_used_up(ledger: &Client, stage: &Stage) {
    for product in &stage.clients.products {
        within(PATIENCE, "all of the quota can be had", async || {
            let is_so = accounts::months(ledger, product)
                .await
                .last()
                .is_some_and(|month| accounts::is_used_up(product, month));
            product.used_up.store(is_so, std::sync::atomic::Ordering::SeqCst);
            is_so
        })
        .await;
    }
}

/// Asks each instance for each product until it refuses.
async fn all_refuse(stage: &Stage) {
    for instance in (0..stage.nodes.len()).filter(|&instance| stage.nodes[instance].is_running()) {
        for product in 0..stage.clients.products.len() {
            eventually("the instance refuses", async || stage.clients.ask(instance, product).await).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_instances_without_redis_keep_to_limits_and_charge_what_clients_receive() {
    holds(Plan::default(), async |_| Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_gives_nothing_away_and_charges_nothing_that_was_not_received() {
    let plan = Plan { redis: true, pgbouncer: true, ..Plan::default() };
    holds(plan, async |stage| {
        for instance in 0..stage.nodes.len() {
            stage.is_in_the_middle_of_a_stream(instance).await;
            let node = &mut stage.nodes[instance];
            // Clients go on asking, until it listens no more.
            assert!(node.terminate().await.success(), "it drains and exits with 0");
            node.boot().await;
            stage.clients.place(instance, Some(node.url("")));
            stage.clients.are_answered_by(instance, 1).await;
        }
        Vec::new()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_instances_give_nothing_away_and_their_lost_leases_explain_what_no_row_does() {
    let plan = Plan { short_leases: true, ..Plan::default() };
    holds(plan, async |stage| {
        for instance in [2, 5, 8] {
            stage.is_in_the_middle_of_a_stream(instance).await;
            stage.nodes[instance].kill().await;
            stage.clients.place(instance, None);
            stage.clients.are_answered(SOME).await;
        }
        // One is started again; the others reclaim the leases of those that are not.
        stage.nodes[5].boot().await;
        stage.clients.place(5, Some(stage.nodes[5].url("")));
        stage.clients.are_answered_by(5, 2).await;
        vec![2, 5, 8]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_wake_after_their_leases_are_over_take_nothing_over_a_limit_and_charge_nothing_unsent() {
    const FENCED: &str = "SELECT count(*) FROM ledger_nodes n WHERE node_id = $1 AND fenced AND NOT EXISTS
        (SELECT FROM ledger_nodes later WHERE later.node_id = n.node_id AND later.epoch > n.epoch)";
    let plan = Plan { redis: true, short_leases: true, ..Plan::default() };
    holds(plan, async |stage| {
        let (sleepers, ledger) = ([1, 4, 7], stage.cluster.client().await);
        for instance in sleepers {
            stage.is_in_the_middle_of_a_stream(instance).await;
            stage.nodes[instance].signal(libc::SIGSTOP);
            // These requests wait until it wakes. No other client asks it meanwhile.
            (0..=LONG).for_each(|product| drop(stage.ask(instance, product)));
            stage.clients.place(instance, None);
        }
        for instance in sleepers {
            let identity = stage.identity(instance);
            eventually("another instance reclaims its leases", async || {
                ledger.query_one(FENCED, &[&identity]).await.unwrap().get::<_, i64>(0) == 1
            })
            .await;
        }
        stage.clients.are_answered(SOME).await;
        for instance in sleepers {
            stage.nodes[instance].signal(libc::SIGCONT);
            stage.clients.place(instance, Some(stage.nodes[instance].url("")));
        }
        for instance in sleepers {
            stage.clients.are_answered_by(instance, 2).await;
        }
        Vec::new()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_and_restarted_loses_no_usage_and_counts_none_twice() {
    let plan = Plan { pgbouncer: true, ..Plan::default() };
    holds(plan, async |stage| {
        for _ in 0..2 {
            let before = stage.clients.unavailable();
            stage.cluster.kill();
            eventually("an instance needs the ledger", async || stage.clients.unavailable() > before).await;
            stage.cluster.boot().await;
            stage.clients.are_answered(SOME).await;
        }
        Vec::new()
    })
    .await;
}

/// The first moment of the month after the next one begins.
fn turn_of_a_month() -> Timestamp {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let turn = today.first_of_month().saturating_add(2.months());
    turn.to_zoned(TimeZone::UTC).unwrap().timestamp()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_that_turns_while_clients_stream_has_its_limits_and_the_next_one_has_its_own() {
    let turn = turn_of_a_month();
    let plan = Plan {
        time: Some(turn - 10.minutes()),
        settings: &[
            // The clock of the database alone decides, however far from it those of the instances are.
            ("PENSTOCK_CLOCK__MAX_SKEW", "100days"),
            ("PENSTOCK_QUOTA__HEARTBEAT", "1s"),
            // No lease runs out when the end of the month is set.
            ("PENSTOCK_QUOTA__LEASE_TTL", "1h"),
        ],
        ..Plan::default()
    };
    holds(plan, async |stage| {
        let ledger = stage.cluster.client().await;
        let (clients, instances) = (stage.clients.clone(), stage.nodes.len());
        // Two products are used up; of the long one something is left.
        stage.clients.flush_now(true);
        for product in &clients.products[..LONG] {
            within(PATIENCE, "the month is used up", async || {
                accounts::months(&ledger, product)
                    .await
                    .last()
                    .is_some_and(|month| accounts::is_used_up(product, month))
            })
            .await;
        }
        stage.clients.flush_now(false);
        stage.clock.as_ref().unwrap().set(turn - 3.seconds());
        let passes = async |time| {
            within(PATIENCE, "the database's time comes", async || {
                let now: Timestamp = ledger.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0);
                now >= time
            })
            .await;
        };
        // Of these streams some begin in the old month and end in the new one.
        passes(turn - 500.milliseconds()).await;
        (0..instances).for_each(|instance| drop(stage.ask(instance, LONG)));
        passes(turn).await;
        for product in &clients.products {
            eventually("the new month is used", async || accounts::months(&ledger, product).await.len() == 2).await;
        }
        Vec::new()
    })
    .await;
}
