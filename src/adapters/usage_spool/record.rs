//! The format of a note: 128 bytes, so that no note crosses a page or a sector, and a reader finds the next note after a bad one.
//!
//! | bytes | contents |
//! |---|---|
//! | 0..4 | CRC-32 of the node's id, the segment's number and the bytes 4..128 |
//! | 4..6 | requests |
//! | 6 | the version of the format, 2 |
//! | 7 | the kind: 1 begins a segment, 2 is a row, 3 says that a stream is not charged |
//! | 8..24 | the usage id; in the first record, the node's id |
//! | 24..40 | the receipt id; in the first record, the segment's number and the CRC-32 of the place of the data folder |
//! | 40..72 | the content hash |
//! | 72..88 | the session id |
//! | 88..96 | start, in microseconds since 1970 |
//! | 96..104 | the mark of the client |
//! | 104..112 | content bytes |
//! | 112..120 | the epoch of the lease |
//! | 120..126 | the time of the note, in microseconds after the start |
//! | 126 | the outcome |
//! | 127 | bit 0: there is a session; bit 1: there is a lease; bit 2: the client is known |
//!
//! Numbers are little endian. A slot of zeros was never written.
//!
//! Version 1, which is still read, has no mark: 96..104 is the time of the note, in microseconds since 1970, 120..124 has the requests,
//! 124 the outcome, 125 the bits, and 4..6 the length of a record.

use jiff::Timestamp;
use penstock_actors::{
    ids::{ContentHash, NodeId, ReceiptId, SessionId, UsageId},
    model::{ClientMark, Outcome, UsageRow},
};
use uuid::Uuid;

pub(super) const RECORD_BYTES: usize = 128;
const VERSION: u8 = 2;
const FIRST_VERSION: u8 = 1;

const BEGINS: u8 = 1;
const ROW: u8 = 2;
const NOT_CHARGED: u8 = 3;

const HAS_SESSION: u8 = 1;
const HAS_LEASE: u8 = 2;
const HAS_CLIENT: u8 = 4;

/// The longest time from a start to a note: nearly nine years.
const LONGEST_MICROS: i64 = (1 << 48) - 1;

pub(super) type Record = [u8; RECORD_BYTES];

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Note {
    Row(UsageRow),
    NotCharged(UsageId),
}

/// A slot of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    Empty,
    Begins(Origin),
    Note(Note),
    Bad,
}

/// Where a segment was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) node: NodeId,
    /// Stands for the data folder on its machine since the machine's last start.
    pub(super) place: u32,
}

/// The checksum of the records of one segment. A record of another segment or node does not pass for one of this.
#[derive(Debug, Clone)]
pub(super) struct Seal(crc32fast::Hasher);

impl Seal {
    pub(super) fn new(node: NodeId, segment: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(node.as_uuid().as_bytes());
        hasher.update(&segment.to_le_bytes());
        Self(hasher)
    }

    fn of(&self, record: &Record) -> [u8; 4] {
        let mut hasher = self.0.clone();
        hasher.update(&record[4..]);
        hasher.finalize().to_le_bytes()
    }

    fn seal(&self, mut record: Record, kind: u8) -> Record {
        record[6] = VERSION;
        record[7] = kind;
        let sum = self.of(&record);
        record[..4].copy_from_slice(&sum);
        record
    }

    /// The first record of a segment.
    pub(super) fn first(&self, Origin { node, place }: Origin, segment: u64) -> Record {
        let mut record = [0; RECORD_BYTES];
        record[8..24].copy_from_slice(node.as_uuid().as_bytes());
        record[24..32].copy_from_slice(&segment.to_le_bytes());
        record[32..36].copy_from_slice(&place.to_le_bytes());
        self.seal(record, BEGINS)
    }

    pub(super) fn row(&self, row: &UsageRow) -> Record {
        let mut record = [0; RECORD_BYTES];
        let mut flags = 0;
        record[8..24].copy_from_slice(row.usage_id.as_uuid().as_bytes());
        record[24..40].copy_from_slice(row.receipt_id.as_uuid().as_bytes());
        record[40..72].copy_from_slice(row.content_hash.as_bytes());
        if let Some(session) = row.session_id {
            record[72..88].copy_from_slice(session.as_uuid().as_bytes());
            flags |= HAS_SESSION;
        }
        record[88..96].copy_from_slice(&row.started_at.as_microsecond().to_le_bytes());
        if let Some(client) = row.client {
            record[96..104].copy_from_slice(client.as_bytes());
            flags |= HAS_CLIENT;
        }
        record[104..112].copy_from_slice(&row.bytes_sent.to_le_bytes());
        if let Some(epoch) = row.lease_epoch {
            record[112..120].copy_from_slice(&epoch.to_le_bytes());
            flags |= HAS_LEASE;
        }
        // A stream is one request.
        record[4..6].copy_from_slice(&u16::try_from(row.requests).unwrap_or(u16::MAX).to_le_bytes());
        let after = row.finished_at.as_microsecond().saturating_sub(row.started_at.as_microsecond());
        record[120..126].copy_from_slice(&after.clamp(0, LONGEST_MICROS).to_le_bytes()[..6]);
        record[126] = code(row.outcome);
        record[127] = flags;
        self.seal(record, ROW)
    }

