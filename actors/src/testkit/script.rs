//! Faults by script: which calls of a port fail, and how, and which calls it had.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use tokio::sync::watch;

use crate::ports::{PortError, PortResult};

/// The effect of a scripted call, instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and the caller is told so.
    Unavailable,
    /// The work is done, but the answer is lost.
    AnswerLost,
    /// The call reports that the node's epoch is gone.
    Fenced,
    /// The disk is full.
    Full,
    /// The call panics, and with it the actor that made it.
    Panic,
}

impl Fault {
    fn error(self) -> PortError {
        match self {
            Self::Unavailable => PortError::unavailable("the scripted port", "nothing was done"),
            Self::AnswerLost => PortError::unavailable("the scripted port", "the answer was lost"),
            Self::Fenced => PortError::Fenced,
            Self::Full => PortError::Full("the scripted port"),
            Self::Panic => panic!("a panic by script"),
        }
    }
}

#[derive(Default)]
struct Line {
    faults: VecDeque<Option<Fault>>,
    /// The size of each call, in order.
    calls: Vec<usize>,
    held: watch::Sender<bool>,
}

/// The script of a port: per call, by name, its next faults.
#[derive(Default)]
pub struct Script {
    lines: Mutex<HashMap<&'static str, Line>>,
    down: AtomicBool,
}

/// The answers of a call are held back until this is dropped.
pub struct HeldBack(watch::Sender<bool>);

impl Drop for HeldBack {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

impl Script {
    fn lines(&self) -> MutexGuard<'_, HashMap<&'static str, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next calls of this name have these faults, one each; `None` lets one pass.
    pub fn next(&self, call: &'static str, faults: impl IntoIterator<Item = impl Into<Option<Fault>>>) {
        self.lines().entry(call).or_default().faults.extend(faults.into_iter().map(Into::into));
    }

    /// Drops the faults that have not been played yet.
    pub fn end(&self) {
        self.lines().values_mut().for_each(|line| line.faults.clear());
    }

    /// Whether every call fails from now on.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, SeqCst);
    }

    /// Does the work of calls of this name, but holds back their answers.
    pub fn hold(&self, call: &'static str) -> HeldBack {
        let held = self.lines().entry(call).or_default().held.clone();
        held.send_replace(true);
        HeldBack(held)
    }

    /// The size of each call of this name so far.
    pub fn calls(&self, call: &'static str) -> Vec<usize> {
        self.lines().get(call).map_or_else(Vec::new, |line| line.calls.clone())
    }

    /// Plays one call: does its `work` unless the script says otherwise.
    ///
    /// # Errors
    /// As the script says, or the work's own.
    pub async fn play<T>(
        &self,
        call: &'static str,
        size: usize,
        work: impl FnOnce() -> PortResult<T>,
    ) -> PortResult<T> {
        let (fault, held) = {
            let mut lines = self.lines();
            let line = lines.entry(call).or_default();
            line.calls.push(size);
            (line.faults.pop_front().flatten(), line.held.clone())
        };
        let fault = fault.or_else(|| self.down.load(SeqCst).then_some(Fault::Unavailable));
        let answer = match fault {
            None => work(),
            Some(Fault::AnswerLost) => {
                work()?;
                Err(Fault::AnswerLost.error())
            }
            Some(fault) => Err(fault.error()),
        };
        // Fails only when the sender is gone, and this is one.
        let _ = held.subscribe().wait_for(|held| !held).await;
        answer
    }
}
