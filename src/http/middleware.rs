//! Middleware: what each request and each answer passes through, whatever the route.
//!
//! One file for each; [`app`](super::app()) wraps them, and the [module above](super) says in which order and why. They hold no
//! state of their own: what they need is in [`Shell`](super::Shell).

pub(super) mod close_when_draining;
pub(super) mod compression;
pub(super) mod head_limit;
pub(super) mod observe;
pub(super) mod older_clients;
pub(super) mod preflights;
pub(super) mod rate_limit;
pub(super) mod signed_body;
