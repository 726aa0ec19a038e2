//! Pieces of a large answer, on their way around the framework's buffer.
//!
//! The framework copies what it sends into a buffer of the connection, which grows to the size of the pieces and stays so large. A large
//! answer goes around it: its body puts the pieces here, and the socket hands them to the kernel as they are, after the head. The body
//! asks its source for more only when the kernel has accepted what is here and has room for more. So an answer whose client is slow holds no
//! piece.
//!
//! **Bound.** [`FULL_BATCH`] and a piece for each connection, and only as long as the kernel takes to accept them. A rest that the kernel
//! did not accept is copied, so that it keeps no larger memory alive; that is seldom more than a part of a piece, because the kernel is
//! asked for room before.

use std::{
    collections::VecDeque,
    io::IoSlice,
    task::{Context, Poll, Waker},
};

use bytes::{Buf as _, Bytes};

/// Bytes that are put here before the kernel is asked whether it has room for more: a piece of content.
const BATCH: usize = 32 << 10;

/// The same for a client that is fast, so that few calls carry much. The kernel has room for twice as many unsent bytes.
const FULL_BATCH: usize = 128 << 10;

/// A client that takes so much without a wait is fast: as much as the kernel keeps unsent.
const FAST: usize = 256 << 10;

/// Pieces that are handed to the kernel in one call, with the head before them.
pub(super) const SLICES: usize = 8;

/// The outbox of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// Bytes that may be put before the kernel is asked.
    room: usize,
    /// Bytes that were put since the kernel last had no room.
    flowing: usize,
    /// The body that waits until this is empty.
    waiting: Option<Waker>,
    /// It waits for room, too.
    wants_room: bool,
    /// The pieces are copies.
    is_copied: bool,
    /// The body ended before its length.
    is_broken: bool,
}

impl Outbox {
    /// An answer of this length begins. One that fits into two pieces needs one call.
    pub(super) fn begin(&mut self, length: u64) {
        self.room = if length <= 2 * BATCH as u64 { 2 * BATCH } else { BATCH };
        self.flowing = 0;
    }

    /// Waits until the kernel has room for the next piece.
    pub(super) fn poll_room(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.poll(cx, self.room > 0, true)
    }

    /// Waits until the kernel has accepted all pieces.
    pub(super) fn poll_empty(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.poll(cx, self.pieces.is_empty(), false)
    }

    fn poll(&mut self, cx: &Context<'_>, is_there: bool, wants_room: bool) -> Poll<()> {
        if is_there {
            return Poll::Ready(());
        }
        self.wants_room = wants_room;
        match &mut self.waiting {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waiting = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    pub(super) fn put(&mut self, piece: Bytes) {
        self.room = self.room.saturating_sub(piece.len());
        self.flowing = self.flowing.saturating_add(piece.len());
        self.bytes += piece.len();
        self.is_copied = false;
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// The body ended before its length, so the connection must not look as if the answer were whole.
    pub(super) fn break_off(&mut self) {
        self.is_broken = true;
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next bytes, of one piece.
    pub(super) fn first(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    /// These bytes and the pieces after them, for one call; and how many slices they are.
    pub(super) fn slices<'a>(&'a self, head: &'a [u8]) -> ([IoSlice<'a>; SLICES], usize) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let head = (!head.is_empty()).then_some(head);
        let all = head.into_iter().chain(self.pieces.iter().map(|piece| &piece[..]));
        let used = slices.iter_mut().zip(all).map(|(slice, bytes)| *slice = IoSlice::new(bytes)).count();
        (slices, used)
    }

    /// Forgets bytes that were taken for the client.
    pub(super) fn taken(&mut self, mut bytes: usize) {
        self.bytes -= bytes;
        while let Some(piece) = self.pieces.front_mut() {
            if bytes < piece.len() {
                piece.advance(bytes);
                return;
            }
            bytes -= piece.len();
            self.pieces.pop_front();
        }
    }

    /// The kernel has no room, so the client is not fast. What is here is kept without the memory that it is a part of.
    pub(super) fn blocked(&mut self) {
        self.flowing = 0;
        if !std::mem::replace(&mut self.is_copied, true) {
            self.pieces.iter_mut().for_each(|piece| *piece = Bytes::copy_from_slice(piece));
        }
    }

    /// Whether the kernel is to be asked for room.
    pub(super) const fn wants_room(&self) -> bool {
        self.waiting.is_some() && self.wants_room
    }

    /// All pieces were accepted, and if the body wants room, the kernel has it.
    pub(super) fn free(&mut self) {
        if let Some(body) = self.waiting.take() {
            self.room = if self.flowing < FAST { BATCH } else { FULL_BATCH };
            body.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn outbox(pieces: &[&'static [u8]]) -> Outbox {
        let mut outbox = Outbox::default();
        pieces.iter().for_each(|piece| outbox.put(Bytes::from_static(piece)));
        outbox
    }

    fn text(outbox: &Outbox, head: &'static [u8]) -> Vec<u8> {
        let (slices, used) = outbox.slices(head);
        slices[..used].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn pieces_leave_in_order_after_what_comes_before_them_however_much_is_taken_at_a_time() {
        for step in 1..=9 {
            let (mut outbox, mut left) = (outbox(&[b"abc", b"", b"de", b"fghi"]), b"abcdefghi".to_vec());
            while outbox.bytes() > 0 {
                assert_eq!(text(&outbox, b"head"), [&b"head"[..], &left].concat());
                assert!(left.starts_with(outbox.first()));
                let taken = step.min(left.len());
                outbox.taken(taken);
                left.drain(..taken);
                assert_eq!(outbox.bytes(), left.len());
            }
            assert_eq!(outbox.first(), b"");
        }
    }

    #[test]
    fn a_rest_that_must_wait_keeps_no_larger_memory_alive() {
        let leaf = Bytes::from(vec![7; 1 << 20]);
        let mut outbox = Outbox::default();
        outbox.put(leaf.slice(..BATCH));
        outbox.taken(BATCH - 3);
        assert!(!leaf.is_unique());
        outbox.blocked();
        assert!(leaf.is_unique());
        assert_eq!(text(&outbox, b""), [7; 3]);
    }

    #[test]
    fn a_body_gets_room_for_one_piece_at_a_time_until_its_client_is_fast() {
        let cx = Context::from_waker(Waker::noop());
        let (mut outbox, mut rooms) = (Outbox::default(), Vec::new());
        outbox.begin(u64::MAX);
        for turn in 0..12 {
            let mut room = 0;
            while outbox.poll_room(&cx).is_ready() {
                outbox.put(Bytes::from(vec![0; BATCH]));
                room += 1;
            }
            rooms.push(room);
            assert!(outbox.wants_room());
            if turn == 9 {
                outbox.blocked();
            }
            outbox.taken(room * BATCH);
            outbox.free();
        }
        assert_eq!(rooms, [1, 1, 1, 1, 1, 1, 1, 1, 4, 4, 1, 1]);
    }
}
