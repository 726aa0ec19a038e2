//! Turns: the server gets one request at a time.
//!
//! A client may send its next request before it has the answer to the last one (RFC 9112, section 9.3.2). The framework
//! then reads ahead, and gives the earlier answer the version, the `Connection` and the method of the later request:
//! the answer to a GET before a HEAD has no body. So bytes after a request are held back until its answer has ended.
//!
//! This module finds the end of a head; the server reports the framing of the body when it [begins](Turns::begin) the
//! request. Every line of a head and of a chunked body ends with both a carriage return and a line feed: a parser in front
//! that does not take a line feed alone for a line end would find other fields and other requests in the same bytes.

use std::task::Waker;

/// What follows the head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    /// Bytes until the end of the connection.
    Endless,
}

/// Decides which of a client's bytes the server may read now.
#[derive(Debug, Default)]
pub struct Turns {
    state: TurnState,
    /// Set when bytes have arrived that must not be read yet.
    waiting: Option<Waker>,
    /// Set while a request has a body that may still come: woken when it is answered.
    reader: Option<Waker>,
}

#[derive(Debug)]
enum TurnState {
    Head(Head),
    /// A head is complete, and the server has not begun the request.
    Whole {
        looked: bool,
    },
    Body {
        body: Body,
        answered: bool,
    },
    /// The request is complete, and its answer is not.
    Answering,
    /// A line of the head ends without a carriage return. The server is to see the end of the connection here.
    MalformedHead,
    /// The body is malformed. The server is to see its end here.
    Malformed,
    /// Nothing is held back any more.
    Free,
}

impl Default for TurnState {
    /// The client has just connected, so it owes a head.
    fn default() -> Self {
        Self::Head(Head { is_due: true, ..Head::default() })
    }
}

impl TurnState {
    /// Between two requests: a client may take its time.
    fn idle() -> Self {
        Self::Head(Head::default())
    }
}

impl Turns {
    /// Whether the server may read now.
    pub(super) fn may_read(&mut self) -> bool {
        match &mut self.state {
            TurnState::Head(_) | TurnState::Body { .. } | TurnState::Free => true,
            TurnState::Answering | TurnState::MalformedHead | TurnState::Malformed => false,
            // It has seen the head and still wants more bytes: it knows better.
            TurnState::Whole { looked: true } => {
                self.state = TurnState::Free;
                true
            }
            TurnState::Whole { looked } => {
                *looked = true;
                false
            }
        }
    }

    /// Registers the server to be woken when it may read more.
    pub(super) fn wait(&mut self, server: &Waker) {
        self.waiting = Some(server.clone());
    }

    /// Registers the server to be woken when the request is answered, unless it has no body or its body has come.
    pub(super) fn await_answer(&mut self, server: &Waker) {
        if !matches!(self.state, TurnState::Whole { .. } | TurnState::Body { .. }) {
            return;
        }
        match &mut self.reader {
            Some(reader) => reader.clone_from(server),
            None => self.reader = Some(server.clone()),
        }
    }

    /// How many of these bytes, which follow the earlier ones, the server may read now.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        match &mut self.state {
            TurnState::Head(head) => {
                let (taken, end) = head.take(bytes);
                match end {
                    None => {}
                    Some(PartEnd::Whole) => self.state = TurnState::Whole { looked: false },
                    Some(PartEnd::Malformed) => self.state = TurnState::MalformedHead,
                }
                taken
            }
            TurnState::Body { body, answered } => {
                let (taken, end) = body.take(bytes);
                match end {
                    None => {}
                    Some(PartEnd::Whole) if *answered => self.state = TurnState::idle(),
                    Some(PartEnd::Whole) => self.state = TurnState::Answering,
                    Some(PartEnd::Malformed) => self.state = TurnState::Malformed,
                }
                taken
            }
            TurnState::Whole { .. } | TurnState::Answering | TurnState::MalformedHead | TurnState::Malformed => 0,
            TurnState::Free => bytes.len(),
        }
    }

    /// The server begins a request.
    pub fn begin(&mut self, framing: Framing) {
        let body = match framing {
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunks(Chunks::default()),
            Framing::Endless => return self.free(),
        };
        if !matches!(self.state, TurnState::Whole { .. }) {
            return;
        }
        if framing == Framing::Length(0) {
            self.state = TurnState::Answering;
            self.reader = None;
        } else {
            self.state = TurnState::Body { body, answered: false };
            self.wake();
        }
    }

    /// The answer to the request has ended.
    pub fn answered(&mut self) {
        match &mut self.state {
            TurnState::Answering => self.state = TurnState::idle(),
            TurnState::Body { answered, .. } => {
                *answered = true;
                if let Some(reader) = self.reader.take() {
                    reader.wake();
                }
            }
            TurnState::Head(_)
            | TurnState::Whole { .. }
            | TurnState::MalformedHead
            | TurnState::Malformed
            | TurnState::Free => {}
        }
        self.wake();
    }

    /// Whether the body of the request is malformed.
    pub(super) fn is_malformed(&self) -> bool {
        matches!(self.state, TurnState::Malformed)
    }

    /// Whether the head of a request is malformed.
    pub(super) fn is_head_malformed(&self) -> bool {
        matches!(self.state, TurnState::MalformedHead)
    }

    /// Whether the client owes the rest of a head: it has just connected, or it has begun another request.
    pub(super) fn is_head_due(&self) -> bool {
        matches!(self.state, TurnState::Head(Head { is_due: true, .. }))
    }

    /// Whether the request is answered and the rest of its body has not come.
    pub(super) fn is_answered_early(&self) -> bool {
        matches!(self.state, TurnState::Body { answered: true, .. })
    }

    /// Whether the next byte is the first of a request.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(self.state, TurnState::Head(Head { begun: false, .. }))
    }

    /// Whether the server has not begun the request whose head it reads. What it writes now is its own refusal.
    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.state, TurnState::Head(_) | TurnState::Whole { .. })
    }

    fn free(&mut self) {
        self.state = TurnState::Free;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(server) = self.waiting.take() {
            server.wake();
        }
    }
}

