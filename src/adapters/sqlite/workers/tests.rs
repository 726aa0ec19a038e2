//! The promises of the threads, whatever the jobs do.

use std::task::Poll;

use futures::{
    FutureExt as _, StreamExt as _,
    future::{join_all, join3},
    stream::FuturesUnordered,
};

use super::{
    super::{quota_policies, testing::Database},
    *,
};

fn start(database: &Database) -> Workers {
    Workers::start(&database.settings, Arc::clone(&database.metrics)).expect("threads")
}

/// Creates a table for numbers.
fn with_numbers(database: &Database) {
    database.raw().execute_batch("CREATE TABLE numbers (number INTEGER PRIMARY KEY) STRICT").expect("a table");
}

fn insert(conn: &Connection, number: i64) -> Result<(), JobFailure> {
    conn.execute("INSERT INTO numbers VALUES (?1)", [number])?;
    Ok(())
}

fn numbers(conn: &Connection) -> Result<Vec<i64>, JobFailure> {
    let mut statement = conn.prepare("SELECT number FROM numbers ORDER BY number")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

#[tokio::test]
async fn a_job_that_fails_or_panics_undoes_only_itself() {
    let database = Database::new();
    with_numbers(&database);
    let workers = start(&database);
    // While another connection holds the write lock, the jobs gather into one transaction.
    let other = database.raw();
    other.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    let jobs = join3(
        workers.write("one", |conn| insert(conn, 1)),
        workers.write("two", |conn| -> Result<(), JobFailure> {
            insert(conn, 2)?;
            panic!("a bug in a job")
        }),
        workers.write("three", |conn| insert(conn, 3).and_then(|()| insert(conn, 3))),
    );
    tokio::pin!(jobs);
    assert!(jobs.as_mut().now_or_never().is_none(), "the lock is held");
    other.execute_batch("ROLLBACK").expect("the lock is given back");
    let (one, two, three) = jobs.await;
    one.expect("the first is committed");
    assert!(matches!(two, Err(PortError::Unavailable { .. })), "{two:?}");
    assert!(matches!(three, Err(PortError::Rejected { .. })), "{three:?}");
    workers.write("four", |conn| insert(conn, 4)).await.expect("the thread lives");
    assert_eq!(workers.read("numbers", numbers).await.expect("numbers"), [1, 4]);
}

#[tokio::test]
async fn a_panic_does_not_end_a_reader() {
    let database = Database::new();
    let workers = start(&database);
    // More panics than readers.
    for _ in 0..2 * database.settings.readers {
        let panicked = workers.read("panics", |_| -> Result<(), JobFailure> { panic!("a bug in a job") }).await;
        assert!(matches!(panicked, Err(PortError::Unavailable { .. })), "{panicked:?}");
    }
    assert_eq!(workers.read("policies", |conn| Ok(quota_policies::all(conn)?)).await.expect("policies").len(), 4);
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let database = Database::new();
    with_numbers(&database);
    let workers = start(&database);
    assert!(workers.read("insert", |conn| insert(conn, 1)).await.is_err());
    assert_eq!(workers.read("numbers", numbers).await.expect("numbers"), [0_i64; 0]);
}

#[tokio::test]
async fn a_full_queue_answers_and_loses_nothing_that_it_took() {
    let database = Database::new();
    with_numbers(&database);
    let workers = start(&database);
    let other = database.raw();
    other.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    let jobs = (QUEUE_JOBS + GROUP_JOBS + 1) as i64;
    let mut answers: FuturesUnordered<_> =
        (1..=jobs).map(|number| workers.write("insert", move |conn| insert(conn, number))).collect();
    let refused = answers.next().await.expect("an answer");
    let Err(PortError::Unavailable { retry_after, .. }) = refused else { panic!("there was no room: {refused:?}") };
    assert_eq!(retry_after, Some(QUEUE_WAIT));
    other.execute_batch("ROLLBACK").expect("the lock is given back");
    let mut taken = 0;
    while let Some(answer) = answers.next().await {
        taken += usize::from(answer.is_ok());
    }
    assert!(taken >= QUEUE_JOBS);
    assert_eq!(workers.read("numbers", numbers).await.expect("numbers").len(), taken);
}

#[tokio::test]
async fn a_call_behind_too_many_that_wait_is_refused_at_once() {
    let database = Database::new();
    with_numbers(&database);
    let workers = start(&database);
    let other = database.raw();
    other.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    let most = QUEUE_JOBS + GROUP_JOBS + QUEUE_CALLERS;
    let (mut waiting, mut refused) = (Vec::new(), 0);
    for number in 0..most as i64 + 100 {
        let mut call = Box::pin(workers.write("insert", move |conn| insert(conn, number)));
        match futures::poll!(call.as_mut()) {
            Poll::Pending => waiting.push(call),
            Poll::Ready(Err(PortError::Unavailable { retry_after: Some(_), .. })) => refused += 1,
            Poll::Ready(answer) => panic!("the lock is held: {answer:?}"),
        }
    }
    assert!(refused >= 100 && waiting.len() >= QUEUE_CALLERS, "{refused} refused, {} wait", waiting.len());
    other.execute_batch("ROLLBACK").expect("the lock is given back");
    let taken = join_all(waiting).await.into_iter().filter(Result::is_ok).count();
    assert!(taken >= QUEUE_JOBS);
    assert_eq!(workers.read("numbers", numbers).await.expect("numbers").len(), taken);
}

#[tokio::test]
async fn a_full_disk_is_said_and_room_ends_it() {
    let database = Database::new();
    with_numbers(&database);
    let workers = start(&database);
    let allow = |pages: u32| {
        move |conn: &Connection| Ok(conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?)
    };
    // The smallest limit that SQLite accepts is the present size of the file.
    workers.write("allow", allow(1)).await.expect("no room");
    let fill = |conn: &Connection| {
        conn.execute_batch("CREATE TABLE large AS SELECT zeroblob(1000000)")?;
        Ok(())
    };
    let full = workers.write("fill", fill).await;
    assert!(matches!(full, Err(PortError::Full(_))), "{full:?}");
    workers.write("allow", allow(u32::MAX - 1)).await.expect("room");
    workers.write("fill", fill).await.expect("there is room again");
}

#[tokio::test]
async fn every_call_is_counted_once() {
    let database = Database::new();
    with_numbers(&database);
    let registry = prometheus::Registry::new();
    let metrics = Arc::new(DbMetrics::new(&registry).expect("metrics"));
    let workers = Workers::start(&database.settings, metrics).expect("threads");
    for number in [1, 1, 2] {
        let _ = workers.write("insert", move |conn| insert(conn, number)).await;
    }
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("metrics");
    assert!(text.contains(r#"penstock_db_queries_total{outcome="ok",statement="insert"} 2"#), "{text}");
    assert!(text.contains(r#"penstock_db_queries_total{outcome="error",statement="insert"} 1"#), "{text}");
}

#[tokio::test]
async fn dropping_the_threads_finishes_the_queue_and_closes_the_file() {
    let database = Database::new();
    with_numbers(&database);
    let workers = start(&database);
    let mut answers: FuturesUnordered<_> =
        (1..=10).map(|number| workers.write("insert", move |conn| insert(conn, number))).collect();
    // One poll of each queues it; the callers then leave.
    let _ = answers.next().now_or_never();
    drop(answers);
    drop(workers);
    let log = database.settings.path.with_extension("db-wal");
    assert!(!log.exists(), "the last connection to close writes the log back and removes it");
    assert_eq!(numbers(&database.raw()).expect("numbers").len(), 10);
}
