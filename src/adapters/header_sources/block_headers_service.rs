//! The Block Headers Service: `/api/v1/chain/tip/longest`, and `/api/v1/chain/header/byHeight`, which has the fields of headers as JSON, of
//! all branches.

use std::collections::HashMap;

use async_trait::async_trait;
use penstock_actors::{
    model::{BlockHash, HEADER_BYTES, MerkleRoot, RawHeader},
    ports::{HEADERS_A_CALL, HeaderSource, PortResult},
};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::server::{Server, ServerSettings};

/// The JSON of a header, with room for other spellings of it.
const JSON_BYTES: usize = 1_024;

/// A server of the Block Headers Service.
#[derive(Debug, Clone)]
pub struct BlockHeadersService(Server);

impl BlockHeadersService {
    /// # Errors
    /// When the client cannot be set up.
    pub fn new(settings: ServerSettings) -> anyhow::Result<Self> {
        Server::new("block-headers-service", settings).map(Self)
    }
}

#[derive(Deserialize)]
struct TipAnswer {
    height: u32,
}

/// The fields of a header.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(deserialize_with = "text")]
    hash: BlockHash,
    version: i32,
    #[serde(deserialize_with = "text")]
    prev_block_hash: BlockHash,
    #[serde(deserialize_with = "text")]
    merkle_root: MerkleRoot,
    creation_timestamp: u32,
    difficulty_target: u32,
    nonce: u32,
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BlockHash, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

impl Fields {
    fn raw(&self) -> RawHeader {
        let mut raw = [0; HEADER_BYTES];
        raw[..4].copy_from_slice(&self.version.to_le_bytes());
        raw[4..36].copy_from_slice(self.prev_block_hash.as_wire());
        raw[36..68].copy_from_slice(self.merkle_root.as_wire());
        raw[68..72].copy_from_slice(&self.creation_timestamp.to_le_bytes());
        raw[72..76].copy_from_slice(&self.difficulty_target.to_le_bytes());
        raw[76..].copy_from_slice(&self.nonce.to_le_bytes());
        RawHeader(raw)
    }
}

/// The longest way through headers of several branches, the lowest first; of two equals, that to the header that came first.
fn longest(headers: &[Fields]) -> Vec<RawHeader> {
    let by_hash: HashMap<_, _> = headers.iter().map(|header| (header.hash, header)).collect();
    let way_to = |last| {
        let before = |header: &&Fields| by_hash.get(&header.prev_block_hash).copied();
        // No longer than the list, should the hashes that the server claims form a circle.
        std::iter::successors(Some(last), before).take(headers.len())
    };
    let mut best: Vec<&Fields> = Vec::new();
    for last in headers {
        let is_inner = headers.iter().any(|other| other.prev_block_hash == last.hash);
        if !is_inner && way_to(last).count() > best.len() {
            best = way_to(last).collect();
        }
    }
    best.into_iter().rev().map(Fields::raw).collect()
}

#[async_trait]
impl HeaderSource for BlockHeadersService {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    async fn tip(&self) -> PortResult<u32> {
        let tip: Option<TipAnswer> = self.0.json("api/v1/chain/tip/longest", JSON_BYTES * 4).await?;
        tip.map(|tip| tip.height).ok_or_else(|| self.0.fault("it has no tip"))
    }

    async fn headers(&self, from: u32, count: usize) -> PortResult<Vec<RawHeader>> {
        let count = count.min(HEADERS_A_CALL);
        let path = format!("api/v1/chain/header/byHeight?height={from}&count={count}");
        let headers: Vec<Fields> = self.0.json(&path, (count + 1) * JSON_BYTES).await?.unwrap_or_default();
        Ok(longest(&headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(hash: u8, previous: u8) -> Fields {
        let hash_of = |byte| BlockHash::from_wire([byte; 32]);
        Fields {
            hash: hash_of(hash),
            version: 1,
            prev_block_hash: hash_of(previous),
            merkle_root: hash_of(hash),
            creation_timestamp: 2,
            difficulty_target: 3,
            nonce: 4,
        }
    }

    fn ways(headers: &[Fields]) -> Vec<u8> {
        longest(headers).iter().map(|raw| raw.merkle_root().as_wire()[0]).collect()
    }

    #[test]
    fn of_several_branches_the_longest_is_taken() {
        assert!(ways(&[]).is_empty());
        assert_eq!(ways(&[fields(5, 4)]), [5]);
        let headers = [fields(5, 4), fields(50, 4), fields(6, 5), fields(60, 50), fields(7, 6)];
        assert_eq!(ways(&headers), [5, 6, 7]);
        assert_eq!(ways(&headers[..4]), [5, 6], "the first of two equals");
        assert!(ways(&[fields(1, 2), fields(2, 1)]).is_empty(), "hashes in a circle have no end");
    }

    #[test]
    fn the_fields_of_the_first_block_are_its_header() {
        let json = r#"{
            "hash": "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f", "version": 1,
            "prevBlockHash": "0000000000000000000000000000000000000000000000000000000000000000",
            "merkleRoot": "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
            "creationTimestamp": 1231006505, "difficultyTarget": 486604799, "nonce": 2083236893, "work": "4295032833"
        }"#;
        let fields: Fields = serde_json::from_str(json).expect("JSON");
        let rules = crate::adapters::bsv::header_rules::NetworkRules::of(penstock_actors::model::Network::Main);
        assert_eq!(fields.raw(), rules.first_header());
    }
}
