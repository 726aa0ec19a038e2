//! The header fields of the tus protocol.

use std::time::SystemTime;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue, HttpDate};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use penstock_actors::{
    ids::{ContentHash, UploadId},
    model::UNSAID_MEDIA_TYPE,
};

use super::super::{Problem, ProblemType, validation::is_media_type};

/// The version of the protocol.
pub(super) const VERSION: &str = "1.0.0";

/// The extensions, as `Tus-Extension` lists them.
pub(super) const EXTENSIONS: &str = "creation,creation-with-upload,termination,checksum,expiration,concatenation";

pub(super) const TUS_RESUMABLE: &str = "tus-resumable";
pub(super) const OFFSET: &str = "upload-offset";
pub(super) const METADATA: &str = "upload-metadata";
pub(super) const CONCAT: &str = "upload-concat";

/// The longest metadata: a few names and values. The catalogue keeps them with the upload.
const METADATA_BYTES: usize = 4096;

/// The most partial uploads of a final one.
const MOST_PARTIAL: usize = 100;

/// The media type of the bytes of an upload.
const BYTES: &str = "application/offset+octet-stream";

/// What `Upload-Concat` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Concat {
    Partial,
    Final(Vec<UploadId>),
}

/// What the metadata say of a content, and their text.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) text: String,
    pub(super) media_type: String,
    pub(super) content_hash: Option<ContentHash>,
}

/// A field as text.
///
/// # Errors
/// `malformed-request` when it is not ASCII.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let value = headers.get(name).map(HeaderValue::to_str).transpose();
    value.map_err(|_| Problem::malformed(format!("{name} is not ASCII")))
}

/// Refuses another version of the protocol.
pub(super) fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    if text(headers, TUS_RESUMABLE)? == Some(VERSION) {
        return Ok(());
    }
    Err(Problem::new(ProblemType::PreconditionFailed)
        .detail("send Tus-Resumable: 1.0.0")
        .header(HeaderName::from_static("tus-version"), HeaderValue::from_static(VERSION)))
}

/// Whether the body has bytes of the upload.
pub(super) fn has_bytes(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(BYTES.as_bytes()))
}

pub(super) fn offset(headers: &HeaderMap) -> Result<u64, Problem> {
    number(headers, OFFSET)
}

pub(super) fn length(headers: &HeaderMap) -> Result<u64, Problem> {
    if headers.contains_key("upload-defer-length") {
        return Err(Problem::malformed("this node needs Upload-Length when the upload begins"));
    }
    number(headers, "upload-length")
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<u64, Problem> {
    let digits = text(headers, name)?.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| Problem::malformed(format!("{name} is not a number of bytes")))
}

pub(super) fn concat(headers: &HeaderMap) -> Result<Option<Concat>, Problem> {
    let Some(field) = text(headers, CONCAT)? else { return Ok(None) };
    if field == "partial" {
        return Ok(Some(Concat::Partial));
    }
    let bad =
        || Problem::malformed("Upload-Concat is partial, or final; and the addresses of 1 to 100 partial uploads");
    let list = field.strip_prefix("final;").ok_or_else(bad)?;
    // An address is absolute or only a path; its last segment is the id.
    let ids = list.split_ascii_whitespace().map(|address| address.rsplit('/').next().unwrap_or_default().parse());
    let ids = ids.collect::<Result<Vec<UploadId>, _>>().map_err(|_| bad())?;
    if ids.is_empty() || ids.len() > MOST_PARTIAL { Err(bad()) } else { Ok(Some(Concat::Final(ids))) }
}

/// `filetype` (or `contentType`) is the media type, and `contentHash` the hash that the content must have; others are kept.
pub(super) fn metadata(headers: &HeaderMap) -> Result<Metadata, Problem> {
    let text = text(headers, METADATA)?.unwrap_or_default();
    let mut metadata = Metadata { text: text.to_owned(), media_type: UNSAID_MEDIA_TYPE.to_owned(), content_hash: None };
    if text.len() > METADATA_BYTES {
        return Err(Problem::malformed(format!("Upload-Metadata is longer than {METADATA_BYTES} bytes")));
    }
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once(' ').unwrap_or((pair, ""));
        let value = STANDARD.decode(value.trim()).map_err(|_| {
            Problem::malformed("Upload-Metadata is a list of names, each with a space and a value in Base64")
        })?;
        let value = || std::str::from_utf8(&value).map_err(|_| Problem::malformed(format!("{name} is not UTF-8")));
        match name {
            // Browsers do not know the type of every file.
            "filetype" | "contentType" if !value()?.is_empty() => {
                if !is_media_type(value()?) {
                    return Err(Problem::malformed(format!("{name} is not a media type")));
                }
                metadata.media_type = value()?.to_owned();
            }
            "contentHash" => metadata.content_hash = Some(value()?.parse()?),
            _ => {}
        }
    }
    Ok(metadata)
}

/// A time as HTTP writes it.
pub(super) fn date(time: Timestamp) -> String {
    HttpDate::from(SystemTime::from(time)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
        headers
    }

    #[test]
    fn metadata_name_the_media_type_and_the_hash_and_keep_the_rest() {
        let hash = "ab".repeat(32);
        let field =
            format!("filename ZmlsbQ==, is_public,filetype dmlkZW8vbXA0,contentHash {}", STANDARD.encode(&hash));
        let read = metadata(&with(METADATA, &field)).expect("read");
        assert_eq!((read.media_type.as_str(), read.text), ("video/mp4", field));
        assert_eq!(read.content_hash.map(|hash| hash.to_string()), Some(hash));
        assert_eq!(metadata(&HeaderMap::new()).expect("none").media_type, UNSAID_MEDIA_TYPE);
        assert_eq!(metadata(&with(METADATA, "filetype ")).expect("empty").media_type, UNSAID_MEDIA_TYPE);
        let long = format!("x {}", "A".repeat(METADATA_BYTES));
        for bad in ["filename !", "filetype bm8=", "contentHash YWI=", "contentHash", &long] {
            assert!(metadata(&with(METADATA, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_final_upload_names_its_parts_by_any_form_of_their_address() {
        let id = UploadId::random();
        let field = format!("final;/v1/uploads/{id} https://node.example/v1/uploads/{id}");
        assert_eq!(concat(&with(CONCAT, &field)).expect("read"), Some(Concat::Final(vec![id, id])));
        assert_eq!(concat(&with(CONCAT, "partial")).expect("read"), Some(Concat::Partial));
        for bad in ["final", "final;", "final;/v1/uploads/x", "whole"] {
            assert!(concat(&with(CONCAT, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_of_bytes_has_digits_and_nothing_else() {
        assert_eq!(offset(&with(OFFSET, "0")).expect("read"), 0);
        for bad in ["", "-1", "+1", "1.5", "99999999999999999999"] {
            assert!(offset(&with(OFFSET, bad)).is_err(), "{bad}");
        }
    }
}
