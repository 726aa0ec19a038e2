//! A private chain with its headers in a file for nodes, and a payer who has coins on it. The payer derives keys with another library than
//! the node does.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bsv_rs::primitives::{PrivateKey, PublicKey};
use jiff::Timestamp;
use penstock::adapters::bsv::miner::{
    PrivateChain,
    beef::Beef,
    wallet::{Coin, RawTransaction, Wallet, coin},
};
use penstock_actors::model::{Outpoint, TxOutput};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::node::{On, Setup, TestNode};

/// The payment key of the nodes of these tests, and an earlier one.
pub(crate) const NODE_KEY: &str = "6a1751169c111b4667a6539ee1be6b7cd9f6e9c8fe011a5f2fe31e03a15e0ede";
pub(crate) const OLD_NODE_KEY: &str = "cab2500e206f31bc18a8af9d6f44f0b9a208c32d5cca2b22acfe9d1a213b2f36";

/// The payer's identity key; its coins belong to another one.
pub(crate) const PAYER_KEY: &str = "583755110a8c059de5cd81b8a04e1be884c46083ade3f779c1e022f6f89da94c";
const COIN_KEY: [u8; 32] = [7; 32];

/// What each coin is worth, and how many there are.
const COIN: u64 = 1_000_000;
const COINS: usize = 40;

/// Blocks before a miner may spend its reward, and one more.
const MATURITY: u32 = 101;

pub(crate) struct Market {
    chain: PrivateChain,
    wallet: Wallet,
    funding: RawTransaction,
    coins: Vec<Coin>,
    file: PathBuf,
}

/// A payment as a payer sends it.
#[derive(Debug, Clone)]
pub(crate) struct Payment {
    pub(crate) beef: Vec<u8>,
    pub(crate) sender: String,
    pub(crate) nonce: String,
    pub(crate) time: i64,
    pub(crate) vout: u32,
    pub(crate) outpoint: Outpoint,
    /// What its transaction spends.
    pub(crate) coin: Coin,
}

/// What a payment is to be.
pub(crate) struct Pays<'a> {
    /// The payee's key, as the offer has it.
    pub(crate) payee: &'a str,
    pub(crate) satoshis: u64,
    pub(crate) at: Timestamp,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn public_of(private: &str) -> String {
    hex(&PrivateKey::from_hex(private).expect("a key").public_key().to_compressed())
}

