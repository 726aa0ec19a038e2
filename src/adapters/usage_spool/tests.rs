//! The spool against a model, on a disk that is torn, cut from its power, full or broken.

use std::collections::BTreeMap;

use penstock_actors::{
    ids::UsageId,
    testkit::{
        dice::Dice,
        usage_spool_suite::{self, SpoolHome, row},
    },
};
use proptest::prelude::*;

use super::{simulated_disk::SimulatedDisk, *};

/// Eight records, of which the first begins the segment.
const SMALL: u64 = 8 * RECORD_BYTES as u64;

fn settings(node: NodeId, is_same_folder: bool, segments: u64) -> UsageSpoolSettings {
    UsageSpoolSettings { node, place: Some("start 0".to_owned()), is_same_folder, bytes: segments * SMALL, cores: 2 }
}

fn open(disk: &SimulatedDisk, settings: UsageSpoolSettings) -> (FileSpool, Leftover) {
    FileSpool::over(Arc::new(disk.clone()), settings, SMALL).expect("a working disk")
}

struct Simulated(SimulatedDisk, NodeId);

impl SpoolHome for Simulated {
    type Spool = FileSpool;

    fn open(&mut self) -> (FileSpool, Leftover) {
        open(&self.0, settings(self.1, true, 100))
    }
}

struct Real(tempfile::TempDir, NodeId);

impl SpoolHome for Real {
    type Spool = FileSpool;

    fn open(&mut self) -> (FileSpool, Leftover) {
        let disk = RealDisk::open(&self.0.path().join("spool")).expect("a folder");
        FileSpool::over(Arc::new(disk), settings(self.1, true, 10_000), SEGMENT_BYTES).expect("a spool")
    }
}

#[test]
fn a_spool_keeps_the_promises_of_the_port() {
    usage_spool_suite::run(|| Simulated(SimulatedDisk::default(), NodeId::random()));
    usage_spool_suite::run(|| Real(tempfile::tempdir().expect("a folder"), NodeId::random()));
}

