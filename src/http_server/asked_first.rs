//! `Expect: 100-continue`: a client that asks first is told to continue when its body is wanted, and not before.
//!
//! The framework says "100 Continue" before it calls the application, which may then refuse a body that is already on
//! its way. Here the application begins first. When it reads the body, the framework may continue: it says "100
//! Continue" and calls the application again, which resumes the call that has [`StartedCall`]. When the application answers
//! without reading the body (401, 404, 413 or 429), the client gets only that answer.

use std::{
    cell::{Cell, RefCell},
    future::{Ready, poll_fn, ready},
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use actix_http::{HttpMessage as _, Payload, Request, Response, body::BoxBody, error::PayloadError};
use actix_service::{Service, ServiceFactory};
use actix_web::{body::MessageBody, web::Bytes};
use futures::{
    Stream,
    future::{Either, LocalBoxFuture},
};

use super::turn::{Call, ResponseBody, Turn};

/// The application of a worker, once it is created.
type WorkerService<S> = Rc<RefCell<Option<Rc<S>>>>;

/// A call of the application that has begun and waits for its body. It travels in the request with which the framework
/// continues.
struct StartedCall<B, E>(LocalBoxFuture<'static, Result<Response<ResponseBody<B>>, E>>);

/// Makes the two services of a worker: the application, and the service that the framework asks whether it may accept a
/// body.
pub(super) fn asked_first<F, B>(application: F) -> (Application<F, B>, Gatekeeper<F::Service, B>)
where
    F: ServiceFactory<Request, Config = ()>,
{
    let service = WorkerService::default();
    let gatekeeper = Gatekeeper { service: Rc::clone(&service), body: PhantomData };
    (Application { factory: application, service, body: PhantomData }, gatekeeper)
}

pub(super) struct Application<F: ServiceFactory<Request>, B> {
    factory: F,
    service: WorkerService<F::Service>,
    body: PhantomData<B>,
}

impl<F, B> ServiceFactory<Request> for Application<F, B>
where
    F: ServiceFactory<Request, Config = ()>,
    F::Response: Into<Response<B>>,
    F::Error: 'static,
    F::Service: 'static,
    F::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = Response<ResponseBody<B>>;
    type Error = F::Error;
    type Config = ();
    type Service = AppService<F::Service, B>;
    type InitError = F::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, F::InitError>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let (made, shared) = (self.factory.new_service(()), Rc::clone(&self.service));
        Box::pin(async move {
            let service = Rc::new(made.await?);
            *shared.borrow_mut() = Some(Rc::clone(&service));
            Ok(AppService { service, body: PhantomData })
        })
    }
}

pub(super) struct AppService<S, B> {
    service: Rc<S>,
    body: PhantomData<B>,
}

impl<S, B> Service<Request> for AppService<S, B>
where
    S: Service<Request>,
    S::Response: Into<Response<B>>,
    S::Error: 'static,
    B: MessageBody + 'static,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = Either<Call<S::Future, B>, LocalBoxFuture<'static, Result<Response<ResponseBody<B>>, S::Error>>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&self, mut request: Request) -> Self::Future {
        let begun = request.extensions_mut().remove::<StartedCall<B, S::Error>>();
        match begun {
            Some(StartedCall(call)) => Either::Right(call),
            None => {
                let turn = Turn::begin(&mut request);
                Either::Left(Call::new(self.service.call(request), turn))
            }
        }
    }
}

pub(super) struct Gatekeeper<S, B> {
    service: WorkerService<S>,
    body: PhantomData<B>,
}

impl<S, B> Clone for Gatekeeper<S, B> {
    fn clone(&self) -> Self {
        Self { service: Rc::clone(&self.service), body: PhantomData }
    }
}

impl<S, B> ServiceFactory<Request> for Gatekeeper<S, B>
where
    S: Service<Request> + 'static,
    S::Response: Into<Response<B>> + 'static,
    S::Error: Into<Response<BoxBody>> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = Request;
    type Error = Response<BoxBody>;
    type Config = ();
    type Service = Self;
    type InitError = ();
    type Future = Ready<Result<Self, ()>>;

    fn new_service(&self, (): ()) -> Self::Future {
        ready(Ok(self.clone()))
    }
}

impl<S, B> Service<Request> for Gatekeeper<S, B>
where
    S: Service<Request> + 'static,
    S::Response: Into<Response<B>> + 'static,
    S::Error: Into<Response<BoxBody>> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = Request;
    /// The answer without the body.
    type Error = Response<BoxBody>;
    type Future = LocalBoxFuture<'static, Result<Request, Response<BoxBody>>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, mut request: Request) -> Self::Future {
        let Some(service) = self.service.borrow().clone() else {
            // The framework creates all services of a worker before it calls any.
            return Box::pin(ready(Err(Response::internal_server_error().map_into_boxed_body())));
        };
        let turn = Turn::begin(&mut request);
        let wish = Rc::new(BodyRequest::default());
        let body = OnDemandBody { body: request.take_payload(), wish: Rc::clone(&wish) };
        *request.payload() = Payload::Stream { payload: Box::pin(body) };
        let mut call: LocalBoxFuture<'static, Result<Response<ResponseBody<B>>, S::Error>> =
            Box::pin(Call::new(service.call(request), turn));
        Box::pin(async move {
            let answer = poll_fn(|cx| match call.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending if wish.is_there() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            match answer.await {
                Some(Ok(answer)) => Err(answer.map_into_boxed_body()),
                Some(Err(error)) => Err(error.into()),
                None => {
                    wish.grant();
                    let request = Request::new();
                    request.extensions_mut().insert(StartedCall(call));
                    Ok(request)
                }
            }
        })
    }
}

/// The application's wish to read the body.
#[derive(Default)]
struct BodyRequest {
    granted: Cell<bool>,
    /// The task that reads.
    reader: RefCell<Option<Waker>>,
}

impl BodyRequest {
    fn is_there(&self) -> bool {
        self.reader.borrow().is_some()
    }

    fn grant(&self) {
        self.granted.set(true);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// A body whose bytes arrive only after they are allowed.
struct OnDemandBody {
    body: Payload,
    wish: Rc<BodyRequest>,
}

impl Stream for OnDemandBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.wish.granted.get() {
            return Pin::new(&mut self.body).poll_next(cx);
        }
        *self.wish.reader.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}
