//! Pages that are part of the binary: their files, each page with a policy of its own.

use std::future::ready;

use actix_web::{HttpResponse, http::header, web::ServiceConfig};

use super::routing;

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const CSS: &str = "text/css; charset=utf-8";
pub(super) const JS: &str = "text/javascript; charset=utf-8";

/// A file of a page: path, media type, text.
pub(super) type PageFile = (&'static str, &'static str, &'static str);

/// Serves the files of a page, which may load and do what its policy says.
pub(super) fn serve(cfg: &mut ServiceConfig, files: &'static [PageFile], policy: &'static str) {
    for &(path, media_type, text) in files {
        let answer = move || ready(file(media_type, text, policy));
        cfg.service(routing::resource(path).route(routing::read().to(answer)));
    }
}

/// A file is as old as the binary, so a browser asks for it again each time.
fn file(media_type: &'static str, text: &'static str, policy: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .content_type(media_type)
        .body(text)
}
