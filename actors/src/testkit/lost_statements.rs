//! A node whose statements to the ledger get lost: on the way there, on the way back, or for a while, so that they
//! arrive after later ones. It repeats unanswered statements, as the actors do.
//!
//! Whichever statements are lost, no credit is stranded while the node is alive, and after a clean stop every charge is
//! explained by a usage row.

use std::time::Duration;

use jiff::Timestamp;

use super::{asked, dice::Dice};
use crate::{
    ids::{ContentHash, NodeId, ReceiptId, UsageId},
    model::{Credit, LeaseSizing, LostLease, NodeEpoch, Outcome, UsageRow, WindowKind},
    ports::{Ledger, PortError, Refill, RefillRequest, Release, SettleBatch, Want},
};

/// Longer than any walk.
const ALIVE: Duration = Duration::from_secs(3600);

const SIZING: LeaseSizing = LeaseSizing { divisor: 2 };

/// The ledger's amounts for a receipt's hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourUsage {
    pub used: Credit,
    pub reserved: Credit,
}

/// The subject of the walk: a receipt and a node that no other test uses.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    pub node: NodeEpoch,
    pub receipt_id: ReceiptId,
    pub content_hash: ContentHash,
    /// Not near the end of an hour.
    pub now: Timestamp,
}

/// A statement as it was sent: it may arrive once more, at any time.
#[derive(Debug, Clone)]
enum Statement {
    Refill(RefillRequest, Timestamp),
    Settle(SettleBatch),
    Heartbeat,
    Close,
}

/// What happens to a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StatementFate {
    Answered,
    /// It is carried out, and its answer is lost.
    AnswerLost,
    /// It does not arrive, unless late.
    Lost,
}

struct Walk<'a, L: ?Sized, F> {
    ledger: &'a L,
    look: F,
    subject: Subject,
    dice: Dice,
    /// Credit that the node knows it holds.
    held: Credit,
    spent: Credit,
    unanswered: Option<(RefillRequest, Timestamp)>,
    unsettled: Option<SettleBatch>,
    sequence: i64,
    sent: Vec<Statement>,
}

/// Walks some `steps` and stops cleanly. `look` reads the receipt's hour.
///
/// # Panics
/// When credit is stranded, granted twice, or charged without a usage row.
pub async fn no_credit_is_stranded_or_charged<L, F>(ledger: &L, subject: Subject, look: F, seed: u64, steps: usize)
where
    L: Ledger + ?Sized,
    F: AsyncFn() -> HourUsage,
{
    ledger.heartbeat(subject.node, ALIVE).await.expect("a first heartbeat");
    let mut walk = Walk {
        ledger,
        look,
        subject,
        dice: Dice(seed),
        held: Credit::ZERO,
        spent: Credit::ZERO,
        unanswered: None,
        unsettled: None,
        sequence: 0,
        sent: Vec::new(),
    };
    for step in 0..steps {
        walk.step().await;
        walk.compare(&format!("seed {seed}, step {step}")).await;
    }
    walk.stop(&format!("seed {seed}")).await;
}

