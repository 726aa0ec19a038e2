//! A private chain whose headers a node reads from a file.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use penstock::adapters::bsv::miner::{
    PrivateChain,
    beef::Beef,
    wallet::{Coin, RawTransaction, Wallet, coin},
};
use penstock_actors::model::TxOutput;

/// The chain, and a wallet that has what its first block paid.
pub(crate) struct TestChain {
    pub(crate) chain: PrivateChain,
    pub(crate) wallet: Wallet,
    /// What the wallet can spend, with the transaction that pays it.
    reward: (RawTransaction, Coin),
    file: PathBuf,
}

impl TestChain {
    /// 101 blocks, made just now, with their headers in a file of this folder.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let wallet = Wallet::of(&[7; 32]).expect("a key");
        let mut chain = PrivateChain::new();
        let reward = chain.mine(&[], &wallet.script(), now());
        let mut chain = Self { chain, wallet, reward, file: folder.join("headers") };
        chain.grow(100);
        chain
    }

    /// The variables of a node that follows this chain.
    pub(crate) fn env(&self) -> [(&'static str, String); 4] {
        [
            ("PENSTOCK_PAYMENTS__NETWORK", "regtest".to_owned()),
            ("PENSTOCK_PAYMENTS__HEADERS_SOURCE", "file".to_owned()),
            ("PENSTOCK_PAYMENTS__HEADERS_FILE", self.file.to_str().expect("a path of text").to_owned()),
            ("PENSTOCK_PAYMENTS__HEADERS_POLL", "100ms".to_owned()),
        ]
    }

    /// Mines empty blocks, and publishes their headers.
    pub(crate) fn grow(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.chain.mine(&[], &self.wallet.script(), now());
        }
        self.publish();
    }

    /// Mines a block with these transactions, and publishes its header.
    pub(crate) fn mine(&mut self, transactions: &[RawTransaction]) {
        self.chain.mine(transactions, &self.wallet.script(), now());
        self.publish();
    }

    /// Replaces the last `depth` blocks by as many others and one more, without transactions; publishes their headers.
    pub(crate) fn reorganise(&mut self, depth: u32) {
        self.chain = self.chain.branch_at(self.chain.height() - depth, self.chain.height());
        self.grow(depth + 1);
    }

    /// Mines a coin of the wallet that is worth so much; returns it with the envelope that proves it. Call it once: it spends the reward.
    pub(crate) fn coin(&mut self, satoshis: u64) -> (Beef, Coin) {
        let (mut coins, beef) = self.coins(&[satoshis]);
        (beef, coins.remove(0))
    }

    /// As [`coin`](Self::coin), for several out of one transaction.
    pub(crate) fn coins(&mut self, amounts: &[u64]) -> (Vec<Coin>, Beef) {
        let script = self.wallet.script();
        let outputs: Vec<_> =
            amounts.iter().map(|satoshis| TxOutput { satoshis: *satoshis, locking_script: script.clone() }).collect();
        let funding = self.wallet.spend(std::slice::from_ref(&self.reward.1), &outputs).expect("signed");
        self.mine(std::slice::from_ref(&funding));
        let proof = self.chain.proof(&funding.id()).expect("it is in a block");
        let coins = (0..).zip(&outputs).map(|(vout, output)| coin(&funding, vout, output)).collect();
        (coins, Beef::new().mined(&funding, proof))
    }

    /// Writes the headers as a whole, so that no reader sees a part of them.
    pub(crate) fn publish(&self) {
        let headers: Vec<u8> = self.chain.headers_from(0).iter().flat_map(|header| header.raw.0).collect();
        let temporary = self.file.with_extension("new");
        fs::write(&temporary, headers).expect("written");
        fs::rename(&temporary, &self.file).expect("renamed");
    }
}

fn now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    u32::try_from(now).expect("before 2106")
}
