//! What holds for every declaration of an upload.

use actix_web::{http::header::HeaderValue, test::TestRequest};

use super::*;

/// # Panics
/// When a media type is kept that no answer can carry, or the parts in which a body arrives change what it counts as.
pub(crate) fn check(media_type: &[u8], body: &[u8], has_digest: bool) {
    let Ok(value) = HeaderValue::from_bytes(media_type) else { return };
    let request = TestRequest::post().insert_header((header::CONTENT_TYPE, value)).to_http_request();
    let declared = || UploadDeclaration::read(&request, has_digest).ok();
    let Some(declaration) = declared() else { return };
    let kept = &declaration.media_type;
    assert!(is_media_type(kept) && HeaderValue::from_str(kept).is_ok(), "{kept:?}");
    let is_taken = |size: usize| {
        let look = |mut said: UploadDeclaration| {
            body.chunks(size).try_for_each(|part| said.look_at(part)).and_then(|()| said.end())
        };
        declared().map(look).map(|looked| looked.is_ok())
    };
    let taken = is_taken(body.len().max(1));
    assert!(taken == is_taken(1) && taken == is_taken(7));
    if has_digest {
        assert_eq!(taken, Some(true));
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;

    proptest! {
        #[test]
        fn every_declaration_is_taken_or_refused_however_the_body_arrives(
            essence in select(vec!["application/x-www-form-urlencoded", "multipart/form-data", "video/mp4", "text", ""]),
            parameters in "|;[ -~]{0,20}|\\PC{0,10}",
            body in "[ab=&]{0,20}\n?[ab=&]{0,20}",
            has_digest: bool,
        ) {
            check(format!("{essence}{parameters}").as_bytes(), body.as_bytes(), has_digest);
        }
    }
}
