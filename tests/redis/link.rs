//! What the link promises: scripts that survive, round trips that are shared, waits that are bounded, recovery by itself.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::join_all;
use penstock::adapters::redis::{Call, RedisLink, RedisSettings, Script};
use penstock_actors::ports::PortError;
use redis::Value;

use crate::refuser::Refuser;
use crate::support::{RedisServer, link, prefix, settings, shared_link, shared_url, single, until};

static COUNT_UP: Script = Script::new("count_up", "return redis.call('INCRBY', KEYS[1], ARGV[1])");
static WRONG: Script = Script::new("wrong", "return redis.call('INCR', KEYS[1], 'too', 'many')");

async fn count_up(link: &RedisLink, key: &str) -> Result<i64, PortError> {
    link.ask(COUNT_UP.on(&[key]).arg(1)).await
}

fn is_unavailable<T>(answer: &Result<T, PortError>) -> bool {
    matches!(answer, Err(PortError::Unavailable { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_and_commands_are_answered_by_type() {
    let (link, metrics) = shared_link().await;
    let key = link.key("count", "one");
    assert!(key.starts_with(link.prefix()) && key.ends_with("count:{one}"));
    assert_eq!(count_up(&link, &key).await.expect("counted"), 1);
    assert_eq!(link.ask::<Option<i64>>(Call::command("get", "GET").key(&key)).await.expect("read"), Some(1));
    let missing = Call::command("get", "GET").key(&link.key("count", "other"));
    assert_eq!(link.ask::<Option<i64>>(missing).await.expect("read"), None);
    let set = Call::command("set", "SET").key(&key).arg("text").arg("PX").arg(60_000);
    link.ask::<()>(set).await.expect("set");
    assert!(matches!(count_up(&link, &key).await, Err(PortError::Rejected { .. })), "not a number");
    assert!(matches!(link.ask::<i64>(WRONG.on(&[&key])).await, Err(PortError::Rejected { .. })));
    link.ping().await.expect("there");
    let page = metrics.render().expect("metrics");
    assert!(page.contains("penstock_redis_commands_total{command=\"count_up\",outcome=\"ok\"} 1"), "{page}");
    assert!(page.contains("penstock_redis_commands_total{command=\"wrong\",outcome=\"error\"} 1"), "{page}");
    assert!(page.contains("penstock_redis_nodes 1") && page.contains("penstock_redis_breakers_open 0"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_made_together_share_a_round_trip_and_fail_one_by_one() {
    let (link, metrics) = shared_link().await;
    let (key, text) = (link.key("count", 1), link.key("count", 2));
    link.ask::<()>(Call::command("set", "SET").key(&text).arg("text").arg("PX").arg(60_000)).await.expect("set");
    count_up(&link, &key).await.expect("the server knows the script");
    let before = metrics.redis.round_trips();
    let calls = [&key, &text, &key].map(|key| COUNT_UP.on(&[key]).arg(1));
    let answers = link.ask_all(calls.into()).await;
    assert_eq!(metrics.redis.round_trips() - before, 1);
    assert!(
        matches!(answers[..], [Ok(Value::Int(2)), Err(PortError::Rejected { .. }), Ok(Value::Int(3))]),
        "{answers:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_during_a_round_trip_goes_out_together() {
    let server = RedisServer::start();
    let (link, metrics) = link(settings(server.servers())).await;
    let key = link.key("count", 1);
    count_up(&link, &key).await.expect("counted");
    let before = metrics.redis.round_trips();
    server.pause();
    let callers: Vec<_> = (0..200)
        .map(|_| {
            let (link, key) = (link.clone(), key.clone());
            tokio::spawn(async move { count_up(&link, &key).await })
        })
        .collect();
    let refused = "penstock_redis_breakers_open 1";
    assert!(!metrics.render().expect("metrics").contains(refused));
    until("all calls are made", async || metrics.redis.round_trips() > before).await;
    tokio::task::yield_now().await;
    server.resume();
    for caller in callers {
        caller.await.expect("no panic").expect("counted");
    }
    assert_eq!(link.ask::<i64>(Call::command("get", "GET").key(&key)).await.expect("read"), 201);
    let trips = metrics.redis.round_trips() - before;
    assert!(trips < 100, "{trips} round trips for 200 calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_waiting_request_is_sent_in_order_with_the_others() {
    let (link, metrics) = shared_link().await;
    let key = link.key("count", 1);
    count_up(&link, &key).await.expect("counted");
    let before = metrics.redis.round_trips();
    for _ in 0..10 {
        // Not awaited, and made all the same.
        drop(link.ask_later::<()>(COUNT_UP.on(&[&key]).arg(1)));
    }
    assert_eq!(count_up(&link, &key).await.expect("counted"), 12, "they were made before");
    assert_eq!(metrics.redis.round_trips() - before, 1);
    assert_eq!(link.ask_later::<i64>(COUNT_UP.on(&[&key]).arg(1)).await.expect("after a few milliseconds"), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_survive_a_restart_and_a_flush_of_scripts() {
    let mut server = RedisServer::start();
    let (link, _metrics) = link(settings(server.servers())).await;
    let key = link.key("count", 1);
    assert_eq!(count_up(&link, &key).await.expect("counted"), 1);
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).expect("flushed");
    assert_eq!(count_up(&link, &key).await.expect("loaded again"), 2);
    server.restart();
    until("it is found again", async || count_up(&link, &key).await.is_ok()).await;
    assert_eq!(count_up(&link, &key).await.expect("counted"), 2, "the counter was lost, the script was not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_costs_no_wait_and_is_found_again() {
    let mut server = RedisServer::start();
    let (link, metrics) = link(settings(server.servers())).await;
    let key = link.key("count", 1);
    count_up(&link, &key).await.expect("counted");
    let mut recoveries = link.recoveries();
    recoveries.mark_unchanged();
    server.kill();
    // With a time-out of half a minute, a single wait in vain would be seen.
    let all = async { join_all((0..1000).map(|_| count_up(&link, &key))).await };
    let answers = tokio::time::timeout(Duration::from_secs(20), all).await.expect("refused at once");
    assert!(answers.iter().all(is_unavailable));
    assert!(!link.is_up());
    assert!(is_unavailable(&link.ping().await));
    assert!(metrics.render().expect("metrics").contains("penstock_redis_breakers_open 1"));
    server.restart();
    recoveries.changed().await.expect("told");
    count_up(&link, &key).await.expect("counted again");
    assert!(metrics.render().expect("metrics").contains("penstock_redis_reconnects_total 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_calls_an_outage_meets_the_server_gets_few_attempts() {
    let free = TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("an address");
    let server = Refuser::at(free);
    let period = Duration::from_secs(1);
    let settings = RedisSettings { breaker_period: period, ..settings(single(&format!("redis://{free}"))) };
    let began = Instant::now();
    let (link, _metrics) = link(settings).await;
    let key = link.key("count", 1);
    for _ in 0..100 {
        let answers = join_all((0..200).map(|_| count_up(&link, &key))).await;
        assert!(answers.iter().all(is_unavailable));
    }
    until("the server has refused again and again", async || server.attempts() > 5).await;
    // Pauses double from 20 ms to the period, which takes six of them.
    let most = 8 + 2 * began.elapsed().as_millis() / period.as_millis();
    let attempts = u128::from(server.attempts());
    assert!(attempts <= most, "{attempts} attempts for 20 000 calls, of at most {most}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_costs_one_wait_at_most_while_the_breaker_is_open() {
    let server = RedisServer::start();
    let patient = settings(server.servers());
    // Long enough that no machine is too busy for it, and a period that the test does not live to see the end of.
    let hour = Duration::from_secs(3600);
    let settings = RedisSettings { response_timeout: Duration::from_secs(2), breaker_period: hour, ..patient };
    let (link, metrics) = link(settings).await;
    let key = link.key("count", 1);
    count_up(&link, &key).await.expect("counted");
    server.pause();
    let answers = join_all((0..100).map(|_| count_up(&link, &key))).await;
    assert!(answers.iter().all(is_unavailable));
    for _ in 0..1000 {
        assert!(is_unavailable(&count_up(&link, &key).await));
    }
    let page = metrics.render().expect("metrics");
    let waited = |outcome: &str| {
        let name = format!("penstock_redis_commands_total{{command=\"count_up\",outcome=\"{outcome}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap_or(0)
    };
    assert!(waited("timeout") <= 100, "{page}");
    assert!(waited("refused") >= 1000, "{page}");
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hung_is_found_again_without_a_request() {
    let server = RedisServer::start();
    let settings = RedisSettings { response_timeout: Duration::from_millis(200), ..settings(server.servers()) };
    let (link, _metrics) = link(settings).await;
    let key = link.key("count", 1);
    server.pause();
    until("its silence is noticed without a request", async || !link.is_up()).await;
    assert!(is_unavailable(&count_up(&link, &key).await));
    server.resume();
    until("it is found again without a request", async || link.is_up()).await;
    until("it serves", async || count_up(&link, &key).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_written_to_is_left_alone() {
    let (main, server) = (RedisServer::start(), RedisServer::start());
    let (link, _metrics) = link(settings(server.servers())).await;
    let key = link.key("count", 1);
    count_up(&link, &key).await.expect("counted");
    let replica_of = |host: &str, port: &str| {
        redis::cmd("REPLICAOF").arg(host).arg(port).exec(&mut server.client()).expect("changed");
    };
    replica_of("127.0.0.1", &main.port().to_string());
    until("it is left alone", async || is_unavailable(&count_up(&link, &key).await) && !link.is_up()).await;
    replica_of("NO", "ONE");
    until("it is found again", async || count_up(&link, &key).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_at_the_start_is_found_when_it_comes() {
    let mut server = RedisServer::start();
    server.kill();
    let settings = RedisSettings { connect_timeout: Duration::from_millis(500), ..settings(server.servers()) };
    let (link, _metrics) = link(settings).await;
    assert!(is_unavailable(&count_up(&link, &link.key("count", 1)).await));
    server.restart();
    until("it is found", async || count_up(&link, &link.key("count", 1)).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_the_queue_full_is_refused_at_once() {
    let server = RedisServer::start();
    let (link, _metrics) = link(RedisSettings { queue: 10, ..settings(server.servers()) }).await;
    let key = link.key("count", 1);
    count_up(&link, &key).await.expect("counted");
    server.pause();
    let calls = (0..100).map(|_| COUNT_UP.on(&[&key]).arg(1)).collect();
    let together = link.ask_all(calls);
    server.resume();
    let answers = together.await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    assert_eq!(answers.iter().filter(|answer| is_unavailable(answer)).count(), 90);
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_keep_installations_apart() {
    let shared = prefix();
    let links = [shared.clone(), shared, prefix()]
        .map(|key_prefix| link(RedisSettings { key_prefix, ..settings(single(&shared_url())) }));
    let links: Vec<_> = join_all(links).await.into_iter().map(|(link, _)| link).collect();
    let mut counts = Vec::new();
    for link in &links {
        counts.push(count_up(link, &link.key("count", 1)).await.expect("counted"));
    }
    assert_eq!(counts, [1, 2, 1]);
}

/// What is logged, line by line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn with(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().expect("whole")).lines().filter(|line| line.contains(text)).count()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// On one thread, so that its log is all there is.
#[tokio::test]
async fn each_change_of_state_is_logged_once() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let mut server = RedisServer::start();
    let (link, _metrics) = link(settings(server.servers())).await;
    let key = link.key("count", 1);
    count_up(&link, &key).await.expect("counted");
    for round in 1..=3 {
        server.kill();
        for _ in 0..100 {
            assert!(is_unavailable(&count_up(&link, &key).await));
        }
        // Several attempts to connect fail.
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.restart();
        until("it is found again", async || count_up(&link, &key).await.is_ok()).await;
        assert_eq!((lines.with("does not serve"), lines.with("serves again")), (round, round));
    }
    assert_eq!(lines.with("WARN"), 3);
    assert_eq!(lines.with("INFO"), 1 + 3);
}