    pub(super) fn not_charged(&self, usage: UsageId) -> Record {
        let mut record = [0; RECORD_BYTES];
        record[8..24].copy_from_slice(usage.as_uuid().as_bytes());
        self.seal(record, NOT_CHARGED)
    }

    /// What a slot has. Any bytes are an answer.
    pub(super) fn read(&self, record: &Record) -> Slot {
        if record.iter().all(|&byte| byte == 0) {
            return Slot::Empty;
        }
        if record[..4] != self.of(record) || !(FIRST_VERSION..=VERSION).contains(&record[6]) {
            return Slot::Bad;
        }
        match record[7] {
            BEGINS => Slot::Begins(origin(record)),
            ROW => row(record).map_or(Slot::Bad, |row| Slot::Note(Note::Row(row))),
            NOT_CHARGED => Slot::Note(Note::NotCharged(UsageId::from_uuid(uuid(record, 8)))),
            _ => Slot::Bad,
        }
    }
}

/// The origin of a segment by its first record, whichever node's it is; `None` when the record is no first record.
pub(super) fn origin_of(first: &Record, segment: u64) -> Option<Origin> {
    let origin = origin(first);
    matches!(Seal::new(origin.node, segment).read(first), Slot::Begins(_)).then_some(origin)
}

fn origin(first: &Record) -> Origin {
    Origin { node: NodeId::from_uuid(uuid(first, 8)), place: u32::from_le_bytes(bytes(first, 32)) }
}

fn bytes<const N: usize>(record: &Record, at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&record[at..at + N]);
    bytes
}

fn uuid(record: &Record, at: usize) -> Uuid {
    Uuid::from_bytes(bytes(record, at))
}

fn time(record: &Record, at: usize) -> Option<Timestamp> {
    Timestamp::from_microsecond(i64::from_le_bytes(bytes(record, at))).ok()
}

/// The parts of a row that are not in the same place in all versions.
struct Placed {
    client: Option<ClientMark>,
    finished_at: Option<Timestamp>,
    requests: u64,
    outcome: u8,
    flags: u8,
}

impl Placed {
    fn of(record: &Record) -> Self {
        if record[6] == FIRST_VERSION {
            return Self {
                client: None,
                finished_at: time(record, 96),
                requests: u32::from_le_bytes(bytes(record, 120)).into(),
                outcome: record[124],
                flags: record[125],
            };
        }
        let mut after = [0; 8];
        after[..6].copy_from_slice(&record[120..126]);
        let finished_at = i64::from_le_bytes(bytes(record, 88)).checked_add(i64::from_le_bytes(after));
        let flags = record[127];
        Self {
            client: (flags & HAS_CLIENT != 0).then(|| ClientMark::from_bytes(bytes(record, 96))),
            finished_at: finished_at.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
            requests: u16::from_le_bytes(bytes(record, 4)).into(),
            outcome: record[126],
            flags,
        }
    }
}

fn row(record: &Record) -> Option<UsageRow> {
    let Placed { client, finished_at, requests, outcome: code_of_outcome, flags } = Placed::of(record);
    Some(UsageRow {
        usage_id: UsageId::from_uuid(uuid(record, 8)),
        receipt_id: ReceiptId::from_uuid(uuid(record, 24)),
        content_hash: ContentHash::from_bytes(bytes(record, 40)),
        session_id: (flags & HAS_SESSION != 0).then(|| SessionId::from_uuid(uuid(record, 72))),
        client,
        started_at: time(record, 88)?,
        finished_at: finished_at?,
        bytes_sent: u64::from_le_bytes(bytes(record, 104)),
        requests,
        outcome: outcome(code_of_outcome)?,
        lease_epoch: (flags & HAS_LEASE != 0).then(|| i64::from_le_bytes(bytes(record, 112))),
    })
}

/// The code of an outcome. Codes are never given to other outcomes.
const fn code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Completed => 1,
        Outcome::Aborted => 2,
        Outcome::Revoked => 3,
        Outcome::Failed => 4,
        Outcome::Delegated => 5,
        Outcome::LostLease => 6,
    }
}

