//! The declarations of an upload about its bytes, and the check whether the body is a form.
//!
//! Clients wrap a file in a form (`curl -F`), or strip its line ends as they do with typed text (`curl -d @FILE`), and
//! only the media type shows it. Without this check, the form would be stored and sold as if it were the file. Clients
//! also send `application/x-www-form-urlencoded` when no type was chosen (`curl --data-binary`, `wget --post-file`),
//! which says nothing about the bytes.

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderMap},
};
use penstock_actors::model::UNSAID_MEDIA_TYPE;

use super::super::{Problem, ProblemType, body::check_coding, validation::is_media_type};

/// How many bytes of a possible form are examined. Any 64 KiB of a film or an archive contain a zero or a line end; a
/// text has its first line end long before.
const LOOKED_AT: u64 = 64 * 1024;

/// The declarations of an upload.
pub(super) struct UploadDeclaration {
    pub(super) media_type: String,
    /// The bytes left to examine for a sign that this is not a form; `None` when that is settled.
    doubt: Option<u64>,
}

impl UploadDeclaration {
    /// Reads them from the head. `has_digest`: the client declares a digest, so the bytes are compared with it, and a
    /// form cannot be mistaken for the file.
    ///
    /// # Errors
    /// `unsupported-media-type` for a form and for bytes with a content coding; `malformed-request`.
    pub(super) fn read(request: &HttpRequest, has_digest: bool) -> Result<Self, Problem> {
        check_coding(request)?;
        let said = media_type(request.headers())?;
        let essence = said.map(|said| said.split(';').next().unwrap_or_default().trim_end()).unwrap_or_default();
        if essence.eq_ignore_ascii_case("multipart/form-data") {
            return Err(is_a_form("this is a form with a file in it, and would be stored with the form around it"));
        }
        let is_default = essence.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        Ok(Self {
            media_type: said.filter(|_| !is_default).unwrap_or(UNSAID_MEDIA_TYPE).to_owned(),
            doubt: (is_default && !has_digest).then_some(LOOKED_AT),
        })
    }

    /// Examines the next bytes. A form has no zero and no line end, and neither has a file sent with `curl -d @FILE`.
    ///
    /// # Errors
    /// `unsupported-media-type` as soon as it is clear that these are not the bytes of a file.
    pub(super) fn look_at(&mut self, part: &[u8]) -> Result<(), Problem> {
        let Some(left) = self.doubt else { return Ok(()) };
        let end = part.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.doubt = match part[..end].iter().any(|byte| matches!(byte, 0 | b'\n' | b'\r')) {
            true => None,
            false => Some(left - end as u64),
        };
        if self.doubt == Some(0) { self.end() } else { Ok(()) }
    }

    /// Called at the end of the bytes.
    ///
    /// # Errors
    /// As [`Self::look_at`].
    pub(super) fn end(&self) -> Result<(), Problem> {
        if self.doubt.is_none() {
            return Ok(());
        }
        Err(is_a_form("this is a form, or a file without its line ends, as curl -d @FILE sends it"))
    }
}

/// The declared media type, unless it is empty.
fn media_type(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::CONTENT_TYPE);
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if values.next().is_some() || !is_media_type(text) {
        return Err(Problem::malformed("Content-Type is not a media type"));
    }
    Ok(Some(text))
}

fn is_a_form(what: &str) -> Problem {
    unsupported(format!(
        "{what}; send the bytes alone, with their media type: curl -X POST -T FILE -H 'Content-Type: video/mp4' .., or \
         curl --data-binary @FILE -H 'Content-Type: video/mp4' .."
    ))
}

fn unsupported(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(ProblemType::UnsupportedMediaType).detail(detail)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";

    fn said(media_type: &str, has_digest: bool) -> Result<UploadDeclaration, Problem> {
        UploadDeclaration::read(
            &TestRequest::post().insert_header((header::CONTENT_TYPE, media_type)).to_http_request(),
            has_digest,
        )
    }

    /// Whether bytes that arrive in parts are accepted under a default type.
    fn is_taken(parts: &[&[u8]]) -> bool {
        let mut said = said(FORM, false).expect("it may be no form");
        parts.iter().try_for_each(|part| said.look_at(part)).and_then(|()| said.end()).is_ok()
    }

    #[test]
    fn a_default_type_counts_as_unsaid_and_another_as_it_is() {
        for (text, expected) in [
            (FORM, UNSAID_MEDIA_TYPE),
            ("Application/X-WWW-Form-urlencoded ; charset=utf-8", UNSAID_MEDIA_TYPE),
            ("video/mp4", "video/mp4"),
        ] {
            assert_eq!(said(text, false).expect("taken").media_type, expected, "{text}");
        }
        for form in ["multipart/form-data; boundary=x", "Multipart/Form-Data"] {
            for has_digest in [false, true] {
                assert!(said(form, has_digest).is_err(), "{form}");
            }
        }
    }

    #[test]
    fn a_form_and_a_file_without_line_ends_are_distinguished_from_a_file() {
        let long = vec![b'a'; 100_000];
        for form in [&b""[..], b"x", b"file=%0A&a=b", b"line 1line 2", "Füße".as_bytes(), &long] {
            assert!(!is_taken(&[form]), "{:?}", &form[..form.len().min(20)]);
        }
        assert!(is_taken(&[b"line 1\nline 2"]) && is_taken(&[b"a\r"]) && is_taken(&[b"abc", b"", b"\0"]));
        assert!(!is_taken(&[&long, b"\n"]), "what comes so late says nothing");
    }

    #[test]
    fn a_file_of_one_line_is_taken_when_its_digest_is_given() {
        let mut said = said(FORM, true).expect("taken");
        assert!(said.look_at(b"x").and_then(|()| said.end()).is_ok());
        assert_eq!(said.media_type, UNSAID_MEDIA_TYPE);
    }
}
