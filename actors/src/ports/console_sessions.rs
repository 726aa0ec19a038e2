//! `ConsoleSessions`: the sessions of administrators who signed in to the console.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;
use crate::ids::KeyId;

/// Sessions of one key at a time: browsers and tabs of one team. The oldest ends when there is one more.
pub const MOST_SESSIONS_OF_A_KEY: u32 = 32;

/// A session that begins.
#[derive(Debug, Clone, Copy)]
pub struct NewConsoleSession {
    /// The hash of the token, which only the browser has.
    pub token_hash: [u8; 32],
    /// The hash of the secret that signed in. The session gives what that secret gives, as long as the secret is valid.
    pub secret_hash: [u8; 32],
    pub key_id: KeyId,
    pub ttl: Duration,
}

/// A session that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsoleSession {
    pub secret_hash: [u8; 32],
    pub key_id: KeyId,
    pub expires_at: Timestamp,
}

/// The sessions, which all instances share. They end by the database's clock.
///
/// Their rows may be deleted by that clock alone: if it is wrong, an administrator signs in again.
#[async_trait]
pub trait ConsoleSessions: Send + Sync + 'static {
    /// Begins a session. Rows of sessions that have expired go, and so do the oldest ones beyond [`MOST_SESSIONS_OF_A_KEY`].
    async fn begin_console_session(&self, new: &NewConsoleSession) -> PortResult<ConsoleSession>;

    /// The session with this token, if it has not ended.
    async fn console_session(&self, token_hash: &[u8; 32]) -> PortResult<Option<ConsoleSession>>;

    /// Ends a session; false when it has ended already.
    async fn end_console_session(&self, token_hash: &[u8; 32]) -> PortResult<bool>;
}
