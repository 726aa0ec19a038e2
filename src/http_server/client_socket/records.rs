//! The records of an encrypted connection: how much of the plaintext has left the node, by how much of the ciphertext has.
//!
//! The kernel counts ciphertext. A record is a header, then as many encrypted bytes as it has bytes of plaintext, then a
//! trailer that proves that nothing was changed. A byte of plaintext has left the node when its encrypted byte has. A
//! client that checks the trailer, as each client should, reads nothing of a record that was cut; so such a client may be
//! charged for less than one record (16 KiB) that it cannot read. The other choice, to charge whole records alone, would
//! give each request up to a record for nothing to a client that does not check.

use std::collections::VecDeque;

/// Bytes of plaintext in the largest record.
pub(super) const RECORD: usize = 16 << 10;

/// Bytes before the first encrypted byte of a record (RFC 8446, section 5.1).
const HEADER: u64 = 5;

/// With more open records than this, the kernel is asked which of them have left.
const MANY: usize = 64;

/// Amounts since the connection began.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    ciphertext: u64,
    plaintext: u64,
}

/// The records that have not left the node entirely. There is at least a header and a trailer of ciphertext for each, so
/// the bound on unsent bytes bounds their number.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Ciphertext that the kernel has accepted.
    accepted: u64,
    /// The end of the last record that has left.
    gone: Position,
    /// The ends of the others.
    open: VecDeque<Position>,
}

impl Records {
    /// Notes a record with so many bytes of ciphertext and plaintext. A record of the protocol has no plaintext.
    pub(super) fn sealed(&mut self, ciphertext: usize, plaintext: usize) {
        let last = self.last();
        let end =
            Position { ciphertext: last.ciphertext + ciphertext as u64, plaintext: last.plaintext + plaintext as u64 };
        match self.open.back_mut() {
            Some(last) if plaintext == 0 => *last = end,
            _ => self.open.push_back(end),
        }
    }

    /// Notes that the kernel has accepted this many more bytes.
    pub(super) fn accepted(&mut self, ciphertext: usize) {
        self.accepted += ciphertext as u64;
    }

    /// Whether it is time to ask the kernel, so that records that have left are forgotten.
    pub(super) fn are_many(&self) -> bool {
        self.open.len() > MANY
    }

    /// The plaintext that has not left the node, when the kernel has not sent this much of what it accepted.
    pub(super) fn unsent(&mut self, in_kernel: u64) -> u64 {
        let sent = self.accepted.saturating_sub(in_kernel);
        while let Some(record) = self.open.pop_front_if(|record| record.ciphertext <= sent) {
            self.gone = record;
        }
        let begun = self.open.front().map_or(0, |record| {
            let encrypted = sent.saturating_sub(self.gone.ciphertext + HEADER);
            encrypted.min(record.plaintext - self.gone.plaintext)
        });
        self.last().plaintext - self.gone.plaintext - begun
    }

    fn last(&self) -> Position {
        self.open.back().copied().unwrap_or(self.gone)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_byte_has_left_when_its_encrypted_byte_has() {
        let mut records = Records::default();
        records.sealed(300, 0);
        records.sealed(122, 100);
        records.sealed(72, 50);
        assert_eq!(records.unsent(0), 150, "the kernel has accepted nothing");
        records.accepted(494);
        for (in_kernel, unsent) in [
            (494, 150),
            (194, 150),
            (189, 150),
            (188, 149),
            (100, 61),
            (89, 50),
            (72, 50),
            (67, 50),
            (66, 49),
            (17, 0),
            (0, 0),
        ] {
            assert_eq!(records.unsent(in_kernel), unsent, "with {in_kernel} bytes in the kernel");
        }
        records.sealed(24, 0);
        records.sealed(32, 10);
        assert_eq!(records.unsent(0), 10);
    }

    proptest! {
        /// Whatever the records and the pace, what has left never shrinks and differs from what can be read by less than
        /// a record.
        #[test]
        fn what_left_is_what_can_be_read_and_less_than_a_record_more(
            sizes in prop::collection::vec(0_usize..=RECORD, 1..50),
            steps in prop::collection::vec(1_u64..40_000, 1..50),
        ) {
            let mut records = Records::default();
            let mut ends = Vec::new();
            let (mut ciphertext, mut plaintext) = (0, 0);
            for size in sizes {
                records.sealed(size + 22, size);
                (ciphertext, plaintext) = (ciphertext + size as u64 + 22, plaintext + size as u64);
                ends.push((ciphertext, plaintext));
            }
            records.accepted(usize::try_from(ciphertext).expect("small"));
            let (mut sent, mut before) = (0, 0);
            for step in steps {
                sent = ciphertext.min(sent + step);
                let left = plaintext - records.unsent(ciphertext - sent);
                let readable = ends.iter().rev().find(|end| end.0 <= sent).map_or(0, |end| end.1);
                prop_assert!((readable..=readable + RECORD as u64).contains(&left));
                prop_assert!(left >= before);
                before = left;
            }
        }
    }
}