/// Finds the empty line after a head. Empty lines before the head do not count (RFC 9112, section 2.2).
#[derive(Debug, Default)]
struct Head {
    /// Whether the client has just connected, or has sent a byte, if only of an empty line before the head.
    is_due: bool,
    /// Whether a line that is not empty has begun.
    begun: bool,
    /// Whether a byte of the present line has come, other than the carriage return that may end it.
    in_line: bool,
    /// Whether the last byte was a carriage return.
    after_return: bool,
}

impl Head {
    /// How many of the bytes belong to the head, and whether it ends with them.
    fn take(&mut self, bytes: &[u8]) -> (usize, Option<PartEnd>) {
        self.is_due |= !bytes.is_empty();
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' if !self.after_return => return (at, Some(PartEnd::Malformed)),
                b'\n' if self.begun && !self.in_line => return (at + 1, Some(PartEnd::Whole)),
                b'\n' => self.in_line = false,
                // One that ends no line belongs to the line; the server refuses it.
                b'\r' => self.in_line |= self.after_return,
                _ => {
                    self.begun = true;
                    self.in_line = true;
                }
            }
            self.after_return = byte == b'\r';
        }
        (bytes.len(), None)
    }
}

#[derive(Debug)]
enum Body {
    Length(u64),
    Chunks(Chunks),
}

/// How a head or a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartEnd {
    Whole,
    /// The byte that comes next cannot be part of it.
    Malformed,
}

impl Body {
    /// How many of the bytes belong to the body, and whether the body ends with them.
    fn take(&mut self, bytes: &[u8]) -> (usize, Option<PartEnd>) {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                (taken, (*left == 0).then_some(PartEnd::Whole))
            }
            Self::Chunks(chunks) => chunks.take(bytes),
        }
    }
}

/// Digits of the size of a chunk. The largest size that the server can hold has as many.
const SIZE_DIGITS: u8 = 16;

/// The position in a chunked body (RFC 9112, section 7.1).
#[derive(Debug, Clone, Copy)]
enum Chunks {
    Size {
        size: u64,
        digits: u8,
    },
    /// White space after the size.
    Space {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLineFeed {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataReturn,
    DataLineFeed,
    /// At the beginning of a trailer field, or of the empty line that ends the body.
    Trailer,
    TrailerField,
    TrailerLineFeed,
    LastLineFeed,
}

impl Default for Chunks {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> (usize, Option<PartEnd>) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Self::Data { left } = self {
                let taken = usize::try_from(*left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                *left -= taken as u64;
                at += taken;
                if *left == 0 {
                    *self = Self::DataReturn;
                }
                continue;
            }
            if matches!((&self, byte), (Self::LastLineFeed, b'\n')) {
                return (at + 1, Some(PartEnd::Whole));
            }
            let Some(next) = self.after(byte) else { return (at, Some(PartEnd::Malformed)) };
            *self = next;
            at += 1;
        }
        (at, None)
    }

    /// The position after a byte that is not data; `None` if the byte must not be here.
    fn after(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Size { size, digits: 1.. } | Self::Space { size }, b' ' | b'\t') => Self::Space { size },
            (Self::Size { size, digits: 1.. } | Self::Space { size }, b';') => Self::Extension { size },
            (Self::Size { size, digits: 1.. } | Self::Space { size } | Self::Extension { size }, b'\r') => {
                Self::SizeLineFeed { size }
            }
            (Self::Size { size, digits: digits @ 0..SIZE_DIGITS }, _) => {
                let digit = char::from(byte).to_digit(16)?;
                Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => Self::Extension { size },
            (Self::SizeLineFeed { size: 0 }, b'\n') => Self::Trailer,
            (Self::SizeLineFeed { size }, b'\n') => Self::Data { left: size },
            (Self::DataReturn, b'\r') => Self::DataLineFeed,
            (Self::DataLineFeed, b'\n') => Self::default(),
            (Self::Trailer, b'\r') => Self::LastLineFeed,
            (Self::TrailerField, b'\r') => Self::TrailerLineFeed,
            (Self::Trailer | Self::TrailerField, byte) if byte != b'\n' => Self::TrailerField,
            (Self::TrailerLineFeed, b'\n') => Self::Trailer,
            _ => return None,
        })
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// How many of the bytes are taken, in pieces of this size, until reading must stop.
    fn taken(turns: &mut Turns, bytes: &[u8], piece: usize) -> usize {
        let mut at = 0;
        while at < bytes.len() && !matches!(turns.state, TurnState::Whole { .. } | TurnState::Answering) {
            let piece = &bytes[at..bytes.len().min(at + piece)];
            let count = turns.take(piece);
            at += count;
            if count < piece.len() {
                break;
            }
        }
        at
    }