impl<L, F> Walk<'_, L, F>
where
    L: Ledger + ?Sized,
    F: AsyncFn() -> HourUsage,
{
    async fn step(&mut self) {
        match self.dice.roll(10) {
            0..=3 => self.refill().await,
            4..=6 => self.settle().await,
            7 => {
                let fate = self.fate();
                self.send(Statement::Heartbeat, fate).await;
            }
            _ => self.arrive_late().await,
        }
    }

    fn fate(&mut self) -> StatementFate {
        match self.dice.roll(5) {
            0 => StatementFate::AnswerLost,
            1 => StatementFate::Lost,
            _ => StatementFate::Answered,
        }
    }

    /// Asks for more, or repeats an unanswered request. The clock moves on within the hour.
    async fn refill(&mut self) {
        let (request, at) = match self.unanswered {
            Some((request, at)) => (request.repeated(), at + Duration::from_secs(self.dice.roll(60))),
            None => {
                let need = Credit::new(self.dice.roll(40), self.dice.roll(2));
                let want = Credit::new(self.dice.roll(200) + 1, self.dice.roll(5));
                let Subject { receipt_id, content_hash, now, .. } = self.subject;
                (asked(Want { receipt_id, content_hash, need, want }), now)
            }
        };
        self.unanswered = Some((request, at));
        let fate = self.fate();
        if let Some(refill) = self.send(Statement::Refill(request, at), fate).await {
            self.held += refill.granted;
            self.unanswered = None;
        }
    }

    /// Spends a part of the held credit and gives a part of the rest back, or repeats an unanswered batch.
    async fn settle(&mut self) {
        let batch = match self.unsettled.take() {
            Some(batch) => batch,
            None => self.batch(false),
        };
        let fate = self.fate();
        self.send(Statement::Settle(batch.clone()), fate).await;
        if fate != StatementFate::Answered {
            self.unsettled = Some(batch);
        }
    }

    fn batch(&mut self, all: bool) -> SettleBatch {
        let part = |dice: &mut Dice, of: Credit| Credit::new(dice.roll(of.bytes + 1), dice.roll(of.requests + 1));
        let spent = part(&mut self.dice, self.held);
        let rest = self.held - spent;
        let given = if all { rest } else { part(&mut self.dice, rest) };
        self.held = rest - given;
        self.spent += spent;
        self.sequence += 1;
        let Subject { node, receipt_id, content_hash, now } = self.subject;
        let row = UsageRow {
            usage_id: UsageId::next(),
            receipt_id,
            content_hash,
            session_id: None,
            client: None,
            started_at: now,
            finished_at: now,
            bytes_sent: spent.bytes,
            requests: spent.requests,
            outcome: Outcome::Aborted,
            lease_epoch: Some(node.epoch),
        };
        let release = Release { receipt_id, window: now, epoch: node.epoch, credit: given };
        SettleBatch { node, sequence: self.sequence, rows: vec![row], releases: vec![release] }
    }

    /// An earlier statement arrives once more. It must change nothing, unless it is still unanswered.
    async fn arrive_late(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let which = usize::try_from(self.dice.roll(self.sent.len() as u64)).unwrap_or_default();
        let late = self.sent[which].clone();
        let is_open = match &late {
            Statement::Refill(request, _) => self.unanswered.is_some_and(|(open, _)| open.id == request.id),
            Statement::Settle(batch) => self.unsettled.as_ref().is_some_and(|open| open.sequence == batch.sequence),
            Statement::Heartbeat | Statement::Close => false,
        };
        let before = (self.look)().await;
        self.carry_out(&late).await;
        if !is_open {
            assert_eq!((self.look)().await, before, "{late:?} arrives late and changes something");
        }
    }

    async fn send(&mut self, statement: Statement, fate: StatementFate) -> Option<Refill> {
        self.sent.push(statement.clone());
        if fate == StatementFate::Lost {
            return None;
        }
        self.carry_out(&statement).await.filter(|_| fate == StatementFate::Answered)
    }

    async fn carry_out(&self, statement: &Statement) -> Option<Refill> {
        let node = self.subject.node;
        match statement {
            Statement::Refill(request, at) => match self.ledger.refill(node, &[*request], SIZING, *at).await {
                Ok(mut answers) => Some(answers.remove(0)),
                // It arrives after the end of its epoch.
                Err(PortError::Fenced) => None,
                Err(error) => panic!("{error}"),
            },
            Statement::Settle(batch) => {
                self.ledger.settle(batch).await.expect("settled");
                None
            }
            Statement::Heartbeat => {
                let beat = self.ledger.heartbeat(node, ALIVE).await;
                assert!(matches!(beat, Ok(()) | Err(PortError::Fenced)), "{beat:?}");
                None
            }
            Statement::Close => {
                self.ledger.close(node, 100).await.expect("closed");
                None
            }
        }
    }

    async fn compare(&self, at: &str) {
        if self.unanswered.is_none() && self.unsettled.is_none() {
            let expected = HourUsage { used: self.spent, reserved: self.held };
            assert_eq!((self.look)().await, expected, "{at}: the ledger and the node agree when all is answered");
        }
    }

    /// A clean stop: unanswered requests stay unanswered, the rest is given back and settled, and the epoch is closed.
    async fn stop(mut self, at: &str) {
        let open = self.unsettled.take();
        let last = self.batch(true);
        for batch in open.into_iter().chain([last]) {
            for fate in [self.fate(), StatementFate::Answered] {
                self.send(Statement::Settle(batch.clone()), fate).await;
            }
        }
        for fate in [self.fate(), StatementFate::Answered] {
            self.send(Statement::Close, fate).await;
        }
        let expected = HourUsage { used: self.spent, reserved: Credit::ZERO };
        assert_eq!((self.look)().await, expected, "{at}: a clean stop leaves nothing leased, and charges nothing");
        for late in self.sent.clone() {
            self.carry_out(&late).await;
        }
        let anytime = WindowKind::Hour.window(self.subject.now).end;
        let janitor = NodeEpoch { node: NodeId::random(), epoch: 1 };
        self.ledger.heartbeat(janitor, ALIVE).await.expect("alive");
        let silent = self.ledger.pulses().await.expect("seen");
        while self.ledger.reclaim(janitor, &silent, LostLease::Charge, anytime, 100).await.expect("reclaimed").more {}
        self.ledger.close(janitor, 100).await.expect("closed");
        assert_eq!((self.look)().await, expected, "{at}: nothing that arrives late is granted or charged");
    }
}
