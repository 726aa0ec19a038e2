//! The signed bytes of a request: the payload of a general message, in the order of BRC-104.

use super::fields::{PREFIX, is_proof};

/// Header fields that are signed in addition to those of `x-bsv-`: they describe the body, and all of its bytes.
const ABOUT_THE_BODY: [&str; 4] = ["content-digest", "content-encoding", "content-type", "repr-digest"];

/// The length of an absent part: -1 in 64 bits.
const ABSENT: [u8; 9] = [0xff; 9];

/// The signed parts of a request.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    pub request_id: [u8; 32],
    pub method: &'a str,
    /// As sent, and as the node sees it: a proxy in front must not change it.
    pub path: &'a str,
    /// Without the question mark.
    pub query: Option<&'a str>,
    /// The fields that [`is_signed`] names, with lower-case names. Their order does not matter.
    pub fields: Vec<(&'a str, &'a [u8])>,
}

/// Whether a header field is signed if it is present. The name is in lower case.
pub fn is_signed(name: &str) -> bool {
    ABOUT_THE_BODY.contains(&name) || (name.starts_with(PREFIX) && !is_proof(name))
}

impl Message<'_> {
    /// The signed bytes. Every part is preceded by its length, so different requests have different bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut fields = self.fields.clone();
        fields.sort_unstable();
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&self.request_id);
        put(&mut out, self.method.as_bytes());
        if self.path.is_empty() {
            out.extend_from_slice(&ABSENT);
        } else {
            put(&mut out, self.path.as_bytes());
        }
        match self.query {
            None => out.extend_from_slice(&ABSENT),
            Some(query) => put(&mut out, format!("?{query}").as_bytes()),
        }
        put_length(&mut out, fields.len());
        for (name, value) in fields {
            put(&mut out, name.as_bytes());
            put(&mut out, value);
        }
        // A header field covers the body by its digest.
        out.extend_from_slice(&ABSENT);
        out
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// A length in Bitcoin's encoding.
fn put_length(out: &mut Vec<u8>, length: usize) {
    match length {
        0..0xfd => out.push(length as u8),
        0xfd..=0xffff => {
            out.push(0xfd);
            out.extend_from_slice(&(length as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xfe);
            out.extend_from_slice(&(length as u32).to_le_bytes());
        }
        _ => {
            out.push(0xff);
            out.extend_from_slice(&(length as u64).to_le_bytes());
        }
    }
}
