//! What distinguishes the networks.

use bsv_rs::{block::ChainParams, script::ProtocolEra};
use penstock_actors::model::Network;

/// The first block of the networks, as it is hashed. They differ in time, target and nonce alone.
const FIRST_ROOT: [u8; 32] = [
    0x3b, 0xa3, 0xed, 0xfd, 0x7a, 0x7b, 0x12, 0xb2, 0x7a, 0xc7, 0x2c, 0x3e, 0x67, 0x76, 0x8f, 0x61, 0x7f, 0xc8, 0x1b,
    0xc3, 0x88, 0x8a, 0x51, 0x32, 0x3a, 0x9f, 0xb8, 0xaa, 0x4b, 0x1e, 0x5e, 0x4a,
];

/// Blocks that the network has at these heights. They keep a source from serving another chain that shares its beginning with this one, and
/// from serving a chain of blocks that were cheap when the chain was young.
const MAIN: &[(u32, &str)] = &[
    // The first block after the network parted from BCH.
    (556_767, "000000000000000001d956714215d96ffc00e0afda4cd0a96c96f8d802b1662b"),
    (599_999, "0000000000000000078f57b9a986b53b73f007c6b27b6f16409ca4eda83034e8"),
    (699_999, "000000000000000013abf3ab026610ed70e023476db8ce96f68637acdcbcf3cb"),
    (799_999, "00000000000000000b6ae23bbe9f549844c20943d8c20b8ceedbae8aa1dde8e0"),
    (899_999, "00000000000000000e7dcc27c06ee353bd37260b2e7e664314c204f0324a5087"),
];
const TEST: &[(u32, &str)] = &[(1_699_999, "000000000001561e0532f48401f822f5c0d8797e364b1d612a317eca6983ca36")];

/// The constants of a network.
#[derive(Debug, Clone)]
pub(super) struct NetworkConstants {
    pub(super) params: ChainParams,
    pub(super) checkpoints: &'static [(u32, &'static str)],
    pub(super) first_header: [u8; 80],
    /// Outputs of earlier blocks follow rules that are no longer in force.
    pub(super) genesis_height: u32,
    pub(super) chronicle_height: u32,
}

impl NetworkConstants {
    pub(super) fn of(network: Network) -> Self {
        let (params, checkpoints, first_header, genesis_height, chronicle_height) = match network {
            Network::Main => (
                ChainParams::main(),
                MAIN,
                first_header(1_231_006_505, 0x1d00_ffff, 2_083_236_893),
                ProtocolEra::MAINNET_GENESIS_HEIGHT,
                ProtocolEra::MAINNET_CHRONICLE_HEIGHT,
            ),
            Network::Test => (
                ChainParams::test(),
                TEST,
                first_header(1_296_688_602, 0x1d00_ffff, 414_098_458),
                TEST_GENESIS_HEIGHT,
                TEST_CHRONICLE_HEIGHT,
            ),
            // A private chain has the rules of today from its first block on.
            Network::Regtest => {
                (ChainParams::regtest(), [].as_slice(), first_header(1_296_688_602, 0x207f_ffff, 2), 0, 0)
            }
        };
        Self { params, checkpoints, first_header, genesis_height, chronicle_height }
    }
}

const TEST_GENESIS_HEIGHT: u32 = 1_344_302;
const TEST_CHRONICLE_HEIGHT: u32 = 1_713_022;

fn first_header(time: u32, bits: u32, nonce: u32) -> [u8; 80] {
    let mut header = [0; 80];
    header[0] = 1;
    header[36..68].copy_from_slice(&FIRST_ROOT);
    header[68..72].copy_from_slice(&time.to_le_bytes());
    header[72..76].copy_from_slice(&bits.to_le_bytes());
    header[76..].copy_from_slice(&nonce.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use bsv_rs::block::BlockHeader;

    use super::*;

    #[test]
    fn the_first_blocks_are_those_of_the_networks() {
        for (network, id) in [
            (Network::Main, "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"),
            (Network::Test, "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943"),
            (Network::Regtest, "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
        ] {
            let first = BlockHeader::from_binary(&NetworkConstants::of(network).first_header).expect("80 bytes");
            assert_eq!(first.id(), id);
        }
    }
}
