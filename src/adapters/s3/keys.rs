//! The layout of a bucket.
//!
//! ```text
//! PREFIX/blobs/ab/HASH      the manifest of a visible content
//! PREFIX/retired/ab/HASH    the manifest of a hidden content, until it is restored or discarded
//! PREFIX/trash/ab/HASH      the manifest of a discarded content, until it is recovered or purged
//! PREFIX/data/ab/UNIQUE     the bytes, exactly as they were sent
//! PREFIX/uploads/UNIQUE     the marker of data that possibly has no manifest: an upload under way, or data to be removed
//! PREFIX/parts/ab/UPLOAD/PART   a part of a resumable upload, until the upload ends
//! PREFIX/refused/UNIQUE     the marker of an upload in parts that the storage refuses to remove
//! PREFIX/penstock-store     the installation that owns this store, see [`marks`](super::marks)
//! PREFIX/probe              proves that the bucket can be read and written
//! ```
//!
//! The two hexadecimal digits in between mean nothing to S3; for storage that keeps keys as folders, they keep the
//! folders small. Names are made from [`ContentHash`] and random ids only.

use penstock_actors::{ids::ContentHash, model::PartName};
use uuid::Uuid;

use crate::adapters::store_mark;

/// The keys under one prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// Empty, or with a slash at its end.
    prefix: String,
}

impl Keys {
    pub(super) fn below(prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        Self { prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") } }
    }

    pub(super) fn blobs(&self) -> String {
        format!("{}blobs/", self.prefix)
    }

    pub(super) fn blob(&self, hash: ContentHash) -> String {
        in_folder(&self.blobs(), &hash.to_string())
    }

    pub(super) fn all_retired(&self) -> String {
        format!("{}retired/", self.prefix)
    }

    pub(super) fn retired(&self, hash: ContentHash) -> String {
        in_folder(&self.all_retired(), &hash.to_string())
    }

    pub(super) fn trash(&self) -> String {
        format!("{}trash/", self.prefix)
    }

    pub(super) fn trashed(&self, hash: ContentHash) -> String {
        in_folder(&self.trash(), &hash.to_string())
    }

    /// Markers of uploads in parts that the storage refuses to remove.
    pub(super) fn all_refused(&self) -> String {
        format!("{}refused/", self.prefix)
    }

    pub(super) fn refused(&self, data: &str) -> String {
        format!("{}{}", self.all_refused(), last(data))
    }

    /// A unique key, for which a marker key exists too.
    pub(super) fn new_data(&self) -> String {
        in_folder(&format!("{}data/", self.prefix), &Uuid::new_v4().simple().to_string())
    }

    /// The key under this prefix, of data that may have been written under another prefix.
    pub(super) fn own_data(&self, data: &str) -> String {
        data.rsplit_once("data/").map_or_else(|| data.to_owned(), |(_, below)| format!("{}data/{below}", self.prefix))
    }

    pub(super) fn markers(&self) -> String {
        format!("{}uploads/", self.prefix)
    }

    pub(super) fn marker(&self, data: &str) -> String {
        format!("{}uploads/{}", self.prefix, last(data))
    }

    /// A part of a resumable upload.
    pub(super) fn part(&self, part: PartName) -> String {
        let PartName { upload_id, part_id } = part;
        in_folder(&format!("{}parts/", self.prefix), &format!("{upload_id}/{part_id}"))
    }

    /// The object that names the owner of this store.
    pub(super) fn mark(&self) -> String {
        format!("{}{}", self.prefix, store_mark::NAME)
    }

    /// The folders that hold contents or parts of them.
    pub(super) fn folders(&self) -> [String; 5] {
        [self.blobs(), self.all_retired(), self.trash(), format!("{}data/", self.prefix), self.markers()]
    }

    pub(super) fn probe(&self) -> String {
        format!("{}probe", self.prefix)
    }
}

/// The content that a manifest's key names.
pub(super) fn content(key: &str) -> Option<ContentHash> {
    last(key).parse().ok()
}

fn in_folder(parent: &str, name: &str) -> String {
    format!("{parent}{}/{name}", &name[..2])
}

fn last(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_hashes_do_and_lead_back_to_them() {
        for prefix in ["", "a/b", "/a/b/"] {
            let keys = Keys::below(prefix);
            let (one, two) = (ContentHash::from_bytes([0xab; 32]), ContentHash::from_bytes([0xac; 32]));
            assert!(keys.blob(one) < keys.blob(two));
            assert!(keys.blob(one).starts_with(&keys.blobs()));
            assert_eq!(content(&keys.blob(one)), Some(one));
            assert_eq!(content(&keys.retired(two)), Some(two));
            assert_eq!(content(&keys.new_data()), None);
        }
        assert!(Keys::below("a").blob(ContentHash::from_bytes([1; 32])).starts_with("a/blobs/01/0101"));
        assert!(Keys::below("").probe().starts_with("probe"));
    }

    #[test]
    fn data_is_below_the_prefix_wherever_it_was_written() {
        for (written, read) in
            [("a", "a"), ("a", "b"), ("", "a"), ("a/b", ""), ("data", ""), ("", "data"), ("data", "c")]
        {
            let (written, read) = (Keys::below(written).new_data(), Keys::below(read));
            let own = read.own_data(&written);
            assert!(own.starts_with(&format!("{}data/", read.prefix)), "{own}");
            assert_eq!((last(&own), own.len()), (last(&written), read.new_data().len()));
            assert_eq!(read.own_data(&own), own);
        }
    }

    #[test]
    fn data_has_one_marker_of_its_own() {
        let keys = Keys::below("p");
        let (one, two) = (keys.new_data(), keys.new_data());
        assert_ne!(keys.marker(&one), keys.marker(&two));
        assert!(keys.marker(&one).starts_with(&keys.markers()));
    }
}
