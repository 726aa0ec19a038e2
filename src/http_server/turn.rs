//! A request's turn on its connection: from its head to the end of its answer.

use std::{
    cell::RefCell,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_http::{ConnectionType, HttpMessage as _, Payload, Request, Response, header::CONTENT_LENGTH};
use actix_web::{
    body::{BodySize, MessageBody},
    web::Bytes,
};
use pin_project_lite::pin_project;

use crate::http_server::client_socket::{Framing, Turns};

/// Ends the turn when dropped.
pub(super) struct Turn {
    turns: Option<Rc<RefCell<Turns>>>,
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
        Self { turns, offers_switch: request.head().upgrade() }
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
            answer.map_body(|_, body| ResponseBody { body, turn })
        }))
    }
}

pin_project! {
    /// The body of an answer.
    pub(super) struct ResponseBody<B> {
        #[pin]
        body: B,
        turn: Option<Turn>,
    }
}

impl<B: MessageBody> MessageBody for ResponseBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        self.project().body.poll_next(cx)
    }
}
