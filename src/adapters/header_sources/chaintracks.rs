//! Chaintracks, version 2 of its interface: `/v2/tip`, and `/v2/headers.bin`, which has headers as they are hashed.

use async_trait::async_trait;
use penstock_actors::{
    model::{HEADER_BYTES, RawHeader},
    ports::{HEADERS_A_CALL, HeaderSource, PortResult},
};
use serde::Deserialize;

use super::server::{Server, ServerSettings};

/// The JSON of a tip.
const TIP_BYTES: usize = 16 * 1024;

/// A server of Chaintracks.
#[derive(Debug, Clone)]
pub struct Chaintracks(Server);

impl Chaintracks {
    /// # Errors
    /// When the client cannot be set up.
    pub fn new(settings: ServerSettings) -> anyhow::Result<Self> {
        Server::new("chaintracks", settings).map(Self)
    }
}

/// The servers in TypeScript put the tip into an envelope, those in Go do not.
#[derive(Deserialize)]
#[serde(untagged)]
enum TipAnswer {
    Enveloped { value: Tip },
    Plain(Tip),
}

#[derive(Deserialize)]
struct Tip {
    height: u32,
}

#[async_trait]
impl HeaderSource for Chaintracks {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    async fn tip(&self) -> PortResult<u32> {
        match self.0.json("v2/tip", TIP_BYTES).await? {
            Some(TipAnswer::Enveloped { value: Tip { height } } | TipAnswer::Plain(Tip { height })) => Ok(height),
            None => Err(self.0.fault("it has no tip")),
        }
    }

    async fn headers(&self, from: u32, count: usize) -> PortResult<Vec<RawHeader>> {
        let count = count.min(HEADERS_A_CALL);
        let path = format!("v2/headers.bin?height={from}&count={count}");
        let body = self.0.get(&path, count * HEADER_BYTES).await?.unwrap_or_default();
        let (headers, rest) = body.as_chunks();
        if !rest.is_empty() {
            return Err(self.0.fault(format!("the answer to {path} ends within a header")));
        }
        Ok(headers.iter().copied().map(RawHeader).collect())
    }
}
