//! The targets of `fuzz/`. Each gives bytes to a parser of what others send or store, and asserts what must hold for its answer.
//!
//! What must hold stands beside each parser, in its module `properties`. Here an input is divided into the arguments: mostly lines
//! of text, so that the files in `fuzz/corpus` can be read and written by hand. The tests replay all of those files.

use std::net::{IpAddr, Ipv4Addr};

use penstock_actors::{
    governance::Ancestry,
    ids::{ContentHash, GovernancePolicyId, ReceiptId},
    model::IdentityKey,
    ports::{KeyPattern, Media, SearchFilter},
    search::{Highlighter, MAX_WORD_CHARS, TextQuery, words},
};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    adapters, config, http, http_server, openlineage, receipt_tokens::ReceiptTokens, signatures, signatures::Message,
};

/// The parts of the node that the target `requests` compares with the framework.
pub use http_server::client_socket::{
    Framing,
    turns::properties::{ReadBody, ReadEnd, read_body, read_head},
};

/// A target, by its name.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 22] = [
    ("beef", beef),
    ("bump", bump),
    ("cache_entry", cache_entry),
    ("chunks", chunks),
    ("conditions", conditions),
    ("config", config),
    ("cursor", cursor),
    ("digest", digest),
    ("event", event),
    ("forwarded", forwarded),
    ("headers", headers),
    ("ids", ids),
    ("leaf_list", leaf_list),
    ("manifest", manifest),
    ("media_type", media_type),
    ("node_name", node_name),
    ("policy", policy),
    ("range", range),
    ("search", search),
    ("signature", signature),
    ("spool_record", spool_record),
    ("token", token),
];

/// The envelope of a payment.
pub fn beef(input: &[u8]) {
    adapters::bsv::properties::check_beef(input);
}

/// A Merkle path.
pub fn bump(input: &[u8]) {
    adapters::bsv::properties::check_bump(input);
}

/// A value of the cache in Redis.
pub fn cache_entry(input: &[u8]) {
    adapters::redis::cache::entry::properties::check(input);
}

/// What follows the head of a request whose body comes in chunks.
pub fn chunks(input: &[u8]) {
    http_server::client_socket::turns::properties::check(input);
}

/// `METHOD SECOND`, and a field on each further line.
pub fn conditions(input: &[u8]) {
    let (first, fields) = first_line(input);
    let (method, second) = text(first).split_once(' ').unwrap_or_default();
    let head = http::streaming::conditions::properties::Head::new(method, number(second), fields_in(fields));
    http::streaming::conditions::properties::check(&head);
}

