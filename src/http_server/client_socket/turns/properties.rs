//! What holds for every body in chunks.

use super::*;

/// What becomes of the bytes behind a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBody {
    /// How many of them the server reads.
    pub read: usize,
    pub end: ReadEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEnd {
    /// The body is whole.
    Whole,
    /// The next byte cannot be part of it.
    Malformed,
    /// More bytes must come.
    Unfinished,
}

/// The length of the head that the bytes begin with; `None` while it has no end.
pub fn read_head(bytes: &[u8]) -> Option<usize> {
    let mut turns = Turns::default();
    let read = turns.take(bytes);
    matches!(turns.state, TurnState::Whole { .. }).then_some(read)
}

/// Gives the server what follows a head, in pieces of this size.
pub fn read_body(framing: Framing, bytes: &[u8], piece: usize) -> ReadBody {
    let mut turns = Turns { state: TurnState::Whole { looked: false }, ..Turns::default() };
    turns.begin(framing);
    let mut read = 0;
    for piece in bytes.chunks(piece.max(1)) {
        let taken = turns.take(piece);
        read += taken;
        if taken < piece.len() {
            break;
        }
    }
    let end = match turns.state {
        TurnState::Answering => ReadEnd::Whole,
        TurnState::Malformed => ReadEnd::Malformed,
        _ => ReadEnd::Unfinished,
    };
    ReadBody { read, end }
}

/// # Panics
/// When a body is read differently in pieces, or ends elsewhere than [RFC 9112](https://www.rfc-editor.org/rfc/rfc9112#section-7.1) says.
pub(crate) fn check(body: &[u8]) {
    let whole = read_body(Framing::Chunked, body, body.len());
    for piece in [1, 2, 3, 7] {
        assert_eq!(read_body(Framing::Chunked, body, piece), whole, "in pieces of {piece}");
    }
    assert!(whole.read <= body.len());
    assert_eq!(whole.end == ReadEnd::Whole, end_of(body) == Some(whole.read), "{whole:?}");
}

/// Where a well-formed body in chunks ends, found line by line.
fn end_of(body: &[u8]) -> Option<usize> {
    let mut rest = body;
    let line = |rest: &mut &[u8]| {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = rest[..end].strip_suffix(b"\r").filter(|line| !line.contains(&b'\r'))?;
        *rest = &rest[end + 1..];
        Some(line.to_vec())
    };
    loop {
        let line = line(&mut rest)?;
        let (size, extension) = line.split_at(line.iter().position(|byte| *byte == b';').unwrap_or(line.len()));
        if extension.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return None;
        }
        let end = size.iter().rposition(|byte| !matches!(byte, b' ' | b'\t'))?;
        let digits =
            std::str::from_utf8(&size[..=end]).ok().filter(|digits| digits.len() <= usize::from(SIZE_DIGITS))?;
        let size = u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
        if size == 0 {
            break;
        }
        let (_, behind) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        rest = behind.strip_prefix(b"\r\n")?;
    }
    while !line(&mut rest)?.is_empty() {}
    Some(body.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    proptest! {
        #[test]
        fn every_body_ends_where_rfc_9112_says(
            parts in vec(select(vec!["0", "1", "a", "F", "\r\n", "\r\n", "\n", "\r", ";", " ", "x", "1\r\na\r\n", "0\r\n\r\n"]), 0..12),
        ) {
            check(parts.concat().as_bytes());
        }
    }
}
