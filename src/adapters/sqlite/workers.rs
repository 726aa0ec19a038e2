//! The threads that own the connections.
//!
//! SQLite blocks, so no connection is ever used on a thread that serves requests. One thread owns the connection that
//! writes, because SQLite has one writer anyway and waiting in a queue is better than contending for its lock; a few
//! threads own read-only connections. A call becomes a [`Job`], goes through a bounded queue, and is answered over a
//! oneshot channel.
//!
//! The writer commits waiting jobs together: one transaction, one savepoint per job, one sync for all of them. A job
//! that fails or panics rolls back its own savepoint only. No job is answered before the commit.
//!
//! When the queue stays full for [`QUEUE_WAIT`], or [`QUEUE_CALLERS`] already wait for room in it, the call fails as
//! `Unavailable`. When the last [`Workers`] is dropped, the threads finish the queued jobs and close their connections.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use penstock_actors::ports::{PortError, PortResult};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{
    Semaphore,
    mpsc::{
        self,
        error::{SendError, TrySendError},
    },
    oneshot,
};

use super::{
    DatabaseFile, SqliteSettings, connection,
    error::{DEPENDENCY, JobFailure, port_error},
};
use crate::telemetry::DbMetrics;

/// Jobs that may wait for a thread. The largest, a batch of 1,000 usage rows, holds about 200 KiB, and few jobs have
/// that size: so this bounds the waiting memory to a few MiB, and at 1 ms per job the wait to an eighth of a second.
const QUEUE_JOBS: usize = 128;

/// Jobs in one transaction: enough to share the sync, few enough that the first does not wait long for the last.
const GROUP_JOBS: usize = 32;

/// Calls that may wait for room in the queue; further ones are refused at once, because at 1 ms per job they would only wait in vain
/// for [`QUEUE_WAIT`].
const QUEUE_CALLERS: usize = 1024;

/// How long a call waits for room in the queue: longer than a slow sync, shorter than a client's patience.
const QUEUE_WAIT: Duration = Duration::from_secs(1);

/// A queued call.
trait Job: Send {
    /// Does the work; returns whether it may be committed.
    fn run(&mut self, conn: &Connection) -> bool;

    /// Answers the caller, once the result of the commit is known.
    fn answer(self: Box<Self>, committed: Result<(), &rusqlite::Error>);
}

/// A unit of work with its caller.
struct Call<F, T> {
    statement: &'static str,
    /// The time of the call, so that the measured time includes the time in the queue.
    began: Instant,
    metrics: Arc<DbMetrics>,
    work: Option<F>,
    result: Option<PortResult<T>>,
    reply: oneshot::Sender<PortResult<T>>,
}

impl<F, T> Job for Call<F, T>
where
    F: FnOnce(&Connection) -> Result<T, JobFailure> + Send,
    T: Send,
{
    fn run(&mut self, conn: &Connection) -> bool {
        let Some(work) = self.work.take() else { return false };
        // The connection is intact after a panic: the rollback of the savepoint removes the job's effects.
        let result = catch_unwind(AssertUnwindSafe(|| work(conn))).unwrap_or_else(|_| {
            tracing::error!(
                statement = self.statement,
                "a database job panicked; its changes are rolled back and its caller gets an error"
            );
            Err(PortError::unavailable(DEPENDENCY, "the job panicked").into())
        });
        self.result.insert(result.map_err(PortError::from)).is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<(), &rusqlite::Error>) {
        let result = match (self.result, committed) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (_, Err(error)) => Err(not_committed(error)),
            (None, Ok(())) => Err(PortError::unavailable(DEPENDENCY, "the job was not run")),
        };
        self.metrics.query_finished(self.statement, self.began, result.is_ok());
        // The caller may have gone.
        let _ = self.reply.send(result);
    }
}