fn outcome(code_of_it: u8) -> Option<Outcome> {
    Outcome::ALL.into_iter().find(|&outcome| code(outcome) == code_of_it)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows() -> impl Strategy<Value = UsageRow> {
        let ids = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u8; 32]>(), any::<Option<[u8; 16]>>());
        let numbers = (0_i64..1 << 52, 0_i64..1 << 48, any::<u64>(), any::<u16>(), any::<Option<i64>>());
        let others = (0..Outcome::ALL.len(), any::<Option<[u8; 8]>>());
        (ids, numbers, others).prop_map(|((usage, receipt, content, session), numbers, (outcome, client))| {
            let (started, lasted, bytes_sent, requests, lease_epoch) = numbers;
            let at = |micros| Timestamp::from_microsecond(micros).expect("in range");
            UsageRow {
                usage_id: UsageId::from_uuid(Uuid::from_bytes(usage)),
                receipt_id: ReceiptId::from_uuid(Uuid::from_bytes(receipt)),
                content_hash: ContentHash::from_bytes(content),
                session_id: session.map(|session| SessionId::from_uuid(Uuid::from_bytes(session))),
                client: client.map(ClientMark::from_bytes),
                started_at: at(started),
                finished_at: at(started + lasted),
                bytes_sent,
                requests: requests.into(),
                outcome: Outcome::ALL[outcome],
                lease_epoch,
            }
        })
    }

    proptest! {
        #[test]
        fn a_row_is_read_as_it_was_written_and_only_in_its_segment(row in rows(), node: [u8; 16], segment: u64) {
            let node = NodeId::from_uuid(Uuid::from_bytes(node));
            let seal = Seal::new(node, segment);
            let record = seal.row(&row);
            prop_assert_eq!(seal.read(&record), Slot::Note(Note::Row(row.clone())));
            prop_assert_eq!(Seal::new(node, segment ^ 1).read(&record), Slot::Bad);
            let cancelled = seal.not_charged(row.usage_id);
            prop_assert_eq!(seal.read(&cancelled), Slot::Note(Note::NotCharged(row.usage_id)));
            let origin = Origin { node, place: row.requests as u32 };
            let first = seal.first(origin, segment);
            prop_assert_eq!(seal.read(&first), Slot::Begins(origin));
            prop_assert_eq!(origin_of(&first, segment), Some(origin));
        }

        #[test]
        fn no_bytes_make_a_note_that_was_not_written(row in rows(), at in 0..RECORD_BYTES, flip in 1_u8.., noise: [u8; 32]) {
            let seal = Seal::new(NodeId::random(), 1);
            let mut record = seal.row(&row);
            record[at] ^= flip;
            prop_assert_eq!(seal.read(&record), Slot::Bad);
            // The beginning of a write that was torn.
            let mut torn = seal.row(&row);
            torn[at.max(1)..].fill(0);
            prop_assert!(!matches!(seal.read(&torn), Slot::Note(_)) || torn == seal.row(&row));
            let noise: Record = std::array::from_fn(|byte| noise[byte % 32].wrapping_add(byte as u8));
            prop_assert!(!matches!(seal.read(&noise), Slot::Note(_)));
            let _ = origin_of(&noise, 1);
        }
    }

    /// A row of which each field has a value of its own.
    fn example() -> UsageRow {
        let id = |byte| Uuid::from_bytes([byte; 16]);
        UsageRow {
            usage_id: UsageId::from_uuid(id(1)),
            receipt_id: ReceiptId::from_uuid(id(2)),
            content_hash: ContentHash::from_bytes([3; 32]),
            session_id: Some(SessionId::from_uuid(id(4))),
            client: Some(ClientMark::from_bytes([12; 8])),
            started_at: Timestamp::from_microsecond(5).expect("a time"),
            finished_at: Timestamp::from_microsecond(6).expect("a time"),
            bytes_sent: 7,
            requests: 8,
            outcome: Outcome::Failed,
            lease_epoch: Some(9),
        }
    }

    /// The bytes of a record from the given beginning: the ids, numbers of eight bytes, and the given end.
    fn layout(beginning: [u8; 4], numbers: [[u8; 8]; 4], end: [u8; 8]) -> Vec<u8> {
        let mut bytes = Vec::from(beginning);
        for (byte, count) in [(1, 16), (2, 16), (3, 32), (4, 16)] {
            bytes.extend(std::iter::repeat_n(byte, count));
        }
        bytes.extend(numbers.concat());
        bytes.extend(end);
        bytes
    }

    #[test]
    fn the_format_stays_as_it_is() {
        let record = Seal::new(NodeId::random(), 11).row(&example());
        let [start, sent, epoch] = [5_u64, 7, 9].map(u64::to_le_bytes);
        assert_eq!(record[4..], layout([8, 0, 2, 2], [start, [12; 8], sent, epoch], [1, 0, 0, 0, 0, 0, 4, 7]));
    }

    #[test]
    fn records_of_the_first_version_are_still_read() {
        let seal = Seal::new(NodeId::random(), 11);
        let numbers = [5_u64, 6, 7, 9].map(u64::to_le_bytes);
        let mut record = [0; RECORD_BYTES];
        record[4..].copy_from_slice(&layout([128, 0, 1, 2], numbers, [8, 0, 0, 0, 4, 3, 0, 0]));
        let sum = seal.of(&record);
        record[..4].copy_from_slice(&sum);
        assert_eq!(seal.read(&record), Slot::Note(Note::Row(UsageRow { client: None, ..example() })));
    }

    #[test]
    fn a_note_before_its_start_is_as_of_the_start() {
        let seal = Seal::new(NodeId::random(), 11);
        let row = UsageRow { finished_at: Timestamp::UNIX_EPOCH, ..example() };
        let read = UsageRow { finished_at: row.started_at, ..row };
        assert_eq!(seal.read(&seal.row(&row)), Slot::Note(Note::Row(read)));
    }
}