#[test]
fn the_oldest_note_is_of_the_stream_that_was_noted_the_longest_ago() {
    let (disk, node) = (SimulatedDisk::default(), NodeId::random());
    let (spool, _) = open(&disk, settings(node, true, 100));
    let at = |second: i64| Timestamp::from_second(1_793_530_200 + second).expect("a time");
    let noted = |row: &UsageRow, second| UsageRow { finished_at: at(second), ..row.clone() };
    let rows: Vec<_> = (0..10).map(|second| noted(&row(1), second)).collect();
    let keys: Vec<_> = rows.iter().map(|row| spool.begin(row).expect("noted")).collect();
    assert_eq!(spool.oldest(), Some(at(0)));
    spool.renew(keys[0], &noted(&rows[0], 20)).expect("noted again");
    assert_eq!(spool.oldest(), Some(at(1)));
    spool.settled(keys[1]);
    spool.cancel(keys[2]);
    assert_eq!(spool.oldest(), Some(at(3)));
    // Some of the notes are written again, into newer segments, and are as old as before.
    for _ in 0..100 {
        spool.renew(keys[9], &noted(&rows[9], 30)).expect("noted again");
        spool.tend();
    }
    assert_eq!(spool.oldest(), Some(at(3)));
    drop(spool);
    let (spool, left) = open(&disk, settings(node, true, 100));
    let oldest = left.rows.iter().map(|(_, row)| row.finished_at).min();
    assert!(oldest.is_some() && spool.oldest() == oldest, "{:?} of {left:?}", spool.oldest());
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Begin,
    Renew(usize),
    Settle(usize),
    Cancel(usize),
    Tend,
    BeginEpoch,
    EndEpoch(usize),
    Kill,
    /// Killed within a note of a new or of a running stream.
    TornKill {
        stream: Option<usize>,
        after: usize,
    },
    PowerCut(u64),
    Room(Option<u64>),
    Failing(bool),
    SyncsFailing(bool),
    RemovalsFailing(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0_usize..1000;
    let step = prop_oneof![
        20 => Just(Step::Begin),
        30 => which.clone().prop_map(Step::Renew),
        12 => which.clone().prop_map(Step::Settle),
        4 => which.clone().prop_map(Step::Cancel),
        8 => Just(Step::Tend),
        1 => Just(Step::BeginEpoch),
        1 => which.clone().prop_map(Step::EndEpoch),
        1 => Just(Step::Kill),
        1 => (proptest::option::of(which), 0..RECORD_BYTES).prop_map(|(stream, after)| Step::TornKill { stream, after }),
        1 => any::<u64>().prop_map(Step::PowerCut),
        1 => proptest::option::of(0_u64..8).prop_map(Step::Room),
        1 => prop::bool::weighted(0.3).prop_map(Step::Failing),
        1 => prop::bool::weighted(0.3).prop_map(Step::SyncsFailing),
        1 => prop::bool::weighted(0.3).prop_map(Step::RemovalsFailing),
    ];
    proptest::collection::vec(step, 1..400)
}

/// What the spool was told of one stream.
#[derive(Debug, Default)]
struct StreamNotes {
    /// Each note, in its order; `None` says that it is not charged.
    notes: Vec<Option<UsageRow>>,
    /// How many of them are synced.
    synced: usize,
    /// While it is live.
    key: Option<SpoolKey>,
    /// In the ledger: the spool may forget it, or may not.
    settled: bool,
    /// The spool failed to take a note. It may be found all the same.
    attempts: Vec<Option<UsageRow>>,
}

struct Model {
    disk: SimulatedDisk,
    node: NodeId,
    spool: FileSpool,
    told: BTreeMap<UsageId, StreamNotes>,
    /// Claims of all processes.
    claims: Vec<i64>,
    /// Epochs of this process.
    own: Vec<i64>,
    last_epoch: i64,
    fails: bool,
    syncs_fail: bool,
    bytes: u64,
    boots: u64,
}

const SEGMENTS: u64 = 40;

impl Model {
    fn new() -> Self {
        let (disk, node) = (SimulatedDisk::default(), NodeId::random());
        let (spool, _) = open(&disk, settings(node, true, SEGMENTS));
        let told = BTreeMap::new();
        Self {
            disk,
            node,
            spool,
            told,
            claims: Vec::new(),
            own: Vec::new(),
            last_epoch: 0,
            fails: false,
            syncs_fail: false,
            bytes: 0,
            boots: 0,
        }
    }

    /// A live stream of this process, or any live one.
    fn live(&self, which: usize, of_this_process: bool) -> Option<UsageId> {
        let left = self.spool.writers();
        let is_live = |told: &StreamNotes| told.key.is_some_and(|key| !of_this_process || key.lane != left);
        let live: Vec<_> = self.told.iter().filter(|(_, told)| is_live(told)).map(|(&usage, _)| usage).collect();
        live.get(which % live.len().max(1)).copied()
    }

    fn next(&mut self, row: &UsageRow) -> UsageRow {
        self.bytes += 1;
        UsageRow { bytes_sent: self.bytes, ..row.clone() }
    }

    fn begin(&mut self) {
        self.bytes += 1;
        let usage_id = UsageId::from_uuid(uuid::Uuid::from_u128(self.bytes.into()));
        let row = UsageRow { usage_id, ..row(self.bytes) };
        let told = self.told.entry(row.usage_id).or_default();
        match self.spool.begin(&row) {
            Ok(key) => {
                told.key = Some(key);
                told.notes.push(Some(row));
            }
            Err(_) => {
                told.attempts.push(Some(row));
                told.settled = true;
            }
        }
    }

    fn renew(&mut self, which: usize) {
        let Some(usage) = self.live(which, true) else { return };
        let last = self.told[&usage].notes.last().cloned().flatten().expect("a row");
        let row = self.next(&last);
        let (failures, told) = (self.spool.status().write_failures, self.told.get_mut(&usage).expect("known"));
        let renewed = self.spool.renew(told.key.expect("live"), &row);
        if self.spool.status().write_failures == failures {
            renewed.expect("nothing failed");
            told.notes.push(Some(row));
        } else {
            // It may be written later, with the notes of other streams.
            told.attempts.push(Some(row));
            self.forget_withdrawn_claims();
            assert!(renewed.is_err() || self.own.iter().all(|epoch| !self.claims.contains(epoch)), "a gap is recorded");
        }
    }

    fn forget_withdrawn_claims(&mut self) {
        let disk = &self.disk;
        self.claims.retain(|epoch| disk.count(&format!("{epoch}.complete")) > 0);
    }

    fn cancel(&mut self, which: usize) {
        let Some(usage) = self.live(which, true) else { return };
        let (failures, told) = (self.spool.status().write_failures, self.told.get_mut(&usage).expect("known"));
        self.spool.cancel(told.key.take().expect("live"));
        if self.spool.status().write_failures == failures {
            told.notes.push(None);
        } else {
            told.settled = true;
        }
    }

    fn tend(&mut self) {
        let failures = self.spool.status().sync_failures;
        self.spool.tend();
        if self.spool.status().sync_failures == failures && !self.fails && !self.syncs_fail {
            for told in self.told.values_mut() {
                told.synced = told.notes.len();
            }
        } else {
            // A sync that failed is a gap, if it had anything to sync.
            self.forget_withdrawn_claims();
        }
    }

    /// The next process opens the spool. `kept` says that all that was written is there.
    fn open(&mut self, kept: bool) {
        self.disk.mend();
        (self.fails, self.syncs_fail) = (false, false);
        self.boots += u64::from(!kept);
        let place = Some(format!("start {}", self.boots));
        let (spool, left) = open(&self.disk, UsageSpoolSettings { place, ..settings(self.node, kept, SEGMENTS) });
        self.spool = spool;
        let mut found: BTreeMap<_, _> = left.rows.into_iter().map(|(key, row)| (row.usage_id, (key, row))).collect();
        for (usage, told) in &mut self.told {
            let found = found.remove(usage);
            let row = found.as_ref().map(|(_, row)| row.clone());
            let from = if kept { told.notes.len() } else { told.synced };
            // The last note that must be there, the later ones, and those that failed.
            let mut possible = told.notes[from.saturating_sub(1)..].iter().chain(&told.attempts);
            let may_be_gone = told.settled || from == 0;
            assert!(possible.any(|note| *note == row) || may_be_gone && row.is_none(), "{usage}: {row:?} of {told:?}");
            told.key = found.as_ref().map(|(key, _)| *key);
            told.settled = row.is_none();
            if !kept {
                told.notes = vec![row];
                told.attempts.clear();
            } else if row.is_some() && told.attempts.contains(&row) {
                told.notes.push(row);
            }
            told.synced = told.notes.len();
        }
        self.own.clear();
        assert!(found.is_empty(), "no row is invented: {found:?}");
        if kept {
            assert_eq!(left.complete, self.claims);
        } else {
            assert!(left.complete.is_empty());
            self.claims.clear();
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Begin => self.begin(),
            Step::Renew(which) => self.renew(which),
            Step::Cancel(which) => self.cancel(which),
            Step::Settle(which) => {
                if let Some(usage) = self.live(which, false) {
                    let told = self.told.get_mut(&usage).expect("known");
                    self.spool.settled(told.key.take().expect("live"));
                    told.settled = true;
                }
            }
            Step::Tend => self.tend(),
            Step::BeginEpoch => {
                self.last_epoch += 1;
                self.spool.epoch_began(self.last_epoch);
                if self.disk.count(&format!("{}.complete", self.last_epoch)) > 0 && !self.fails {
                    self.claims.push(self.last_epoch);
                    self.own.push(self.last_epoch);
                }
            }
            Step::EndEpoch(which) => {
                if let Some(&epoch) = self.claims.get(which % self.claims.len().max(1)) {
                    self.spool.epoch_ended(epoch);
                    self.own.retain(|&own| own != epoch);
                    self.forget_withdrawn_claims();
                }
            }
            Step::Kill => self.open(true),
            Step::TornKill { stream, after } => {
                self.disk.tear_next_write(after);
                match stream {
                    Some(which) => self.renew(which),
                    None => self.begin(),
                }
                self.open(true);
            }
            Step::PowerCut(seed) => {
                self.disk.cut_power(&mut Dice(seed));
                self.open(false);
            }
            Step::Room(segments) => self.disk.set_room(segments.map(|segments| segments * SMALL)),
            Step::Failing(fails) => {
                self.fails = fails;
                self.disk.set_failing(fails);
            }
            Step::SyncsFailing(fail) => {
                self.syncs_fail = fail;
                self.disk.set_syncs_failing(fail);
            }
            Step::RemovalsFailing(fail) => self.disk.set_removals_failing(fail),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_kill_loses_no_note_a_power_cut_only_later_ones_and_nothing_is_invented(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.open(true);
    }
}

#[test]
fn when_the_bound_is_reached_no_stream_begins_and_running_ones_have_room() {
    let disk = SimulatedDisk::default();
    let (spool, _) = open(&disk, settings(NodeId::random(), true, 6));
    let mut keys = Vec::new();
    while spool.has_room() {
        keys.push((spool.begin(&row(1)).expect("there is room"), row(2)));
        spool.tend();
    }
    assert_eq!(spool.status().segments, 6);
    for (key, row) in &keys {
        spool.renew(*key, row).expect("a gap, at worst");
    }
    for (key, _) in keys {
        spool.settled(key);
    }
    spool.tend();
    spool.tend();
    assert!(spool.has_room(), "{:?}", spool.status());
    spool.begin(&row(1)).expect("room again");
}

#[test]
fn a_full_disk_shows_before_running_streams_need_it() {
    let disk = SimulatedDisk::default();
    let (spool, _) = open(&disk, settings(NodeId::random(), true, 100));
    spool.epoch_began(1);
    disk.set_room(Some(0));
    let mut notes = 0;
    let key = spool.begin(&row(1)).expect("a segment is there");
    while spool.has_room() {
        spool.renew(key, &row(notes)).expect("room");
        spool.tend();
        notes += 1;
    }
    let mut left = 0;
    while spool.status().write_failures == 0 {
        spool.renew(key, &row(notes)).expect("room, or a gap");
        left += 1;
    }
    assert!(left > 3, "half a segment was left, not {left} notes");
    assert_eq!(disk.count(".complete"), 0, "the gap is recorded");
    disk.set_room(None);
    spool.tend();
    assert!(spool.has_room());
}

#[test]
fn slow_streams_do_not_keep_the_segments_of_all_others() {
    let disk = SimulatedDisk::default();
    let (spool, _) = open(&disk, settings(NodeId::random(), true, 1000));
    let slow: Vec<_> = (0..10).map(|_| spool.begin(&row(7)).expect("room")).collect();
    for _ in 0..2000 {
        let key = spool.begin(&row(1)).expect("room");
        spool.settled(key);
        spool.tend();
    }
    assert_eq!(spool.status().entries, slow.len() as u64);
    assert!(spool.status().segments < 40, "{:?}", spool.status());
}

#[test]
fn a_damaged_file_is_kept_and_what_is_good_of_it_is_found() {
    let (disk, node) = (SimulatedDisk::default(), NodeId::random());
    let one_lane = || UsageSpoolSettings { cores: 1, ..settings(node, true, 100) };
    let (spool, _) = open(&disk, one_lane());
    spool.epoch_began(1);
    for bytes in 1..=3 {
        spool.begin(&row(bytes)).expect("room");
    }
    disk.damage(".notes", 2 * RECORD_BYTES + 5);
    drop(spool);
    let (spool, left) = open(&disk, one_lane());
    assert_eq!(left.rows.iter().map(|(_, row)| row.bytes_sent).collect::<Vec<_>>(), [1, 3]);
    assert!(left.complete.is_empty(), "the second stream is unknown");
    left.rows.iter().for_each(|(key, _)| spool.settled(*key));
    spool.tend();
    assert_eq!(disk.count(".damaged"), 1);
}

#[test]
fn a_folder_that_was_copied_settles_nothing_of_the_other_node() {
    let (disk, node) = (SimulatedDisk::default(), NodeId::random());
    let (spool, _) = open(&disk, settings(node, true, 100));
    spool.epoch_began(1);
    spool.begin(&row(1)).expect("room");
    drop(spool);
    let other = NodeId::random();
    let (_, left) = open(&disk, settings(other, true, 100));
    assert!(left.rows.is_empty() && left.complete.is_empty());
    assert!(disk.count(&format!(".of-{node}")) > 0, "they are kept aside");
}
