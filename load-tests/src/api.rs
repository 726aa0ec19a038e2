//! The calls around the streams: contents, assets, receipts, policies, quotas.

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    client::{Connection, Target},
    content::Content,
    fault::{Fault, refusal},
};

/// Longest answer that is read. The largest is the node's metrics, some hundred KiB.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// A node with the key that opens its calls.
pub(crate) struct Api {
    pub(crate) target: Target,
    key: String,
}

/// What one receipt's window says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WindowUse {
    pub(crate) bytes_used: u64,
    pub(crate) requests_used: u64,
}

impl Api {
    pub(crate) fn new(target: Target, key: String) -> Self {
        Self { target, key }
    }

    /// Stores a content; it may be there already.
    pub(crate) async fn put_content(&self, content: &Content) -> anyhow::Result<()> {
        let answer: Value = self
            .call("POST", "/v1/content", "application/octet-stream", content.bytes.clone())
            .await
            .context("cannot store a content")?;
        if answer["contentHash"] != *content.hash {
            bail!("the node calls a content {}, but its hash is {}", answer["contentHash"], content.hash);
        }
        Ok(())
    }

    /// Makes an asset and gives its version id.
    pub(crate) async fn make_asset(&self, content: &Content, name: &str) -> anyhow::Result<String> {
        let asset = json!({"name": name, "description": "made by a load test", "contentHash": content.hash});
        self.make("/v1/assets", &asset, "versionId").await.context("cannot make an asset")
    }

    /// Makes a receipt and gives its id.
    pub(crate) async fn make_receipt(&self, version_id: &str, tier: &str) -> anyhow::Result<String> {
        let receipt = json!({"versionId": version_id, "quotaTier": tier});
        self.make("/v1/receipts", &receipt, "receiptId").await.context("cannot make a receipt")
    }

    /// Sets the status of a receipt.
    pub(crate) async fn set_status(&self, receipt_id: &str, status: &str) -> anyhow::Result<()> {
        let body = json!({"status": status}).to_string();
        let path = format!("/v1/receipts/{receipt_id}");
        let _: Value = self.call("PATCH", &path, JSON, body.into()).await.context("cannot change a receipt")?;
        Ok(())
    }

    /// Sets a quota policy.
    pub(crate) async fn put_quota_policy(&self, name: &str, limits: &Value) -> anyhow::Result<()> {
        let path = format!("/v1/streaming/policies/{name}");
        let _: Value = self.call("PUT", &path, JSON, limits.to_string().into()).await.context("cannot set a policy")?;
        Ok(())
    }

    /// What the node has billed to a receipt this month: the window that a run is least likely to leave half-way.
    pub(crate) async fn month_of(&self, receipt_id: &str) -> anyhow::Result<WindowUse> {
        #[derive(Deserialize)]
        struct Quota {
            windows: Windows,
        }
        #[derive(Deserialize)]
        struct Windows {
            month: WindowUse,
        }

        let path = format!("/v1/streaming/quotas/{receipt_id}");
        let quota: Quota = self.call("GET", &path, JSON, Bytes::new()).await.context("cannot read a quota")?;
        Ok(quota.windows.month)
    }

    /// Whether the node knows a run.
    pub(crate) async fn knows_run(&self, run: &str) -> bool {
        let path = format!("/v1/openlineage/runs/{run}");
        self.ask("GET", &path, JSON, Bytes::new()).await.is_ok()
    }

    /// A request with the key.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Fault> {
        self.target
            .request(method, path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .header(header::CONTENT_TYPE, kind)
            .body(Full::new(body))
            .map_err(|_| Fault::WrongHead("the request cannot be made"))
    }

    /// The node's metrics as text, when it shows them.
    pub(crate) async fn metrics(&self) -> Option<String> {
        let body = self.ask("GET", "/metrics", JSON, Bytes::new()).await.ok()?;
        String::from_utf8(body.into()).ok()
    }

    async fn make(&self, path: &str, body: &Value, id: &str) -> anyhow::Result<String> {
        let answer: Value = self.call("POST", path, JSON, body.to_string().into()).await?;
        let id = answer[id].as_str().with_context(|| format!("the answer has no `{id}`"))?;
        Ok(id.to_owned())
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, path: &str, kind: &str, body: Bytes) -> anyhow::Result<T> {
        let answer = self.ask(method, path, kind, body).await?;
        serde_json::from_slice(&answer).with_context(|| format!("cannot read the answer to {method} {path}"))
    }

    /// One call on a connection of its own: these calls are few.
    async fn ask(&self, method: &str, path: &str, kind: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let request = self.request(method, path, kind, body)?;
        let response = Connection::open(&self.target, None).await?.send(request).await?;
        if !matches!(response.status(), StatusCode::OK | StatusCode::CREATED) {
            bail!("{method} {path}: {}", refusal(response).await);
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|error| anyhow::anyhow!("cannot read the answer to {method} {path}: {error}"))
    }
}

const JSON: &str = "application/json";
