//! The rights of content in a browser. Unknown users upload content and the node serves it from its own address, so a
//! document must be passive there: it must not run scripts, and must not load anything.
//!
//! An active document is also saved instead of shown, unless it is requested at a host that serves nothing but content.

use actix_web::http::header::{Charset, ContentDisposition, DispositionParam, DispositionType, ExtendedValue};

/// For all content except media: an opaque origin of its own, no script, and no loading.
const CLOSED: &str = "sandbox; default-src 'none'";

/// When a browser opens a video or sound by itself, it makes a page of its own, which requests the same address again:
/// that page must keep the node's origin, or the request would be cross-origin. Scripts are still forbidden.
const PLAYED: &str = "sandbox allow-same-origin; default-src 'none'; media-src 'self'";

/// `Content-Security-Policy` of content with this media type.
pub(super) fn security_policy(media_type: &str) -> &'static str {
    let (kind, _) = essence(media_type);
    if kind.eq_ignore_ascii_case("video") || kind.eq_ignore_ascii_case("audio") { PLAYED } else { CLOSED }
}

/// Whether a browser shows content of this type without being able to execute any of it. Every type that is not known
/// to be passive counts as active: HTML, SVG and XML in their many names, and types that browsers may execute in the
/// future.
pub(super) fn only_shows(media_type: &str) -> bool {
    const TEXTS: [(&str, &str); 5] =
        [("application", "json"), ("application", "pdf"), ("text", "csv"), ("text", "markdown"), ("text", "plain")];
    let (kind, subtype) = essence(media_type);
    let is_xml = subtype.to_ascii_lowercase().ends_with("xml");
    let is_media = ["audio", "image", "video"].iter().any(|media| kind.eq_ignore_ascii_case(media));
    is_media && !is_xml
        || TEXTS.iter().any(|(one, other)| kind.eq_ignore_ascii_case(one) && subtype.eq_ignore_ascii_case(other))
}

/// A media type without its parameters, split in two.
fn essence(media_type: &str) -> (&str, &str) {
    let essence = media_type.split(';').next().unwrap_or_default();
    let (kind, subtype) = essence.split_once('/').unwrap_or((essence, ""));
    (kind.trim(), subtype.trim())
}

/// `Content-Disposition` by RFC 6266: a plain name for old clients and the exact one beside it. A name is never a path:
/// path separators, and characters that terminals and shells interpret, are replaced.
pub(super) fn disposition(name: &str, disposition: DispositionType) -> ContentDisposition {
    let safe: String =
        name.chars()
            .map(|c| {
                if c.is_control() || matches!(c, '/' | '\\' | '"' | ':' | '<' | '>' | '|' | '?' | '*') {
                    '_'
                } else {
                    c
                }
            })
            .collect();
    let safe = match safe.trim_matches(['.', ' ']) {
        "" => "content",
        trimmed => trimmed,
    };
    let ascii: String = safe.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    let mut parameters = vec![DispositionParam::Filename(ascii.clone())];
    if ascii != safe {
        parameters.push(DispositionParam::FilenameExt(ExtendedValue {
            charset: Charset::Ext("UTF-8".to_owned()),
            language_tag: None,
            value: safe.as_bytes().to_vec(),
        }));
    }
    ContentDisposition { disposition, parameters }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_and_survive() {
        for (name, expected) in [
            ("film.mp4", "inline; filename=\"film.mp4\""),
            ("../../etc/passwd", "inline; filename=\"_.._etc_passwd\""),
            ("a\"; filename=\"b", "inline; filename=\"a_; filename=_b\""),
            ("x\r\nSet-Cookie: y", "inline; filename=\"x__Set-Cookie_ y\""),
            ("...", "inline; filename=\"content\""),
            ("Füße.txt", "inline; filename=\"F__e.txt\"; filename*=UTF-8''F%C3%BC%C3%9Fe.txt"),
        ] {
            assert_eq!(disposition(name, DispositionType::Inline).to_string(), expected, "{name:?}");
        }
    }

    #[test]
    fn only_what_cannot_act_is_shown() {
        for shown in
            ["video/mp4", "Image/PNG", "audio/ogg; codecs=opus", "application/pdf", "text/plain ;charset=utf-8"]
        {
            assert!(only_shows(shown), "{shown}");
        }
        for saved in [
            "text/html",
            "Text/HTML ;a=b",
            "image/svg+xml",
            "IMAGE/SVG+XML",
            "application/xhtml+xml",
            "text/xml",
            "application/xml",
            "text/xsl",
            "x/y+xml",
            "multipart/related; boundary=b",
            "multipart/x-mixed-replace",
            "message/rfc822",
            "application/octet-stream",
            "text/x-what-comes-next",
            "text",
            "",
        ] {
            assert!(!only_shows(saved), "{saved}");
        }
    }
}
