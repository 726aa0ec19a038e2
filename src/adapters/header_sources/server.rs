//! Requests to a server of headers. **Bound.** One request at a time, its time, and the bytes of its answer.

use std::time::Duration;

use penstock_actors::ports::{PortError, PortResult};
use reqwest::{Client, StatusCode, Url};
use serde::de::DeserializeOwned;

/// Where the server is, and how long it may take.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub url: Url,
    /// Sent as a bearer token; empty: none.
    pub token: String,
    pub timeout: Duration,
}

/// A server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    client: Client,
    settings: ServerSettings,
    name: &'static str,
}

impl Server {
    /// # Errors
    /// When the client cannot be set up.
    pub(super) fn new(name: &'static str, mut settings: ServerSettings) -> anyhow::Result<Self> {
        // Another part of the process may have installed it first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(settings.timeout).build()?;
        // Paths are put behind the address, also if it does not end with a slash.
        if !settings.url.path().ends_with('/') {
            settings.url.set_path(&format!("{}/", settings.url.path()));
        }
        Ok(Self { client, settings, name })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The body of an answer; `None` if the server has nothing there. A longer body than `limit` is refused.
    pub(super) async fn get(&self, path: &str, limit: usize) -> PortResult<Option<Vec<u8>>> {
        let url = self.settings.url.join(path).map_err(|error| self.fault(error))?;
        let mut request = self.client.get(url);
        if !self.settings.token.is_empty() {
            request = request.bearer_auth(&self.settings.token);
        }
        let mut answer = request.send().await.map_err(|error| self.fault(error))?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !answer.status().is_success() {
            return Err(self.fault(format!("{path} was answered with {}", answer.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.fault(error))? {
            if body.len() + chunk.len() > limit {
                return Err(self.fault(format!("the answer to {path} is longer than {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }

    pub(super) async fn json<T: DeserializeOwned>(&self, path: &str, limit: usize) -> PortResult<Option<T>> {
        let Some(body) = self.get(path, limit).await? else { return Ok(None) };
        serde_json::from_slice(&body).map(Some).map_err(|error| self.fault(format!("{path}: {error}")))
    }

    pub(super) fn fault(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> PortError {
        PortError::unavailable(self.name, error)
    }
}
