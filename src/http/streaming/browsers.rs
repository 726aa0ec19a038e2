//! What a browser may do with content. Strangers upload it and the node sends it from its own address, so a document among it
//! must not act there: no script of it runs, and nothing is loaded by it.
//!
//! A document that could act is also not shown but saved, unless it is asked for at an address that has nothing but content.

use actix_web::http::header::{Charset, ContentDisposition, DispositionParam, DispositionType, ExtendedValue};

/// For all but what the next one is for: an origin of its own that is nobody's, no script, and nothing that loads.
const CLOSED: &str = "sandbox; default-src 'none'";

/// A video or sound that is opened by itself is a page of the browser's own making, which asks for the same address again: it must
/// stay of the node's origin, or that is a request across origins. No script runs all the same.
const PLAYED: &str = "sandbox allow-same-origin; default-src 'none'; media-src 'self'";

/// `Content-Security-Policy` of content that is sent as this.
pub(super) fn security_policy(media_type: &str) -> &'static str {
    let (kind, _) = essence(media_type);
    if kind.eq_ignore_ascii_case("video") || kind.eq_ignore_ascii_case("audio") { PLAYED } else { CLOSED }
}

/// Whether a browser shows content of this type without being able to run any of it. All that is not known to be so counts as a
/// document that acts: HTML, SVG and XML in their many names, and what browsers will learn to run.
pub(super) fn only_shows(media_type: &str) -> bool {
    const TEXTS: [(&str, &str); 5] =
        [("application", "json"), ("application", "pdf"), ("text", "csv"), ("text", "markdown"), ("text", "plain")];
    let (kind, subtype) = essence(media_type);
    let is_xml = subtype.to_ascii_lowercase().ends_with("xml");
    let is_media = ["audio", "image", "video"].iter().any(|media| kind.eq_ignore_ascii_case(media));
    is_media && !is_xml
        || TEXTS.iter().any(|(one, other)| kind.eq_ignore_ascii_case(one) && subtype.eq_ignore_ascii_case(other))
}

/// A media type without its parameters, in two.
fn essence(media_type: &str) -> (&str, &str) {
    let essence = media_type.split(';').next().unwrap_or_default();
    let (kind, subtype) = essence.split_once('/').unwrap_or((essence, ""));
    (kind.trim(), subtype.trim())
}

/// `Content-Disposition` by RFC 6266: a plain name for old clients and the exact one beside it. A name is never a path: what
/// separates folders, and what terminals and shells act on, is replaced.
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
