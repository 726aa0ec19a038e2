//! The marker of data that may belong to nobody.
//!
//! Data is always named by a manifest or by a marker, so what a crash leaves is found by looking at the markers, of which
//! there are few, and never by looking at all data. A marker is written before its data, and removed when the data is named
//! by a manifest or gone. A purge writes one for the data that it takes the manifest from, so that the sweep removes it
//! once nobody can be reading it any more.

use bytes::Bytes;
use penstock_actors::ids::ContentHash;
use serde::{Deserialize, Serialize};

/// More than any marker has.
pub(super) const LARGEST: usize = 16 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Marker {
    pub(super) data: String,
    /// The upload in parts that is under way, to abort it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) upload: Option<String>,
    /// The content whose manifest may name the data, once that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) content: Option<ContentHash>,
    /// As far as it was known.
    pub(super) size_bytes: u64,
}

impl Marker {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("texts and numbers have a JSON form").into()
    }

    /// `None` when it is not one.
    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_back_as_it_was_written() {
        let mut marker = Marker { data: "data/ab/abc".to_owned(), upload: None, content: None, size_bytes: 0 };
        assert_eq!(Marker::decode(&marker.encode()), Some(marker.clone()));
        marker.upload = Some("id\"<&>".to_owned());
        marker.content = Some(ContentHash::from_bytes([7; 32]));
        marker.size_bytes = u64::MAX;
        assert_eq!(Marker::decode(&marker.encode()), Some(marker));
        assert_eq!(Marker::decode(b"{\"data\":1}"), None);
        assert_eq!(Marker::decode(b""), None);
    }
}
