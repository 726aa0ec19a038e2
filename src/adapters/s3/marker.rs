//! The marker of data that possibly has no manifest.
//!
//! Data always has a manifest or a marker, so the sweep finds what a crash left by reading the markers, which are few,
//! and never by listing all data. A marker is written before its data, and removed when the data has a manifest or is
//! gone. A purge writes a marker for the data whose manifest it removes, so that the sweep removes the data once no
//! reader can have it open any more.

use bytes::Bytes;
use penstock_actors::ids::ContentHash;
use serde::{Deserialize, Serialize};

/// Longer than any marker.
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
    /// The size, as far as it was known.
    pub(super) size_bytes: u64,
}

impl Marker {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("texts and numbers have a JSON form").into()
    }

    /// `None` for other content.
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
