//! What holds for every slot of a segment.

use super::*;

/// Reads the bytes as a slot of this node's segment: as they are, and with the checksum that makes them one of its records.
///
/// # Panics
/// When a note does not survive being written, or is taken for one of another segment.
pub(crate) fn check(node: Uuid, segment: u64, bytes: &[u8]) {
    let seal = Seal::new(NodeId::from_uuid(node), segment);
    let mut slot = [0; RECORD_BYTES];
    let given = bytes.len().min(RECORD_BYTES);
    slot[..given].copy_from_slice(&bytes[..given]);
    for slot in [slot, seal.seal(slot, slot[7])] {
        let read = seal.read(&slot);
        let written = match &read {
            Slot::Empty => [0; RECORD_BYTES],
            Slot::Bad => continue,
            Slot::Begins(origin) => seal.first(*origin, segment),
            Slot::Note(Note::Row(row)) => seal.row(row),
            Slot::Note(Note::NotCharged(usage)) => seal.not_charged(*usage),
        };
        // The first version has room for requests and times that no stream has.
        if slot[6] == VERSION || !matches!(read, Slot::Note(Note::Row(_))) {
            assert_eq!(seal.read(&written), read);
        }
        if read != Slot::Empty {
            assert_eq!(Seal::new(NodeId::from_uuid(node), segment ^ 1).read(&slot), Slot::Bad);
        }
        if let Slot::Begins(origin) = read
            && origin.node.as_uuid() == node
        {
            assert_eq!(origin_of(&slot, segment), Some(origin));
        }
    }
}
