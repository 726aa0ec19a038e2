//! Rate limits in Redis: what the port promises, on one server and on a cluster, and what becomes of the keys.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures::future::join_all;
use penstock::adapters::redis::{RedisLink, RedisRateLimits};
use penstock_actors::{
    model::{Client, Subject, rate_window::CountRequest},
    ports::{PortError, RateLimits},
    testkit::rate_limits_suite,
};
use redis::Commands as _;

use crate::support::{RedisCluster, RedisServer, link, settings, shared_link, until};

/// Long enough for a few calls in the rest of one, also on a busy machine.
const WINDOW: Duration = Duration::from_secs(2);

fn limits(link: &RedisLink) -> RedisRateLimits {
    RedisRateLimits::new(link.clone(), format_args!("{}rate:", link.prefix()), WINDOW)
}

fn subject(number: u32) -> Subject {
    Subject { class: "streaming", client: Client::at(IpAddr::V4(number.into())) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counters_keep_what_the_port_promises() {
    let (link, _metrics) = shared_link().await;
    rate_limits_suite::run(Arc::new(limits(&link)), WINDOW, tokio::time::sleep).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_one_round_trip_and_two_links_count_together() {
    let ((one, metrics), (other, _other_metrics)) = (shared_link().await, shared_link().await);
    let prefix = format!("{}rate:", one.prefix());
    let on = |link: &RedisLink| RedisRateLimits::new(link.clone(), &prefix, Duration::from_hours(1));
    let (one, other) = (on(&one), on(&other));
    one.take(&subject(1), CountRequest::one(10)).await.expect("the server knows the script now");
    let before = metrics.redis.round_trips();
    assert_eq!(
        one.take(&subject(1), CountRequest { limit: 10, need: 5, spare_parts: 2 }).await.expect("counted").granted,
        7
    );
    assert_eq!(metrics.redis.round_trips() - before, 1);
    assert_eq!(
        other.take(&subject(1), CountRequest { limit: 10, need: 5, spare_parts: 2 }).await.expect("counted").granted,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_by_themselves_and_survive_neither_a_flush_nor_a_stranger() {
    let server = RedisServer::start();
    let (link, _metrics) = link(settings(server.servers())).await;
    let (limits, key) = (limits(&link), format!("{}rate:{}", link.prefix(), subject(1)));
    let mut client = server.client();
    assert_eq!(limits.take(&subject(1), CountRequest::one(1)).await.expect("counted").granted, 1);
    let left: i64 = client.pttl(&key).expect("a time to live");
    assert!((1..=2 * WINDOW.as_millis() as i64).contains(&left), "{left}");
    server.flush();
    assert_eq!(limits.take(&subject(1), CountRequest::one(1)).await.expect("counted").granted, 1);
    client.set::<_, _, ()>(&key, "what is this").expect("set");
    assert_eq!(limits.take(&subject(1), CountRequest::one(1)).await.expect("counted").granted, 1);
    client.del::<_, ()>(&key).expect("deleted");
    client.rpush::<_, _, ()>(&key, "a list").expect("pushed");
    assert!(matches!(limits.take(&subject(1), CountRequest::one(1)).await, Err(PortError::Rejected { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_clock_is_set_back_time_stands_still_for_two_windows_at_most() {
    let server = RedisServer::start();
    let (link, _metrics) = link(settings(server.servers())).await;
    let (limits, key) = (limits(&link), format!("{}rate:{}", link.prefix(), subject(1)));
    // As a server with a clock in the far future would have written it.
    let mut client = server.client();
    client.pset_ex::<_, _, ()>(&key, "999999999999:0:3", 2 * WINDOW.as_millis() as u64).expect("set");
    let grant = limits.take(&subject(1), CountRequest { limit: 5, need: 5, spare_parts: 0 }).await.expect("counted");
    assert_eq!((grant.granted, grant.valid_for), (2, WINDOW));
    until("the key is gone", async || {
        limits.take(&subject(1), CountRequest { limit: 5, need: 5, spare_parts: 0 }).await.expect("counted").granted
            == 5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster_subjects_are_spread_and_each_is_counted_in_one_place() {
    let cluster = RedisCluster::start();
    let (link, _metrics) = link(settings(cluster.servers())).await;
    let limits = RedisRateLimits::new(link.clone(), link.prefix(), Duration::from_hours(1));
    let take = async |number| limits.take(&subject(number), CountRequest::one(1)).await.expect("counted").granted;
    for expected in [1, 0] {
        let granted = join_all((0..100).map(&take)).await;
        assert!(granted.iter().all(|granted| *granted == expected), "{granted:?}");
    }
}
