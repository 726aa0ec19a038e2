//! What holds for every envelope, every Merkle path, and every header.

use std::sync::LazyLock;

use bsv_rs::primitives::sha256d;
use penstock_actors::{
    model::{ChainHeader, HEADER_BYTES, Network, RawHeader, TxOutput},
    payments::chain::{Added, Chain},
    ports::{BestChain as _, HeaderRules as _, PaymentVerifier as _, VerificationLimits},
};

use super::{
    header_rules::NetworkRules,
    miner::{
        PrivateChain,
        wallet::{RawTransaction, Wallet},
    },
    verifier::BeefVerifier,
};

const LIMITS: VerificationLimits =
    VerificationLimits { bytes: 4_096, transactions: 10, depth: 4, script_work_of_input: 10_000, script_work: 20_000 };

/// The same chain in every run, so that an input that is kept means the same: 102 blocks, of which the last has `funding`.
pub(crate) struct World {
    pub(crate) chain: PrivateChain,
    pub(crate) funding: RawTransaction,
    verifier: BeefVerifier,
}

pub(crate) static WORLD: LazyLock<World> = LazyLock::new(|| {
    let wallet = Wallet::of(&[7; 32]).expect("a key");
    let mut chain = PrivateChain::new();
    let (_, reward) = chain.mine(&[], &wallet.script(), 1_700_000_000);
    for _ in 0..100 {
        chain.mine(&[], &wallet.script(), 0);
    }
    let output = TxOutput { satoshis: 1_000, locking_script: wallet.script() };
    let funding = wallet.spend(&[reward], std::slice::from_ref(&output)).expect("signed");
    chain.mine(std::slice::from_ref(&funding), &wallet.script(), 0);
    World { chain, funding, verifier: BeefVerifier::new(Network::Regtest, LIMITS) }
});

/// # Panics
/// When an envelope is taken for a proof of what it does not prove.
pub(crate) fn check_beef(beef: &[u8]) {
    let world = &*WORLD;
    let Ok(verified) = world.verifier.verify(beef, &world.chain) else { return };
    assert_eq!(verified.txid.as_wire(), &sha256d(&verified.raw));
    assert!(!verified.inputs.is_empty() && !verified.outputs.is_empty() && !verified.roots.is_empty());
    for (height, root) in &verified.roots {
        assert_eq!(world.chain.merkle_root(*height), Some(*root));
    }
    assert!(verified.proven_at.is_none_or(|height| verified.roots.iter().any(|(of, _)| *of == height)));
    for end in 0..beef.len() {
        assert!(world.verifier.verify(&beef[..end], &world.chain).is_err(), "the first {end} bytes");
    }
    assert!(world.verifier.verify(&[beef, &[0]].concat(), &world.chain).is_err());
}

/// # Panics
/// When a path is taken for a proof of `funding` that does not lead to the root of its block.
pub(crate) fn check_bump(bump: &[u8]) {
    let world = &*WORLD;
    let beef = [&[1, 0, 0xbe, 0xef, 1], bump, &[1], &world.funding.0, &[1, 0]].concat();
    check_beef(&beef);
    if let Ok(verified) = world.verifier.verify(&beef, &world.chain)
        && verified.txid == world.funding.id()
    {
        assert_eq!(verified.proven_at, Some(world.chain.height()));
    }
}

/// # Panics
/// When a chain takes a header that does not follow the rules.
pub(crate) fn check_headers(bytes: &[u8]) {
    let rules = NetworkRules::of(Network::Regtest);
    let mut chain = Chain::default();
    let mut before: Vec<ChainHeader> = Vec::new();
    for raw in bytes.as_chunks::<HEADER_BYTES>().0 {
        let raw = RawHeader(*raw);
        let Ok(checked) = rules.check(&raw) else { continue };
        assert_eq!(checked.hash.as_wire(), &sha256d(&raw.0));
        let Ok(header) = rules.follow(&checked, &before) else { continue };
        assert_eq!(header.height as usize, before.len());
        let follows = before.last().is_none_or(|parent| parent.hash == raw.previous());
        assert!(before.last().is_none_or(|parent| parent.total_work < header.total_work));
        match chain.add(header) {
            Ok(added) => {
                assert!(follows && added == Added::Tip);
                assert_eq!(chain.root(header.height), Some(raw.merkle_root()));
                before.push(header);
            }
            Err(_) => assert!(!follows),
        }
    }
}
