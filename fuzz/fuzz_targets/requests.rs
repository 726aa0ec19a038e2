//! Requests one after the other on a connection: the node and the framework agree where each of them ends. Where they do not, a client
//! could hide a request in the body of another.

#![no_main]

use actix_http::{
    HttpMessage as _, ServiceConfig,
    h1::{Codec, Message, MessageType},
    header::CONTENT_LENGTH,
};
use bytes::BytesMut;
use penstock::fuzzing::{Framing, ReadEnd, read_body, read_head};
use tokio::task::LocalSet;
use tokio_util::codec::Decoder as _;

/// Requests of one input.
const REQUESTS: usize = 8;

thread_local! {
    /// The framework's settings. It wants to run a clock beside them, which nothing here waits for.
    static CONFIG: ServiceConfig = {
        let tasks = LocalSet::new();
        let _guard = tasks.enter();
        ServiceConfig::default()
    };
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    for _ in 0..REQUESTS {
        let Some(read) = request(rest) else { return };
        rest = &rest[read..];
    }
});

/// The length of a whole request; `None` when the connection ends with it.
fn request(input: &[u8]) -> Option<usize> {
    let head = read_head(input)?;
    let mut codec = CONFIG.with(|config| Codec::new(config.clone()));
    let mut buffer = BytesMut::from(&input[..head]);
    // Where the framework sees no end of the head, the node leaves the connection to it.
    let Ok(Some(Message::Item(request))) = codec.decode(&mut buffer) else { return None };
    assert!(buffer.is_empty(), "the framework ends the head earlier: {:?}", buffer.escape_ascii().to_string());
    let framing = if codec.message_type() == MessageType::None {
        Framing::Length(0)
    } else if request.chunked().unwrap_or(false) {
        Framing::Chunked
    } else {
        let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
        length.map_or(Framing::Endless, Framing::Length)
    };
    if framing == Framing::Length(0) {
        return Some(head);
    }
    let body = read_body(framing, &input[head..], input.len());
    buffer.extend_from_slice(&input[head..head + body.read]);
    let is_whole = loop {
        match codec.decode(&mut buffer) {
            Ok(Some(Message::Chunk(Some(_)))) => {}
            Ok(Some(Message::Chunk(None))) => break true,
            Ok(None) => break false,
            Ok(Some(Message::Item(_))) => unreachable!("a body has no head"),
            // Refused by the framework although it is well-formed for the node: the connection ends.
            Err(_) => return None,
        }
    };
    assert_eq!(is_whole, body.end == ReadEnd::Whole, "{body:?}");
    assert!(buffer.is_empty(), "the framework ends the body earlier: {:?}", buffer.escape_ascii().to_string());
    is_whole.then_some(head + body.read)
}