/// The error concerns the whole group, so each of its jobs gets its text. It says nothing about the input of any one
/// job: a constraint is checked in the job that violates it.
fn not_committed(error: &rusqlite::Error) -> PortError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => PortError::Full("the database"),
        _ => PortError::unavailable(DEPENDENCY, error.to_string()),
    }
}

/// The threads and their queues.
pub(super) struct Workers {
    queues: Option<Queues>,
    threads: Vec<JoinHandle<()>>,
    file: Arc<DatabaseFile>,
    metrics: Arc<DbMetrics>,
    /// For calls that wait for room.
    callers: Semaphore,
    /// Whether a write has failed since the last proof that writes work.
    is_write_in_doubt: AtomicBool,
}

struct Queues {
    writes: mpsc::Sender<Box<dyn Job>>,
    reads: mpsc::Sender<Box<dyn Job>>,
}

impl Workers {
    pub(super) fn start(settings: &SqliteSettings, metrics: Arc<DbMetrics>) -> PortResult<Self> {
        let file = DatabaseFile::of(&settings.path).map_err(|error| PortError::unavailable(DEPENDENCY, error))?;
        let file = Arc::new(file);
        let (writes, write_jobs) = mpsc::channel(QUEUE_JOBS);
        let (reads, read_jobs) = mpsc::channel(QUEUE_JOBS);
        let mut workers = Self {
            queues: Some(Queues { writes, reads }),
            threads: Vec::new(),
            file: Arc::clone(&file),
            metrics,
            callers: Semaphore::new(QUEUE_CALLERS),
            is_write_in_doubt: AtomicBool::new(false),
        };
        let writer = connection::open_writer(settings).map_err(port_error)?;
        workers.spawn("sqlite-writer".to_owned(), move || serve_writes(&writer, &file, write_jobs))?;
        // The readers share one queue: a free reader holds the lock and waits for the next job.
        let read_jobs = Arc::new(Mutex::new(read_jobs));
        for number in 0..settings.readers.max(1) {
            let reader = connection::open_reader(settings).map_err(port_error)?;
            let jobs = Arc::clone(&read_jobs);
            workers.spawn(format!("sqlite-read-{number}"), move || serve_reads(&reader, &jobs))?;
        }
        Ok(workers)
    }

    /// The file of the connections.
    pub(super) const fn file(&self) -> &Arc<DatabaseFile> {
        &self.file
    }