/// `HOLDER BEHIND`, variables as `NAME=VALUE`, an empty line, and a file.
pub fn config(input: &[u8]) {
    let (first, rest) = first_line(input);
    let (holder, behind) = text(first).split_once(' ').unwrap_or_default();
    let (variables, file) = text(rest).split_once("\n\n").unwrap_or((text(rest), ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    config::properties::check(file, variables, number(holder), behind);
}

/// A cursor, the text of its search, and `NEWEST NUMBER` of a place in it.
pub fn cursor(input: &[u8]) {
    let (cursor, rest) = first_line(input);
    let (typed, place) = first_line(rest);
    let (newest, last) = text(place).split_once(' ').unwrap_or_default();
    http::catalog::cursor::properties::check(text(cursor), text(typed), number(newest), number(last));
}

/// The value of `Repr-Digest`.
pub fn digest(input: &[u8]) {
    http::digest::properties::check(input);
}

/// An OpenLineage event.
pub fn event(input: &[u8]) {
    openlineage::properties::check(text(input));
}

/// The address of the peer, and a value of `X-Forwarded-For` on each further line.
pub fn forwarded(input: &[u8]) {
    let (peer, lines) = first_line(input);
    let peer = text(peer).parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    http::client_address::properties::check(peer, lines.split(|byte| *byte == b'\n'));
}

/// Headers of blocks, one after the other.
pub fn headers(input: &[u8]) {
    adapters::bsv::properties::check_headers(input);
}

/// A text in the place of a name of any kind: each name has one spelling.
pub fn ids(input: &[u8]) {
    let text = text(input);
    if let Ok(hash) = text.parse::<ContentHash>() {
        assert_eq!(hash.to_string(), text.to_ascii_lowercase());
    }
    if let Ok(id) = text.parse::<ReceiptId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    if let Ok(key) = text.parse::<IdentityKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(id) = text.parse::<GovernancePolicyId>() {
        assert_eq!(id.as_str(), text);
    }
    let (pattern, key) = text.split_once('\n').unwrap_or((text, text));
    if let Some(pattern) = KeyPattern::parse(pattern) {
        let is_plain = !pattern.as_str().contains(['*', '?']);
        assert!(!is_plain || pattern.matches(key) == (pattern.as_str() == key));
        if let Some(all) = KeyPattern::parse(&format!("{}*", pattern.as_str())) {
            assert!(!pattern.matches(key) || all.matches(key));
        }
    }
}

/// The hash of a content, and the list of its leaves, with or without its checksum.
pub fn leaf_list(input: &[u8]) {
    let (hash, list) = hash_and_rest(input);
    adapters::leaf_list::properties::check(hash, list);
}

/// The hash of a content, and a manifest: the length of its head, the head, and the list of leaves.
pub fn manifest(input: &[u8]) {
    let (hash, rest) = hash_and_rest(input);
    let Some((length, rest)) = rest.split_first() else { return };
    let (head, list) = rest.split_at(usize::from(*length).min(rest.len()));
    adapters::s3::manifest::properties::check(hash, head, list);
}

/// The media type of an upload, and its body. A type that begins with `+` comes with a digest.
pub fn media_type(input: &[u8]) {
    let (first, body) = first_line(input);
    let (media_type, has_digest) = first.strip_prefix(b"+").map_or((first, false), |rest| (rest, true));
    http::content::said::properties::check(media_type, body, has_digest);
}

/// A job or a dataset in a query.
pub fn node_name(input: &[u8]) {
    http::lineage::node_id::properties::check(text(input));
}

/// How far an asset's origin is known (its depth, with `+` where there may be more), its properties, and a policy.
pub fn policy(input: &[u8]) {
    let (depth, rest) = first_line(input);
    let (meta, policy) = first_line(rest);
    let (depth, cut) = text(depth).strip_suffix('+').map_or((text(depth), false), |depth| (depth, true));
    let ancestry = depth.parse().ok().map(|depth| Ancestry { depth, cut });
    let meta = serde_json::from_slice(meta).ok().filter(Value::is_object);
    http::governance::document::properties::check(
        text(policy),
        &meta.unwrap_or_else(|| serde_json::json!({})),
        ancestry,
    );
}

/// `SIZE LONGEST`, and the value of `Range`. Sizes are below 2^48: S3 keeps none above.
pub fn range(input: &[u8]) {
    let (numbers, field) = first_line(input);
    let (size, longest) = text(numbers).split_once(' ').unwrap_or_default();
    http::streaming::range::properties::check(field, number::<u64>(size) % (1 << 48), number(longest));
}

/// What is typed, the id of a dataset, a media type, and the text of an asset.
pub fn search(input: &[u8]) {
    let (typed, rest) = first_line(input);
    let (dataset, rest) = first_line(rest);
    let (media, found_in) = first_line(rest);
    let query = TextQuery::parse(text(typed)).ok();
    let filter = SearchFilter {
        text: query.clone(),
        dataset_id: Some(text(dataset).to_owned()).filter(|dataset| !dataset.is_empty()),
        media: Some(Media::Type(text(media).to_owned())).filter(|_| !media.is_empty()),
        ..SearchFilter::default()
    };
    adapters::sqlite::search::match_text::properties::check(&filter);
    let asset = text(found_in);
    for word in words(asset) {
        assert!((1..=MAX_WORD_CHARS).contains(&word.chars().count()), "{word:?}");
    }
    let Some(query) = query else { return };
    adapters::postgres::search::tsquery::properties::check(&query);
    if let Some(pieces) = Highlighter::of(&query).passage(asset) {
        assert!(pieces.iter().any(|piece| piece.hit));
        let passage: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert!(asset.contains(passage.trim_start_matches('…').trim_end_matches('…')), "{passage:?}");
    }
}

/// Two requests with an empty line between them, each `METHOD PATH QUERY` and a field on each further line.
pub fn signature(input: &[u8]) {
    let end = input.windows(2).position(|two| two == b"\n\n").unwrap_or(input.len());
    let (one, other) = (&input[..end], input.get(end + 2..).unwrap_or_default());
    signatures::properties::check_messages(message(one), message(other));
    signatures::properties::check_proof(&message(one).fields);
}

/// The id of a node, the number of a segment of its usage spool, and a slot in it.
pub fn spool_record(input: &[u8]) {
    let Some((node, rest)) = input.split_first_chunk() else { return };
    let Some((segment, slot)) = rest.split_first_chunk() else { return };
    adapters::usage_spool::record::properties::check(Uuid::from_bytes(*node), u64::from_le_bytes(*segment), slot);
}

/// A receipt as a client without a key sends it.
pub fn token(input: &[u8]) {
    const KEYS: [&str; 2] = ["b:fedcba9876543210fedcba9876543210", "a:0123456789abcdef0123456789abcdef"];
    let Some(tokens) = ReceiptTokens::parse(&KEYS.join(","), true) else { panic!("the keys are keys") };
    let text = text(input);
    if let Ok(id) = tokens.open(text) {
        // A hexadecimal digit of the id has two spellings; the signature has one.
        let issued = KEYS.iter().filter_map(|key| ReceiptTokens::parse(key, true)?.token(id));
        let of_id = id.to_string().len();
        let is_it = |issued: &String| issued[of_id..] == text[of_id..] && issued.eq_ignore_ascii_case(text);
        assert!(issued.into_iter().any(|issued| is_it(&issued)), "{text}");
    }
    // Keys are configured, and may be anything too.
    let _ = ReceiptTokens::parse(text, false);
}

/// The text that the bytes begin with.
fn text(input: &[u8]) -> &str {
    match std::str::from_utf8(input) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&input[..error.valid_up_to()]).unwrap_or_default(),
    }
}

