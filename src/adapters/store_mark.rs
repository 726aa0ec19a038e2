//! The mark of a blob store: a small text with the identity of the installation that owns the store.
//!
//! ```text
//! Penstock's mark of this store of blobs. Do not remove or copy it: a node uses no other store than its own.
//! installation: 67e55044-10b1-426f-9247-bb680e5fe0c8
//! store: 1f0b2f7e-6f2c-4d6b-9a53-0c6a3f1c9c2d
//! ```
//!
//! Marks that earlier versions made have no `store`.

use std::str::FromStr;

use penstock_actors::{
    ids::{InstallationId, StoreId},
    ports::Mark,
};

/// The name of the file or object.
pub(super) const NAME: &str = "penstock-store";

/// Longer than any mark.
pub(super) const LARGEST: usize = 4 << 10;

const INSTALLATION: &str = "installation: ";

const STORE: &str = "store: ";

pub(super) fn encode(of: InstallationId, store: StoreId) -> String {
    let why =
        "Penstock's mark of this store of blobs. Do not remove or copy it: a node uses no other store than its own.";
    format!("{why}\n{INSTALLATION}{of}\n{STORE}{store}\n")
}

pub(super) fn decode(text: &[u8]) -> Mark {
    let read = || {
        let text = str::from_utf8(text).ok()?;
        let store = line(text, STORE);
        // What is there must be an id.
        (store.is_none_or(|store| store.is_ok())).then_some(())?;
        Some(Mark::Of(line(text, INSTALLATION)?.ok()?, store.and_then(Result::ok)))
    };
    read().unwrap_or(Mark::Unreadable)
}

/// The value in the line of a field, if there is one.
fn line<T: FromStr>(text: &str, field: &str) -> Option<Result<T, T::Err>> {
    text.lines().find_map(|line| line.strip_prefix(field)).map(|value| value.trim().parse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_as_it_was_written_and_nothing_else_is_one() {
        let (id, store) = (InstallationId::random(), StoreId::random());
        let text = encode(id, store);
        assert_eq!(decode(text.as_bytes()), Mark::Of(id, Some(store)));
        assert_eq!(
            decode(text.replace('\n', "\r\n").as_bytes()),
            Mark::Of(id, Some(store)),
            "as an editor may leave it"
        );
        assert_eq!(
            decode(format!("why\ninstallation: {id}\n").as_bytes()),
            Mark::Of(id, None),
            "of an earlier version"
        );
        for other in ["", "installation: ", "installation: abc", &format!("store: {store}"), &text[..text.len() - 5]] {
            assert_eq!(decode(other.as_bytes()), Mark::Unreadable, "{other:?}");
        }
        assert_eq!(decode(&[0xff; 60]), Mark::Unreadable);
        assert!(text.len() <= LARGEST);
    }
}