    fn spawn(&mut self, name: String, serve: impl FnOnce() + Send + 'static) -> PortResult<()> {
        let thread =
            thread::Builder::new().name(name).spawn(serve).map_err(|e| PortError::unavailable(DEPENDENCY, e))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Runs `work` on the writer, in a transaction of its own part only.
    pub(super) async fn write<T, F>(&self, statement: &'static str, work: F) -> PortResult<T>
    where
        F: FnOnce(&Connection) -> Result<T, JobFailure> + Send + 'static,
        T: Send + 'static,
    {
        let written = self.submit(self.queues.as_ref().map(|queues| &queues.writes), statement, work).await;
        if matches!(written, Err(PortError::Full(_) | PortError::Unavailable { .. })) {
            self.is_write_in_doubt.store(true, Relaxed);
        }
        written
    }

    /// Whether a write has failed, on a full disk for example, since [`writes_work`](Self::writes_work).
    pub(super) fn is_write_in_doubt(&self) -> bool {
        self.is_write_in_doubt.load(Relaxed)
    }

    /// Ends the doubt: a write has succeeded.
    pub(super) fn writes_work(&self) {
        self.is_write_in_doubt.store(false, Relaxed);
    }

    /// Runs `work` on a reader, in one snapshot.
    pub(super) async fn read<T, F>(&self, statement: &'static str, work: F) -> PortResult<T>
    where
        F: FnOnce(&Connection) -> Result<T, JobFailure> + Send + 'static,
        T: Send + 'static,
    {
        self.submit(self.queues.as_ref().map(|queues| &queues.reads), statement, work).await
    }

    async fn submit<T, F>(
        &self,
        queue: Option<&mpsc::Sender<Box<dyn Job>>>,
        statement: &'static str,
        work: F,
    ) -> PortResult<T>
    where
        F: FnOnce(&Connection) -> Result<T, JobFailure> + Send + 'static,
        T: Send + 'static,
    {
        let closed = || PortError::unavailable(DEPENDENCY, "the database is closed");
        let began = Instant::now();
        let Some(place) = self.place(queue.ok_or_else(closed)?).await else {
            self.metrics.query_finished(statement, began, false);
            return Err(PortError::Unavailable {
                dependency: DEPENDENCY,
                retry_after: Some(QUEUE_WAIT),
                source: "too many calls already wait for a database thread".into(),
            });
        };
        let (reply, answer) = oneshot::channel();
        let metrics = Arc::clone(&self.metrics);
        place.map_err(|_| closed())?.send(Box::new(Call {
            statement,
            began,
            metrics,
            work: Some(work),
            result: None,
            reply,
        }));
        answer.await.map_err(|_| closed())?
    }

    /// Room in a queue, or the news that the queue is closed; `None` when there is no room for too long, or too many calls wait for it.
    async fn place<'a>(
        &self,
        queue: &'a mpsc::Sender<Box<dyn Job>>,
    ) -> Option<Result<mpsc::Permit<'a, Box<dyn Job>>, SendError<()>>> {
        match queue.try_reserve() {
            Ok(place) => return Some(Ok(place)),
            Err(TrySendError::Closed(())) => return Some(Err(SendError(()))),
            Err(TrySendError::Full(())) => {}
        }
        let _waiting = self.callers.try_acquire().ok()?;
        tokio::time::timeout(QUEUE_WAIT, queue.reserve()).await.ok()
    }
}

impl Drop for Workers {
    /// Waits for the threads, so that the file is closed and its log checkpointed when this returns.
    fn drop(&mut self) {
        self.queues = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a database thread panicked; its connection was not closed in order");
            }
        }
    }
}

fn serve_writes(conn: &Connection, file: &DatabaseFile, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    let mut group = Vec::with_capacity(GROUP_JOBS);
    while jobs.blocking_recv_many(&mut group, GROUP_JOBS) > 0 {
        let committed = run_group(conn, file, &mut group);
        for job in group.drain(..) {
            job.answer(committed.as_ref().map(|&()| ()));
        }
    }
}

/// An error of a whole transaction (a full disk, a lock that another process holds) makes SQLite roll it back, or it is
/// rolled back here. Nothing is committed to a file that has lost its name: the caller would get a success, and the
/// data would be lost.
fn run_group(conn: &Connection, file: &DatabaseFile, group: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    if file.is_replaced() {
        let moved = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY_DBMOVED);
        let why = format!("{} was replaced or removed while it was open", file.path().display());
        return Err(rusqlite::Error::SqliteFailure(moved, Some(why)));
    }
    let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
    for job in group {
        conn.prepare_cached("SAVEPOINT job")?.execute([])?;
        if !job.run(conn) {
            conn.prepare_cached("ROLLBACK TO job")?.execute([])?;
        }
        conn.prepare_cached("RELEASE job")?.execute([])?;
    }
    transaction.commit()
}

fn serve_reads(conn: &Connection, jobs: &Mutex<mpsc::Receiver<Box<dyn Job>>>) {
    loop {
        // No code panics while it holds the lock; if it did, the queue would still be intact.
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(mut job) = next else { return };
        let finished = run_read(conn, job.as_mut());
        job.answer(finished.as_ref().map(|&()| ()));
    }
}

fn run_read(conn: &Connection, job: &mut dyn Job) -> rusqlite::Result<()> {
    let snapshot = Transaction::new_unchecked(conn, TransactionBehavior::Deferred)?;
    job.run(conn);
    snapshot.commit()
}

#[cfg(test)]
mod tests;