impl Market {
    /// A chain whose blocks were made within the last hour, and its headers in a file of this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        let (mut chain, wallet) = (PrivateChain::new(), Wallet::of(&COIN_KEY).expect("a key"));
        let begin = u32::try_from(Timestamp::now().as_second()).expect("before 2106") - 3_000;
        let (_, reward) = chain.mine(&[], &wallet.script(), begin);
        for block in 0..MATURITY {
            chain.mine(&[], b"", begin + block);
        }
        let outputs = vec![TxOutput { satoshis: COIN, locking_script: wallet.script() }; COINS];
        let funding = wallet.spend(&[reward], &outputs).expect("signed");
        chain.mine(std::slice::from_ref(&funding), b"", begin + MATURITY + 1);
        let coins = (0..).zip(&outputs).map(|(vout, output)| coin(&funding, vout, output)).collect();
        let market = Self { chain, wallet, funding, coins, file: folder.join("headers.bin") };
        market.write_headers();
        market
    }

    fn write_headers(&self) {
        let bytes: Vec<u8> = self.chain.headers_from(0).iter().flat_map(|header| header.raw.0).collect();
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, bytes).expect("written");
        std::fs::rename(beside, &self.file).expect("in its place");
    }

    /// A node that sells for payments on this chain, without a broadcaster.
    pub(crate) fn selling(&self, setup: Setup) -> Setup {
        setup
            .env("PENSTOCK_PAYMENTS_KEY", NODE_KEY)
            .env("PENSTOCK_PAYMENTS__OLD_KEYS", OLD_NODE_KEY)
            .env("PENSTOCK_PAYMENTS__NETWORK", "regtest")
            .env("PENSTOCK_PAYMENTS__HEADERS_SOURCE", "file")
            .env("PENSTOCK_PAYMENTS__HEADERS_FILE", self.file.to_str().expect("a path of text"))
            .env("PENSTOCK_PAYMENTS__HEADERS_POLL", "200ms")
            .env("PENSTOCK_PAYMENTS__WITHOUT_BROADCASTER", "sell")
            // The clock of a database is known to some milliseconds.
            .env("PENSTOCK_SIGNATURES__AHEAD", "5s")
    }

    /// Such a node on this database, which has read the headers.
    pub(crate) async fn node(&self, on: On) -> TestNode {
        let node = self.selling(crate::signing::taking(Setup::new(on))).start().await;
        self.is_known_to(&node).await;
        node
    }

    /// Waits until a node knows the chain.
    pub(crate) async fn is_known_to(&self, node: &TestNode) {
        let height = f64::from(self.chain.height());
        node.metric_becomes("penstock_chain_height", "", height).await;
    }

    /// What another library needs to spend a coin: the funding in its envelope, the index of the coin, what it is worth, and its key.
    pub(crate) fn coin_for_another_library(&mut self) -> Value {
        let coin = self.coins.pop().expect("a coin is left");
        let proof = self.chain.proof(&self.funding.id()).expect("it is in a block");
        let funding = Beef::new().mined(&self.funding, proof).atomic(&self.funding.id());
        json!({
            "funding": STANDARD.encode(funding),
            "vout": coin.outpoint.vout,
            "satoshis": coin.output.satoshis,
            "key": hex(&COIN_KEY),
        })
    }

    /// A transaction that spends a coin and pays the key that payer and payee derive, in an envelope with the coin's proof.
    pub(crate) fn pay(&mut self, pays: &Pays<'_>) -> Payment {
        let coin = self.coins.pop().expect("a coin is left");
        self.pay_with(coin, pays)
    }

    pub(crate) fn pay_with(&self, coin: Coin, pays: &Pays<'_>) -> Payment {
        let time = pays.at.as_millisecond();
        let nonce = STANDARD.encode(coin.outpoint.vout.to_le_bytes());
        let invoice = format!("2-3241645161d8-{nonce} {}", STANDARD.encode(time.to_string()));
        let payer = PrivateKey::from_hex(PAYER_KEY).expect("a key");
        let payee = PublicKey::from_hex(pays.payee).expect("a key").derive_child(&payer, &invoice).expect("a key");
        let script = [&[0x76, 0xa9, 0x14][..], &payee.hash160(), &[0x88, 0xac]].concat();
        let change = TxOutput { satoshis: coin.output.satoshis - pays.satoshis, locking_script: self.wallet.script() };
        let paid = TxOutput { satoshis: pays.satoshis, locking_script: script };
        let transaction = self.wallet.spend(std::slice::from_ref(&coin), &[change, paid]).expect("signed");
        let proof = self.chain.proof(&self.funding.id()).expect("it is in a block");
        let envelope = Beef::new().mined(&self.funding, proof).unmined(&transaction);
        Payment {
            beef: envelope.atomic(&transaction.id()),
            sender: public_of(PAYER_KEY),
            nonce,
            time,
            vout: 1,
            outpoint: Outpoint { txid: transaction.id(), vout: 1 },
            coin,
        }
    }
}

impl Payment {
    /// As header fields (BRC-121).
    pub(crate) fn in_head(&self, request: RequestBuilder) -> RequestBuilder {
        self.beside(request).header("x-bsv-beef", STANDARD.encode(&self.beef))
    }

    fn beside(&self, request: RequestBuilder) -> RequestBuilder {
        request
            .header("x-bsv-sender", &self.sender)
            .header("x-bsv-nonce", &self.nonce)
            .header("x-bsv-time", self.time.to_string())
            .header("x-bsv-vout", self.vout.to_string())
    }

    /// With the envelope as the body.
    pub(crate) fn as_bytes(&self, request: RequestBuilder) -> RequestBuilder {
        self.beside(request).header("content-type", "application/octet-stream").body(self.beef.clone())
    }

    pub(crate) fn document(&self) -> Value {
        json!({
            "beef": STANDARD.encode(&self.beef),
            "sender": self.sender,
            "nonce": self.nonce,
            "time": self.time,
            "vout": self.vout,
        })
    }
}