    #[test]
    fn one_request_is_read_at_a_time_however_it_comes() {
        let chunked: &[u8] = b"5;a=b\r\nhello\r\n1\r\n\n\r\n0\r\nx: y\r\n\r\n";
        for piece in 1..40 {
            for (body, framing) in
                [(&b""[..], Framing::Length(0)), (b"hello", Framing::Length(5)), (chunked, Framing::Chunked)]
            {
                let mut turns = Turns::default();
                for _ in 0..3 {
                    let bytes = [b"\r\n", GET, body, GET, body].concat();
                    assert_eq!(taken(&mut turns, &bytes, piece), 2 + GET.len());
                    assert!(!turns.may_read());
                    turns.begin(framing);
                    assert_eq!(taken(&mut turns, &bytes[2 + GET.len()..], piece), body.len(), "{framing:?} by {piece}");
                    assert!(!turns.may_read());
                    turns.answered();
                    assert!(turns.may_read());
                }
            }
        }
    }

    #[test]
    fn a_body_that_is_answered_before_it_has_come_is_read_to_its_end() {
        let mut turns = Turns::default();
        assert_eq!(taken(&mut turns, GET, 100), GET.len());
        turns.begin(Framing::Length(5));
        assert_eq!(turns.take(b"he"), 2);
        turns.answered();
        assert_eq!(turns.take(b"lloGET"), 3);
        assert!(turns.may_read());
        assert_eq!(turns.take(GET), GET.len());
        assert!(matches!(turns.state, TurnState::Whole { .. }));
    }

    #[test]
    fn a_malformed_chunk_is_never_given_to_the_server() {
        let bad: [(&[u8], usize); 12] = [
            (b"5\nhello\r\n0\r\n\r\n", 1),
            (b"00000000000000005\r\nhello\r\n0\r\n\r\n", 16),
            (b"\r\n", 0),
            (b"g\r\n", 0),
            (b"-1\r\n", 0),
            (b"0x5\r\n", 1),
            (b"5 5\r\n", 2),
            (b"5;a\nb\r\n", 3),
            (b"5\r\nhello!\r\n", 8),
            (b"5\r\nhello\n0\r\n\r\n", 8),
            (b"0\r\nx: y\n\r\n", 7),
            (b"0\r\n\rx", 4),
        ];
        for (body, read) in bad {
            for piece in 1..20 {
                let mut turns = Turns::default();
                assert_eq!(taken(&mut turns, GET, 100), GET.len());
                turns.begin(Framing::Chunked);
                assert_eq!(taken(&mut turns, body, piece), read, "{} by {piece}", body.escape_ascii());
                assert!(turns.is_malformed(), "{}", body.escape_ascii());
                turns.answered();
                assert!(!turns.may_read() && turns.take(GET) == 0, "nothing that follows is read");
            }
        }
    }

    #[test]
    fn a_line_feed_alone_ends_no_line_of_a_head() {
        let bad: [(&[u8], usize); 5] = [
            (b"\nGET / HTTP/1.1\r\n\r\n", 0),
            (b"GET / HTTP/1.1\nhost: x\r\n\r\n", 14),
            (b"GET / HTTP/1.1\r\nx: a\ny: b\r\n\r\n", 20),
            (b"GET / HTTP/1.1\r\nhost: x\r\n\n", 25),
            (b"GET / HTTP/1.1\r\nhost: x\n\r\n", 23),
        ];
        for (head, read) in bad {
            for piece in 1..30 {
                let mut turns = Turns::default();
                assert_eq!(taken(&mut turns, head, piece), read, "{} by {piece}", head.escape_ascii());
                assert!(turns.is_head_malformed() && !turns.may_read(), "{}", head.escape_ascii());
            }
        }
    }

    #[test]
    fn a_client_owes_a_head_when_it_connects_and_when_it_has_begun_one() {
        let mut turns = Turns::default();
        assert!(turns.is_head_due());
        turns.take(GET);
        turns.begin(Framing::Length(0));
        assert!(!turns.is_head_due());
        turns.answered();
        assert!(!turns.is_head_due(), "it may be idle");
        turns.take(b"\r\n");
        assert!(turns.is_head_due());
    }

    #[test]
    fn a_server_that_goes_on_reading_after_a_head_is_not_held_up() {
        let mut turns = Turns::default();
        turns.take(GET);
        assert!(!turns.may_read());
        assert!(turns.may_read(), "it wants more");
        assert_eq!(turns.take(b"more"), 4);
    }
}
