//! What the processes of a run share: the database, the network, the accounts, and the trace of what happened.

use std::{
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use jiff::Timestamp;
use penstock_actors::{
    model::{Credit, LostLease, NodeEpoch},
    ports::{PortError, PortResult, Tag},
    testkit::{
        dice::Dice,
        memory_state::MemoryState,
        model_ledger::{ModelLedger, flaw::Flaw},
    },
};

use super::{
    accounts::Accounts,
    clocks::SkewedClock,
    network::{Fate, Weather},
    process::Process,
};

/// How long a process waits for an answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

/// Lines of a trace that a failure shows.
const SHOWN: usize = 60;

struct State {
    dice: Dice,
    weather: Weather,
    /// Whether the database can be reached.
    is_up: bool,
    trace: VecDeque<String>,
    broken: Option<String>,
    accounts: Accounts,
    processes: Vec<Arc<Process>>,
}

pub(crate) struct World {
    pub(crate) ledger: Arc<ModelLedger>,
    pub(crate) database: Arc<SkewedClock>,
    pub(crate) shared: Arc<MemoryState>,
    pub(crate) mode: LostLease,
    pub(crate) flaw: Option<Flaw>,
    keeps_all: bool,
    state: Mutex<State>,
}

impl World {
    pub(crate) fn new(mut dice: Dice, began_at: Timestamp, flaw: Option<Flaw>) -> Self {
        let database = Arc::new(SkewedClock::database(began_at));
        let mode = if dice.roll(2) == 0 { LostLease::Charge } else { LostLease::Release };
        Self {
            ledger: Arc::new(ModelLedger::flawed(database.clone(), flaw)),
            database,
            shared: Arc::default(),
            mode,
            flaw,
            keeps_all: std::env::var_os("SEED").is_some(),
            state: Mutex::new(State {
                dice,
                weather: Weather::Rough,
                is_up: true,
                trace: VecDeque::new(),
                broken: None,
                accounts: Accounts::default(),
                processes: Vec::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn roll(&self, sides: u64) -> u64 {
        self.state().dice.roll(sides)
    }

    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        let at = self.database.elapsed().as_secs_f64();
        let mut state = self.state();
        if state.trace.len() == SHOWN && !self.keeps_all {
            state.trace.pop_front();
        }
        state.trace.push_back(format!("{at:8.3} {}", line()));
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.state().trace.iter().cloned().collect()
    }

    /// The first broken promise.
    pub(crate) fn broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    /// Notes a broken promise. A panic in an actor would end that actor alone.
    pub(crate) fn breaks(&self, what: String) {
        self.note(|| format!("BROKEN: {what}"));
        self.state().broken.get_or_insert(what);
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
        self.note(|| format!("the weather is {weather:?}"));
    }

    pub(crate) fn set_up(&self, is_up: bool) {
        self.state().is_up = is_up;
        self.note(|| format!("the database is {}", if is_up { "there" } else { "away" }));
    }

    pub(crate) fn fate(&self, is_cut: bool) -> Fate {
        let state = &mut *self.state();
        state.weather.fate(is_cut || !state.is_up, &mut state.dice)
    }

    pub(crate) fn accounts<T>(&self, change: impl FnOnce(&mut Accounts) -> T) -> T {
        change(&mut self.state().accounts)
    }

    pub(crate) fn add(&self, process: Arc<Process>) {
        self.state().processes.push(process);
    }

    /// Processes that are not dead, the oldest first.
    pub(crate) fn processes(&self) -> Vec<Arc<Process>> {
        let mut state = self.state();
        state.processes.retain(|process| !process.line.is_dead());
        state.processes.clone()
    }

    /// Lets go of the processes, which hold this world.
    pub(crate) fn end(&self) {
        let processes = std::mem::take(&mut self.state().processes);
        processes.iter().for_each(|process| process.line.kill());
    }

    /// Checks a condition that may panic.
    pub(crate) fn verify(&self, check: impl FnOnce(&Accounts)) {
        let state = self.state();
        let verdict = catch_unwind(AssertUnwindSafe(|| check(&state.accounts)));
        drop(state);
        if let Err(panic) = verdict {
            self.breaks(words(&*panic));
        }
    }

    /// The database carries a statement out, and every promise is checked.
    pub(crate) async fn carry_out<T>(&self, work: impl Future<Output = PortResult<T>>) -> PortResult<T> {
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(answer) => {
                self.verify(|accounts| accounts.check(&self.ledger));
                answer
            }
            Err(panic) => {
                self.breaks(words(&*panic));
                Err(PortError::unavailable("the simulated ledger", "it broke"))
            }
        }
    }

    /// A stream sends a piece to its client.
    pub(crate) fn sends(
        &self,
        epoch: Option<NodeEpoch>,
        credit: Credit,
        to: (penstock_actors::ids::ReceiptId, Timestamp),
    ) {
        self.accounts(|accounts| accounts.receives(to.0, to.1, credit));
        if self.mode == LostLease::Release
            && let Some(epoch) = epoch.filter(|&epoch| self.ledger.is_fenced(epoch))
        {
            self.breaks(format!(
                "a stream sends {credit:?} under the lease of epoch {}, which was released",
                epoch.epoch
            ));
        }
        self.verify(|accounts| accounts.check(&self.ledger));
    }

    /// Tells the other processes of a change: each may miss it, or learn of it late.
    pub(crate) fn publish(&self, from: usize, tag: &Tag) {
        for process in self.processes().into_iter().filter(|process| process.index != from) {
            if let Fate::Answered { there, .. } = self.fate(process.line.is_cut()) {
                let tag = tag.clone();
                actix::spawn(async move {
                    tokio::time::sleep(there).await;
                    process.line.runs().await;
                    process.quota.invalidate(&tag);
                });
            }
        }
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}
