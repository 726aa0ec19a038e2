//! The HTTP server: the framework's, over sockets of our own ([`ClientSocket`]).
//!
//! The framework's `HttpServer` hides the socket. This file assembles the same parts around a socket that reports the
//! bytes that have left the node, and logs the end of each connection with its peer.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_http::{HttpService, Request, Response, error::DispatchError};
use actix_service::{
    IntoServiceFactory, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory, fn_service, map_config,
};
use actix_web::{
    Error,
    body::MessageBody,
    dev::{AppConfig, Server, Service},
    rt::net::TcpStream,
};
use penstock_actors::{flow::fairness::FairPermit, model::Client};

use self::asked_first::asked_first;
use self::{
    client_socket::{ClientSocket, ClientTerms, LONGEST_LINGER, SocketSettings},
    connection_limit::ConnectionLimit,
    tls::Tls,
};
use crate::client_marks::LastMark;

mod asked_first;
pub mod client_socket;
pub mod connection_limit;
pub mod listener;
#[cfg(target_os = "linux")]
mod mute;
pub mod outbox;
pub mod tls;
mod turn;
mod turnstile;

/// Bytes that the framework gathers for writing. Large answers go around its buffer ([`outbox`]).
const WRITE_BUFFER: usize = 32 << 10;

/// How connections are served.
#[derive(Clone)]
pub struct Serving {
    pub workers: usize,
    /// For all workers together.
    pub connections: ConnectionLimit,
    /// Between requests.
    pub keep_alive: Duration,
    /// For running requests, once the server stops.
    pub drain_grace: Duration,
    pub terms: ClientTerms,
    /// `None`: plain HTTP.
    pub tls: Option<Arc<Tls>>,
}

impl Serving {
    /// Serves connections of the listener, with one application per worker.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn serve<F, I, S, B>(self, listener: TcpListener, application: F) -> io::Result<Server>
    where
        F: Fn() -> I + Send + Clone + 'static,
        I: IntoServiceFactory<S, Request>,
        S: ServiceFactory<Request, Config = AppConfig> + 'static,
        S::Error: Into<Error> + 'static,
        S::InitError: fmt::Debug,
        S::Response: Into<Response<B>> + 'static,
        <S::Service as Service<Request>>::Future: 'static,
        S::Service: 'static,
        B: MessageBody + 'static,
    {
        let address = listener.local_addr()?;
        let builder = Server::build();
        let stopping = builder.graceful_shutdown_signal();
        let Self { workers, connections, keep_alive, drain_grace, terms, tls } = self;
        let most_accepted = connections.most_accepted();
        let factory = move || {
            let (tls, connections) = (tls.clone(), connections.clone());
            let settings = SocketSettings::new(terms);
            let stopping = stopping.clone();
            let application = application().into_factory().map_err(|error| error.into().error_response());
            let (application, gatekeeper) = asked_first(map_config(application, |()| AppConfig::default()));
            let http = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .keep_alive(keep_alive)
                // The socket watches all heads, the framework only the first one.
                .client_request_timeout(Duration::ZERO)
                .client_disconnect_timeout(LONGEST_LINGER)
                .local_addr(address)
                .h1_write_buffer_size(WRITE_BUFFER)
                // A client that has sent all its requests may close its side and still gets the answer.
                .h1_allow_half_closed(true)
                .on_connect_ext(|socket: &ClientSocket, data| {
                    data.insert(socket.connection());
                    data.insert(socket.turns());
                    data.insert(socket.outbox());
                    data.insert(LastMark::default());
                })
                .expect(gatekeeper)
                .h1(application);
            let serve = apply_fn_factory(http, |(socket, peer, place): Connected, http| {
                let served = http.call((socket, peer));
                async move {
                    let _place = place;
                    served.await.inspect_err(|error| log_connection_end(peer, error))
                }
            });
            let accept = move |stream: TcpStream| {
                let (tls, connections, settings) = (tls.clone(), connections.clone(), settings.clone());
                async move {
                    listener::take(&stream)?;
                    let peer = stream.peer_addr().ok();
                    let Some(place) = connections.admit(peer) else {
                        if tls.is_none() {
                            connections.refuse(stream, &settings).await;
                        }
                        return Err(DispatchError::Io(io::ErrorKind::ConnectionRefused.into()));
                    };
                    let socket = match tls {
                        Some(tls) => tls.accept(stream, &settings).await?,
                        None => ClientSocket::accepted(stream, &settings),
                    };
                    Ok((socket, peer, place))
                }
            };
            fn_service(accept).and_then(serve)
        };
        let server = builder
            .workers(workers)
            .max_concurrent_connections(most_accepted.div_ceil(workers))
            // Whole seconds, rounded up: no request is cut off early.
            .shutdown_timeout(drain_grace.as_secs_f64().ceil() as u64)
            .disable_signals()
            .listen("http", listener, factory)?;
        Ok(server.run())
    }
}

/// A client that has just connected.
type Connected = (ClientSocket, Option<SocketAddr>, FairPermit<Client>);

/// A connection that did not end after an answer concerns its client, so it is logged at debug level.
fn log_connection_end(peer: Option<SocketAddr>, error: &DispatchError) {
    let peer = peer.map(tracing::field::display);
    match error {
        DispatchError::Parse(error) => {
            tracing::debug!(peer, %error, "a client sent bytes that are not an HTTP/1 request; its connection is closed");
        }
        error => tracing::debug!(peer, %error, "a connection broke; its requests end"),
    }
}
