//! Producers, keys, health and operations by hand.

use utoipa::ToSchema;

use super::super::scalars::{Cursor, Id, Moment, PublicKey};

/// A producer with its first key.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct CreatedProducer {
    pub producer_id: Id,
    #[schema(example = "Studio")]
    pub name: String,
    pub key_id: Id,
    /// The secret, which only this answer contains.
    pub key: String,
}

/// Producers, page by page.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ProducerPage {
    pub items: Vec<Producer>,
    pub next_cursor: Option<Cursor>,
}

/// A producer.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Producer {
    pub producer_id: Id,
    #[schema(example = "Studio")]
    pub name: String,
    pub created_at: Moment,
}

/// Keys, page by page.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct KeyPage {
    pub items: Vec<Key>,
    pub next_cursor: Option<Cursor>,
}

/// A key, without its secret unless it was just made.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Key {
    pub key_id: Id,
    pub producer_id: Id,
    /// `producer` or `admin`.
    #[schema(example = "producer")]
    pub role: String,
    #[schema(example = "encoder")]
    pub name: String,
    pub created_at: Moment,
    pub revoked_at: Option<Moment>,
    /// Until when the secret before the last rotation is valid too.
    pub previous_valid_until: Option<Moment>,
    pub last_used_at: Option<Moment>,
    /// The secret, only in the answer that makes it.
    pub key: Option<String>,
}

/// The identity keys of a producer.
#[derive(ToSchema)]
pub struct Identities {
    pub items: Vec<Identity>,
}

/// An identity key that speaks for a producer.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Identity {
    pub identity_key: PublicKey,
    pub producer_id: Id,
    pub bound_at: Moment,
}

/// The process answers.
#[derive(ToSchema)]
pub struct Liveness {
    #[schema(example = "ok")]
    pub status: String,
}

/// Whether requests should be sent to this instance, and why not.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ReadinessReport {
    /// `ok`, `degraded`, `down`, `starting` or `draining`.
    #[schema(example = "ok")]
    pub status: String,
    /// What is wrong with a store of this instance, with advice.
    pub reason: Option<String>,
    pub dependencies: DependencyStates,
    pub age_ms: DependencyAges,
    /// Damaged contents that are withheld.
    pub quarantined: u64,
    pub clock_skew_seconds: Option<f64>,
}

/// `ok`, `degraded` or `down` for each dependency.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct DependencyStates {
    #[schema(example = "ok")]
    pub database: String,
    #[schema(example = "ok")]
    pub storage: String,
    #[schema(example = "ok")]
    pub shared_state: String,
    pub governance: Option<String>,
}

/// The age of each state in milliseconds; `null` before the first check.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct DependencyAges {
    pub database: Option<u64>,
    pub storage: Option<u64>,
    pub shared_state: Option<u64>,
    pub governance: Option<u64>,
}

/// The levels of the log of this instance.
#[derive(ToSchema)]
pub struct LogLevelReport {
    #[schema(example = "info,penstock::adapters=debug")]
    pub level: String,
    /// The level of the configuration.
    #[schema(example = "info")]
    pub configured: String,
}

/// How many changes were told to all instances.
#[derive(ToSchema)]
pub struct Invalidated {
    #[schema(example = 1)]
    pub invalidated: u64,
    /// The entries removed from the shared cache, where the call has a pattern.
    pub removed: Option<u64>,
}

/// Whether a browser is signed in to the console.
#[derive(ToSchema)]
pub struct ConsoleState {
    pub session: Option<ConsoleSession>,
    /// Whether it may see the figures.
    pub figures: bool,
}

/// A session that has begun.
#[derive(ToSchema)]
pub struct SignedIn {
    pub session: ConsoleSession,
}

/// A session at the console.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ConsoleSession {
    pub key_id: Id,
    pub expires_at: Moment,
    /// What each call of the session sends as `X-CSRF-Token`.
    pub csrf_token: String,
}
