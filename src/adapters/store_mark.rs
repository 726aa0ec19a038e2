//! The mark of a blob store: a small text with the identity of the installation that owns the store.
//!
//! ```text
//! Penstock's mark of this store of blobs. Do not remove or copy it: a node uses no other store than its own.
//! installation: 67e55044-10b1-426f-9247-bb680e5fe0c8
//! ```

use penstock_actors::{ids::InstallationId, ports::Mark};

/// The name of the file or object.
pub(super) const NAME: &str = "penstock-store";

/// Longer than any mark.
pub(super) const LARGEST: usize = 4 << 10;

const FIELD: &str = "installation: ";

pub(super) fn encode(of: InstallationId) -> String {
    let why =
        "Penstock's mark of this store of blobs. Do not remove or copy it: a node uses no other store than its own.";
    format!("{why}\n{FIELD}{of}\n")
}

pub(super) fn decode(text: &[u8]) -> Mark {
    let id = str::from_utf8(text).ok().and_then(|text| text.lines().find_map(|line| line.strip_prefix(FIELD)));
    id.and_then(|id| id.trim().parse().ok()).map_or(Mark::Unreadable, Mark::Of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_as_it_was_written_and_nothing_else_is_one() {
        let id = InstallationId::random();
        let text = encode(id);
        assert_eq!(decode(text.as_bytes()), Mark::Of(id));
        assert_eq!(decode(text.replace('\n', "\r\n").as_bytes()), Mark::Of(id), "as an editor may leave it");
        for other in ["", "installation: ", "installation: abc", &text[..text.len() - 5]] {
            assert_eq!(decode(other.as_bytes()), Mark::Unreadable, "{other:?}");
        }
        assert_eq!(decode(&[0xff; 60]), Mark::Unreadable);
        assert!(text.len() <= LARGEST);
    }
}
