//! Turns: the server gets one request at a time.
//!
//! A client may send its next request before it has the answer to the last one (RFC 9112, section 9.3.2). The framework
//! then reads ahead, and gives the earlier answer the version, the `Connection` and the method of the later request:
//! the answer to a GET before a HEAD has no body. So bytes after a request are held back until its answer has ended.
//!
//! This module finds the end of a head; the server reports the framing of the body when it [begins](Turns::begin) the
//! request.

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
    /// Nothing is held back any more.
    Free,
}

impl Default for TurnState {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

impl Turns {
    /// Whether the server may read now.
    pub(super) fn may_read(&mut self) -> bool {
        match &mut self.state {
            TurnState::Head(_) | TurnState::Body { .. } | TurnState::Free => true,
            TurnState::Answering => false,
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

    /// How many of these bytes, which follow the earlier ones, the server may read now.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        match &mut self.state {
            TurnState::Head(head) => {
                let taken = bytes.iter().position(|&byte| head.ends_with(byte));
                match taken {
                    Some(last) => {
                        self.state = TurnState::Whole { looked: false };
                        last + 1
                    }
                    None => bytes.len(),
                }
            }
            TurnState::Body { body, answered } => {
                let (taken, ended) = body.take(bytes);
                if ended {
                    self.state = if *answered { TurnState::default() } else { TurnState::Answering };
                }
                taken
            }
            TurnState::Whole { .. } | TurnState::Answering => 0,
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
        } else {
            self.state = TurnState::Body { body, answered: false };
            self.wake();
        }
    }

    /// The answer to the request has ended.
    pub fn answered(&mut self) {
        match &mut self.state {
            TurnState::Answering => self.state = TurnState::default(),
            TurnState::Body { answered, .. } => *answered = true,
            TurnState::Head(_) | TurnState::Whole { .. } | TurnState::Free => {}
        }
        self.wake();
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
    begun: bool,
    /// Whether nothing but a carriage return has come since the last line feed.
    at_line_start: bool,
}

impl Head {
    fn ends_with(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' if self.begun && self.at_line_start => return true,
            b'\n' => self.at_line_start = true,
            b'\r' => {}
            _ => {
                self.begun = true;
                self.at_line_start = false;
            }
        }
        false
    }
}

#[derive(Debug)]
enum Body {
    Length(u64),
    Chunks(Chunks),
}

impl Body {
    /// How many of the bytes belong to the body, and whether the body ends with them.
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                (taken, *left == 0)
            }
            Self::Chunks(chunks) => chunks.take(bytes),
        }
    }
}

/// The position in a chunked body (RFC 9112, section 7.1).
#[derive(Debug)]
enum Chunks {
    /// In the line with the size of a chunk; `reads` is false once a character other than a digit has come.
    Size { size: u64, reads: bool },
    /// In a chunk and the line end after it.
    Data { left: u64 },
    /// After the last chunk, in trailer fields that end with an empty line.
    Trailer { empty: bool },
}

impl Default for Chunks {
    fn default() -> Self {
        Self::Size { size: 0, reads: true }
    }
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self {
                Self::Data { left } => {
                    let taken = usize::try_from(*left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                    *left -= taken as u64;
                    at += taken;
                    if *left == 0 {
                        *self = Self::default();
                    }
                    continue;
                }
                Self::Size { size: 0, .. } if byte == b'\n' => *self = Self::Trailer { empty: true },
                // Including the chunk's line end.
                Self::Size { size, .. } if byte == b'\n' => *self = Self::Data { left: size.saturating_add(2) },
                Self::Size { size, reads } => match char::from(byte).to_digit(16) {
                    Some(digit) if *reads => *size = size.saturating_mul(16).saturating_add(u64::from(digit)),
                    _ => *reads = false,
                },
                Self::Trailer { empty: true } if byte == b'\n' => return (at + 1, true),
                Self::Trailer { empty } => *empty = byte == b'\n' || (*empty && byte == b'\r'),
            }
            at += 1;
        }
        (at, false)
    }
}

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
    fn a_server_that_goes_on_reading_after_a_head_is_not_held_up() {
        let mut turns = Turns::default();
        turns.take(GET);
        assert!(!turns.may_read());
        assert!(turns.may_read(), "it wants more");
        assert_eq!(turns.take(b"more"), 4);
    }
}
