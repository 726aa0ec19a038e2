//! `penstock demo`: a node with sample content, an asset and a receipt, a page that plays it, and commands to try it with.
//! It needs no service, and leaves nothing behind unless told to.

use std::{f64::consts::TAU, process::ExitCode};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use penstock_actors::{
    ids::{ReceiptId, VersionId},
    model::{Asset, NewAsset, QuotaPolicy, Receipt, ReceiptStatus},
    ports::{Assets as _, NewReceipt},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::{Settings, announce, print};
use crate::{
    config::Config,
    keys,
    serve::{Server, signals::Signals},
};

/// The sample: a minute of two tones, one per channel, in which a player can seek.
const SECONDS: u32 = 60;
const SAMPLE_RATE: u32 = 44_100;
const TONES: [f64; 2] = [220.0, 277.18];

/// The tier of the page that plays the sample: enough for the sample once, with some seeks, so that the end of a quota is soon seen.
const PLAYER_TIER: &str = "demo-player";
const PLAYER_BYTES: u64 = 16_000_000;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    settings: Settings,
}

impl DemoArgs {
    /// The configuration; without a data folder from the user, it uses a temporary one that is removed at the end.
    pub(super) fn load(&self) -> anyhow::Result<(Config, Option<TempDir>)> {
        let mut settings = self.settings.clone();
        if settings.data_dir.is_some() || std::env::var_os("PENSTOCK_DATA_DIR").is_some() {
            return Ok((Self::with_player(settings.load()?), None));
        }
        let folder = tempfile::Builder::new().prefix("penstock-demo-").tempdir().context("cannot make a folder")?;
        settings.data_dir = Some(folder.path().to_owned());
        Ok((Self::with_player(settings.load()?), Some(folder)))
    }

    fn with_player(mut config: Config) -> Config {
        config.has_player = true;
        config
    }
}

pub(super) async fn run(config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let server = Server::start(config, io, &mut signals).await?;
    let asset = prepare(&server).await?;
    let receipt = sell(&server, &asset, "premium").await?;
    let player = sell_to_player(&server, &asset).await?;
    announce(&server)?;
    print(&commands(&server, &receipt, &player))?;
    server.run(signals).await.map(|()| ExitCode::SUCCESS)
}

/// Stores the sample as a producer would.
async fn prepare(server: &Server) -> anyhow::Result<Asset> {
    let ports = &server.backends.ports;
    let now = ports.clock.now();
    let mut upload = server.node.ingest.begin(keys::ADMIN).await?;
    for part in sample().chunks(64 << 10) {
        upload.write(Bytes::copy_from_slice(part)).await?;
    }
    let stored = upload.finish(None, "audio/wav".to_owned(), keys::ADMIN).await?;
    let asset = NewAsset {
        version_id: VersionId::next(),
        content_hash: stored.meta.content_hash,
        name: "two-tones.wav".to_owned(),
        description: "A minute of two tones, made by penstock demo.".to_owned(),
        media_type: None,
        dataset_id: Some("demo".to_owned()),
        policy_meta: json!({ "license": "CC0-1.0" }),
        producer_id: keys::ADMIN,
        price_satoshis: 1000,
        created_at: now,
    };
    Ok(server.backends.assets.create_asset(&asset).await?)
}

/// A receipt of its own for the page, so that what it plays costs the commands nothing.
async fn sell_to_player(server: &Server, asset: &Asset) -> anyhow::Result<Receipt> {
    let tier = QuotaPolicy {
        policy_name: PLAYER_TIER.to_owned(),
        description: Some("16 MB a day, for the player of penstock demo".to_owned()),
        bytes_per_day: Some(PLAYER_BYTES),
        ..QuotaPolicy::default()
    };
    server.backends.receipts.put_quota_policy(&tier, server.backends.ports.clock.now()).await?;
    sell(server, asset, PLAYER_TIER).await
}

async fn sell(server: &Server, asset: &Asset, tier: &str) -> anyhow::Result<Receipt> {
    let now = server.backends.ports.clock.now();
    let receipt = NewReceipt {
        receipt_id: ReceiptId::random(),
        version_id: asset.version_id,
        quota_tier: tier.to_owned(),
        status: ReceiptStatus::Confirmed,
        expires_at: now + std::time::Duration::from_secs(24 * 60 * 60),
        created_at: now,
    };
    Ok(server.backends.receipts.create_receipt(&receipt).await?)
}

/// A WAV file: 16 bits, two channels.
fn sample() -> Vec<u8> {
    let frames = SECONDS * SAMPLE_RATE;
    let data = frames * 4;
    let mut wav = Vec::with_capacity(data as usize + 44);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(data + 36).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt ");
    wav.extend_from_slice(&16_u32.to_le_bytes());
    wav.extend_from_slice(&1_u16.to_le_bytes());
    wav.extend_from_slice(&2_u16.to_le_bytes());
    wav.extend_from_slice(&SAMPLE_RATE.to_le_bytes());
    wav.extend_from_slice(&(SAMPLE_RATE * 4).to_le_bytes());
    wav.extend_from_slice(&4_u16.to_le_bytes());
    wav.extend_from_slice(&16_u16.to_le_bytes());
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&data.to_le_bytes());
    for frame in 0..frames {
        let at = f64::from(frame) / f64::from(SAMPLE_RATE);
        for tone in TONES {
            let level = (at * tone * TAU).sin() * 8000.0;
            wav.extend_from_slice(&(level as i16).to_le_bytes());
        }
    }
    wav
}

/// Commands that work as printed.
fn commands(server: &Server, receipt: &Receipt, player: &Receipt) -> String {
    let base = server.base_url();
    let url = format!("{base}/v1/streaming/data/{}?receiptId={}", receipt.content_hash, receipt.receipt_id);
    let hash = receipt.content_hash;
    format!(
        "\n\
         # play it in a browser, seek, and see the quota go down\n\
         {base}/player#{hash}/{}\n\n\
         # stream the content under its receipt, and check that it is what its name says\n\
         curl -fsS '{url}' -o two-tones.wav && echo '{hash}  two-tones.wav' | sha256sum -c\n\n\
         # the header fields: ETag, Repr-Digest, what is left of the quota\n\
         curl -sSI '{url}'\n\n\
         # a range, and a download that is resumed\n\
         curl -fsS -r 0-43 '{url}' | xxd\n\
         curl -fsS -r 0-999999 '{url}' -o part.wav && curl -fsS -C - '{url}' -o part.wav && echo '{hash}  part.wav' | sha256sum -c\n\n\
         # every byte accounted for\n\
         curl -sS '{base}/v1/streaming/quotas/{}'\n\n\
         # a refusal: the receipt is not for this content\n\
         curl -sS '{base}/v1/streaming/data/{}?receiptId={}'\n\n\
         # play it, with seeks\n\
         ffplay -autoexit '{url}'\n\n\
         # what an operator scrapes\n\
         curl -sS '{base}/metrics'\n\n\
         Stop with Ctrl-C.",
        player.receipt_id,
        receipt.receipt_id,
        "0".repeat(64),
        receipt.receipt_id,
    )
}
