//! A request's turn on its connection: from its head to the end of its answer.

use std::{
    cell::RefCell,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_http::{ConnectionType, HttpMessage as _, Method, Payload, Request, Response, header::CONTENT_LENGTH};
use actix_web::{
    body::{BodySize, MessageBody},
    web::Bytes,
};
use pin_project_lite::pin_project;

use super::outbox::Outbox;
use crate::http_server::client_socket::{Framing, Turns};

/// Answers above this length go around the framework's buffer, which holds so much beside a head without growing by much.
const LARGE: u64 = 16 << 10;

/// Ends the turn when dropped.
pub(super) struct Turn {
    turns: Option<Rc<RefCell<Turns>>>,
    /// Where the body of a large answer goes. None for a HEAD, whose answer has no body.
    outbox: Option<Rc<RefCell<Outbox>>>,
    /// The client offers to switch to another protocol. It is not taken up, and the framework would answer as if it were.
    offers_switch: bool,
}

impl Turn {
    /// Tells the connection what follows the head.
    pub(super) fn begin(request: &mut Request) -> Self {
        let framing = framing(request);
        let turns = request.conn_data::<Rc<RefCell<Turns>>>().cloned();
        if let Some(turns) = &turns {
            turns.borrow_mut().begin(framing);
        }
        let has_body = request.method() != Method::HEAD;
        let outbox = has_body.then(|| request.conn_data::<Rc<RefCell<Outbox>>>().cloned()).flatten();
        Self { turns, outbox, offers_switch: request.head().upgrade() }
    }

    /// The way of the answer's body around the framework's buffer, if it is large. The head then says the length in its own
    /// field, because the framework does not see the bytes.
    fn detour<B>(&self, answer: &mut Response<B>, size: BodySize) -> Option<Detour> {
        let BodySize::Sized(length @ LARGE..) = size else { return None };
        let outbox = Rc::clone(self.outbox.as_ref()?);
        outbox.borrow_mut().begin(length);
        let head = answer.head_mut();
        head.no_chunking(true);
        head.headers_mut().insert(CONTENT_LENGTH, length.into());
        Some(Detour { outbox, left: length })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = &self.turns {
            turns.borrow_mut().answered();
        }
    }
}

fn framing(request: &mut Request) -> Framing {
    if matches!(request.payload(), Payload::None) {
        return Framing::Length(0);
    }
    if request.chunked().unwrap_or(false) {
        return Framing::Chunked;
    }
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
    length.map_or(Framing::Endless, Framing::Length)
}

pin_project! {
    /// A call of the application; its turn continues with the body of the answer.
    pub(super) struct Call<F, B> {
        #[pin]
        call: F,
        turn: Option<Turn>,
        body: PhantomData<B>,
    }
}

impl<F, B> Call<F, B> {
    pub(super) fn new(call: F, turn: Turn) -> Self {
        Self { call, turn: Some(turn), body: PhantomData }
    }
}

impl<F, R, B, E> Future for Call<F, B>
where
    F: Future<Output = Result<R, E>>,
    R: Into<Response<B>>,
    B: MessageBody,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.call.poll(cx));
        let turn = this.turn.take();
        Poll::Ready(answer.map(|answer| {
            let mut answer = answer.into();
            if turn.as_ref().is_some_and(|turn| turn.offers_switch) {
                answer.head_mut().set_connection_type(ConnectionType::Close);
            }
            let size = answer.body().size();
            let detour = turn.as_ref().and_then(|turn| turn.detour(&mut answer, size));
            answer.map_body(|_, body| ResponseBody { body, turn, detour })
        }))
    }
}

/// The way of a body around the framework's buffer.
struct Detour {
    outbox: Rc<RefCell<Outbox>>,
    /// Bytes that the body still owes.
    left: u64,
}

pin_project! {
    /// The body of an answer.
    pub(super) struct ResponseBody<B> {
        #[pin]
        body: B,
        turn: Option<Turn>,
        detour: Option<Detour>,
    }
}

impl<B: MessageBody> MessageBody for ResponseBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        // To the framework, a body that goes around its buffer is a stream without bytes.
        if self.detour.is_some() { BodySize::Stream } else { self.body.size() }
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        let mut this = self.project();
        let Some(Detour { outbox, left }) = this.detour else { return this.body.poll_next(cx) };
        loop {
            let mut put = outbox.borrow_mut();
            ready!(if *left == 0 { put.poll_empty(cx) } else { put.poll_room(cx) });
            drop(put);
            match ready!(this.body.as_mut().poll_next(cx)) {
                Some(Ok(mut piece)) => {
                    piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= piece.len() as u64;
                    outbox.borrow_mut().put(piece);
                }
                None if *left > 0 => {
                    outbox.borrow_mut().break_off();
                    return Poll::Pending;
                }
                end => return Poll::Ready(end),
            }
        }
    }
}