fn first_line(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    (&input[..end], input.get(end + 1..).unwrap_or_default())
}

fn number<T: std::str::FromStr + Default>(text: &str) -> T {
    text.parse().unwrap_or_default()
}

fn fields_in(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii_start()))
    })
}

fn hash_and_rest(input: &[u8]) -> (ContentHash, &[u8]) {
    input
        .split_first_chunk()
        .map_or((ContentHash::from_bytes([0; 32]), input), |(hash, rest)| (ContentHash::from_bytes(*hash), rest))
}

fn message(input: &[u8]) -> Message<'_> {
    let (first, fields) = first_line(input);
    let (method, target) = text(first).split_once(' ').unwrap_or((text(first), ""));
    let (path, query) = target.split_once(' ').map_or((target, None), |(path, query)| (path, Some(query)));
    let fields = fields_in(fields).map(|(name, value)| (text(name), value)).collect();
    Message { request_id: [7; 32], method, path, query, fields }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::PathBuf};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "fuzz", name].iter().collect()
    }

    #[test]
    #[allow(clippy::print_stdout, reason = "the last path printed is the input that fails")]
    fn every_input_of_the_corpora_holds() {
        for (name, target) in TARGETS {
            let inputs = fs::read_dir(folder("corpus").join(name)).unwrap_or_else(|_| panic!("{name} has a corpus"));
            let mut replayed = 0;
            for input in inputs {
                let path = input.expect("the corpus can be read").path();
                println!("{}", path.display());
                target(&fs::read(&path).expect("the corpus can be read"));
                replayed += 1;
            }
            assert!(replayed > 0, "{name} has a corpus");
        }
    }

    #[test]
    fn every_target_is_a_program_of_the_fuzzer() {
        let programs = fs::read_dir(folder("fuzz_targets")).expect("there are programs");
        let programs: BTreeSet<_> = programs
            .map(|program| program.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned())
            .collect();
        // One target needs the framework's own parser, which is not at hand here.
        let named = TARGETS.iter().map(|(name, _)| (*name).to_owned()).chain(["requests".to_owned()]);
        assert_eq!(programs, named.collect());
        let manifest = fs::read_to_string(folder("Cargo.toml")).expect("a manifest");
        for name in programs {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        }
    }
}
