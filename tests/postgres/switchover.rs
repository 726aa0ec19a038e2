//! Several servers, of which one takes writes: which one is used, and what becomes of connections to the others.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use penstock::adapters::postgres::{PostgresSettings, PostgresStore, migrate};
use penstock_actors::{
    ids::NodeId,
    model::NodeEpoch,
    ports::{Ledger as _, PortError, PortResult, Receipts as _, Upkeep as _},
};
use socket2::{Domain, Socket, Type};
use tokio_postgres::Config;

use crate::{
    cluster::Cluster,
    patience::eventually,
    proxy::Proxy,
    support::{generous, store},
};

fn address(cluster: &Cluster) -> SocketAddr {
    ([127, 0, 0, 1], cluster.port()).into()
}

/// By way of these addresses, one after the other.
fn by(addresses: &[SocketAddr]) -> Config {
    let mut config = Config::new();
    for address in addresses {
        config.host(address.ip().to_string()).port(address.port());
    }
    config.user("postgres").dbname("postgres");
    config
}

/// Something that the ledger writes.
async fn writes(store: &PostgresStore) -> PortResult<()> {
    let node = NodeEpoch { node: NodeId::random(), epoch: 1 };
    store.heartbeat(node, Duration::from_secs(60)).await.map(drop)
}

async fn connections(cluster: &Cluster) -> i64 {
    const CONNECTED: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'penstock'";
    cluster.client().await.query_one(CONNECTED, &[]).await.expect("counted").get(0)
}

/// Has a running server take no more writes, on the connections that are open too.
async fn only_reads(cluster: &Cluster, is_so: bool) {
    let client = cluster.client().await;
    client.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {is_so}")).await.expect("set");
    client.batch_execute("SELECT pg_reload_conf()").await.expect("told");
}

async fn promote(replica: &Cluster) {
    let client = replica.client().await;
    client.batch_execute("SELECT pg_promote(true)").await.expect("promoted");
    eventually("it takes writes", async || {
        let recovering = client.query_one("SELECT pg_is_in_recovery()", &[]).await.expect("an answer");
        !recovering.get::<_, bool>(0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_is_replaced_by_the_server_that_the_name_resolves_to() {
    let old = Cluster::start(&[]).await;
    migrate(&generous(old.config())).await.expect("migrated");
    let new = old.replica().await;
    let name = Proxy::started(address(&old)).await;
    let settings = PostgresSettings { pool_min: 3, ..generous(by(&[name.address()])) };
    let (store, _metrics) = store(settings).await;
    writes(&store).await.expect("the old server takes writes");
    assert_eq!((store.pool_status().size, connections(&old).await), (3, 3));

    // The connections to it stay open, and reads on them succeed.
    only_reads(&old, true).await;
    eventually("a write fails", async || writes(&store).await.is_err()).await;
    assert_eq!(store.pool_status().size, 0, "none of them is used for anything else");
    for _ in 0..3 {
        assert!(matches!(store.ping().await, Err(PortError::Unavailable { .. })), "it answers, and is of no use");
        assert!(matches!(store.policies().await, Err(PortError::Unavailable { .. })));
    }
    assert!(store.keep_warm().await.is_err(), "nor is it kept for later");
    eventually("all are closed", async || connections(&old).await == 0).await;

    promote(&new).await;
    name.lead_to(address(&new));
    for _ in 0..5 {
        writes(&store).await.expect("the new server takes writes");
    }
    store.ping().await.expect("all is well");
    store.keep_warm().await.expect("there are connections again");
    assert_eq!((connections(&new).await, connections(&old).await), (3, 0));

    // As after a switchover by which nobody wrote anything meanwhile: the look finds it.
    only_reads(&new, true).await;
    eventually("a look finds it", async || store.ping().await.is_err()).await;
    assert_eq!(store.pool_status().size, 0);
    only_reads(&new, false).await;
    eventually("and finds it well again", async || store.ping().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_the_writable_one_is_used_in_any_order() {
    let mut old = Cluster::start(&[]).await;
    migrate(&generous(old.config())).await.expect("migrated");
    let new = old.replica().await;
    let (standby_first, primary_first) = ([address(&new), address(&old)], [address(&old), address(&new)]);
    let (one, _metrics) = store(generous(by(&standby_first))).await;
    let (other, _metrics) = store(generous(by(&primary_first))).await;
    migrate(&generous(by(&standby_first))).await.expect("nothing to do");
    for store in [&one, &other] {
        writes(store).await.expect("the primary takes writes");
    }

    old.kill();
    promote(&new).await;
    for store in [&one, &other] {
        eventually("the new primary is found", async || writes(store).await.is_ok()).await;
    }
    // The old one comes back as a standby.
    old.put("standby.signal", "");
    old.boot().await;
    for store in [&one, &other] {
        store.keep_warm().await.expect("connections");
        writes(store).await.expect("the new primary takes writes");
    }
    assert_eq!(connections(&old).await, 0);
}

/// An address that answers nothing, as a machine without power: its queue is full, so Linux drops what asks for a connection.
fn hole() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("a free port");
    listener.listen(0).expect("listening");
    let address = listener.local_addr().expect("an address");
    let mut held = vec![listener];
    for _ in 0..4 {
        let waiting = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        waiting.set_nonblocking(true).expect("set");
        // It waits in the queue, or for a place in it.
        let _ = waiting.connect(&address);
        held.push(waiting);
    }
    let address = address.as_socket().expect("an address");
    while TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok() {}
    (address, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_swallows_what_it_is_sent_leaves_time_for_the_next_one() {
    let server = Cluster::start(&[]).await;
    let (hole, _held) = hole();
    // It takes connections, as a server that hangs does, and says nothing.
    let mute = TcpListener::bind("127.0.0.3:0").expect("a free port");
    let mute = mute.local_addr().map(|at| (at, mute)).expect("an address");
    let ways = by(&[hole, mute.0, address(&server)]);
    let settings = PostgresSettings { create_timeout: Duration::from_secs(9), ..generous(ways) };
    migrate(&settings).await.expect("migrated");
    let (store, _metrics) = store(settings).await;
    writes(&store).await.expect("the one that lives is reached");

    let hasty = PostgresSettings { create_timeout: Duration::from_secs(2), ..generous(by(&[hole, mute.0])) };
    let error = migrate(&hasty).await.expect_err("nobody answers").to_string();
    for address in [hole, mute.0] {
        assert!(error.contains(&format!("{address}: no answer within")), "each is named: {error}");
    }
}
