//! `[payments]`: payments on chain: to which key, on which terms, on which network, where its headers come from, and how much a
//! verification may cost.

use std::{path::PathBuf, time::Duration};

use penstock_actors::{
    ids::is_plain_name,
    model::{LONGEST_OFFER, Network},
    ports::VerificationLimits,
};
use reqwest::Url;
use serde::Deserialize;

use super::{Secret, problem::Rules, value};
use crate::payment_keys::PaymentKeys;

/// The smallest envelope that pays has some hundred bytes.
const LEAST_BEEF: u64 = 1_024;

/// What an ordinary input needs for its script.
const LEAST_WORK: u64 = 1_000;

/// A block takes ten minutes on average, and now and then two hours.
const LEAST_AGE: Duration = Duration::from_secs(7_200);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payments {
    /// The private key that payments go to; empty: this node sells nothing on chain.
    pub key: Secret,
    /// Earlier keys, separated by commas.
    pub old_keys: Secret,
    /// How long a price is honoured after it was raised.
    #[serde(deserialize_with = "value::duration")]
    pub quote_ttl: Duration,
    /// How long a receipt that was bought lives.
    #[serde(deserialize_with = "value::duration")]
    pub receipt_ttl: Duration,
    pub quota_tier: String,
    pub without_broadcaster: WithoutBroadcaster,
    #[serde(deserialize_with = "value::count")]
    pub without_broadcaster_max_satoshis: u64,
    /// Payments that are verified at a time; 0: as many as there are cores.
    #[serde(deserialize_with = "value::count")]
    pub verifications: u32,
    pub network: PaymentNetwork,
    pub headers_source: HeadersSource,
    /// The server that has headers.
    pub headers_url: String,
    /// Sent to that server as a bearer token; empty: none.
    pub headers_token: Secret,
    /// The file that has headers.
    pub headers_file: PathBuf,
    #[serde(deserialize_with = "value::duration")]
    pub headers_poll: Duration,
    #[serde(deserialize_with = "value::duration")]
    pub headers_timeout: Duration,
    #[serde(deserialize_with = "value::duration")]
    pub headers_max_age: Duration,
    #[serde(deserialize_with = "value::size")]
    pub max_beef_bytes: u64,
    #[serde(deserialize_with = "value::count")]
    pub max_transactions: usize,
    #[serde(deserialize_with = "value::count")]
    pub max_depth: usize,
    #[serde(deserialize_with = "value::count")]
    pub input_script_work: u64,
    #[serde(deserialize_with = "value::count")]
    pub script_work: u64,
}

/// What is sold while nothing tells the network of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WithoutBroadcaster {
    /// Nothing.
    Refuse,
    /// What costs at most as much as the configuration says.
    Sell,
}

/// The network whose payments count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentNetwork {
    Main,
    Test,
    Regtest,
}

/// Where headers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadersSource {
    /// Nowhere: nothing is sold for payments on chain.
    None,
    /// A server of Chaintracks, version 2.
    Chaintracks,
    /// A server of the Block Headers Service.
    BlockHeadersService,
    /// A file.
    File,
}

impl Payments {
    /// The payment keys. The configuration was checked before.
    pub fn keys(&self) -> Option<PaymentKeys> {
        PaymentKeys::parse(self.key.expose(), self.old_keys.expose())
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(
            self.key.is_empty() && self.old_keys.is_empty() || self.keys().is_some(),
            &["payments.key", "payments.old_keys"],
            "be 64 hexadecimal characters, a private key of secp256k1; and payments.old_keys up to 16 such keys by comma",
        );
        rules.require(self.quote_ttl <= LONGEST_OFFER, &["payments.quote_ttl"], "be at most 24h");
        rules.some_time(self.receipt_ttl, &["payments.receipt_ttl"]);
        rules.require(
            is_plain_name(&self.quota_tier),
            &["payments.quota_tier"],
            "have 1 to 64 characters out of a-z, 0-9 and -",
        );
        let is_server = matches!(self.headers_source, HeadersSource::Chaintracks | HeadersSource::BlockHeadersService);
        let is_http = |url: &Url| matches!(url.scheme(), "http" | "https");
        rules.require(
            !is_server || Url::parse(&self.headers_url).is_ok_and(|url| is_http(&url)),
            &["payments.headers_url", "payments.headers_source"],
            "be the address of the server of headers, of the form https://headers.example.com",
        );
        rules.require(
            self.headers_source != HeadersSource::File || !self.headers_file.as_os_str().is_empty(),
            &["payments.headers_file", "payments.headers_source"],
            "name the file of headers",
        );
        rules.some_time(self.headers_poll, &["payments.headers_poll"]);
        rules.some_time(self.headers_timeout, &["payments.headers_timeout"]);
        rules.require(
            self.headers_max_age >= LEAST_AGE,
            &["payments.headers_max_age"],
            "be at least 2h, because a block may take that long, and its miner's clock may be wrong",
        );
        rules.require(
            self.max_beef_bytes >= LEAST_BEEF,
            &["payments.max_beef_bytes"],
            format_args!("be at least {LEAST_BEEF}B, or no payment fits"),
        );
        // The transaction that pays, and the one that it spends.
        rules.require(self.max_transactions >= 2, &["payments.max_transactions"], "be at least 2");
        rules.at_least_one(self.max_depth, &["payments.max_depth"]);
        rules.require(
            self.input_script_work >= LEAST_WORK,
            &["payments.input_script_work"],
            format_args!("be at least {LEAST_WORK}, or no signature can be verified"),
        );
        rules.require(
            self.script_work >= self.input_script_work,
            &["payments.script_work", "payments.input_script_work"],
            "be at least payments.input_script_work",
        );
    }

    /// Whether this node can verify payments at all.
    pub fn has_headers(&self) -> bool {
        self.headers_source != HeadersSource::None
    }

    pub const fn network(&self) -> Network {
        match self.network {
            PaymentNetwork::Main => Network::Main,
            PaymentNetwork::Test => Network::Test,
            PaymentNetwork::Regtest => Network::Regtest,
        }
    }

    pub fn limits(&self) -> VerificationLimits {
        VerificationLimits {
            bytes: usize::try_from(self.max_beef_bytes).unwrap_or(usize::MAX),
            transactions: self.max_transactions,
            depth: self.max_depth,
            script_work_of_input: self.input_script_work,
            script_work: self.script_work,
        }
    }
}
