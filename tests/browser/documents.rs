//! Documents that strangers upload: a browser opens each, and no script of any of them runs on the node's origin.

use serde_json::json;

use crate::{
    chromium::Browser,
    node::{On, TestNode},
    patience::eventually,
    site::Site,
};

/// The host of an address of the node that has nothing but content.
const CONTENT_HOST: &str = "content.test";

/// Media types of documents, as they are spelt by who wants to get past, with whether the browser of this test is known to run them.
const ACTIVE: &[(&str, Form, bool)] = &[
    ("text/html", Form::Html, true),
    ("text/html; charset=utf-8", Form::Html, true),
    ("TEXT/HTML ;a=b", Form::Html, true),
    ("application/xhtml+xml", Form::Xml, true),
    ("image/svg+xml", Form::Svg, true),
    ("Image/SVG+XML", Form::Svg, true),
    ("text/xml", Form::Xml, true),
    ("application/xml", Form::Xml, true),
    ("text/xsl", Form::Xml, true),
    ("application/atom+xml", Form::Xml, false),
    ("application/mathml+xml", Form::Xml, false),
    ("application/vnd.wap.xhtml+xml", Form::Xml, false),
    ("multipart/x-mixed-replace; boundary=b", Form::Replacing, false),
    ("multipart/related; boundary=b", Form::Mail, false),
    ("message/rfc822", Form::Mail, false),
    ("application/x-mimearchive", Form::Mail, false),
    ("application/octet-stream", Form::Html, false),
    ("unknown/unknown", Form::Html, false),
    ("text/plain", Form::Html, false),
    ("application/json", Form::Html, false),
    ("application/pdf", Form::Html, false),
    ("image/png", Form::Html, false),
    ("video/mp4", Form::Html, false),
    ("text/javascript", Form::Html, false),
];

/// How a document is written.
#[derive(Clone, Copy)]
enum Form {
    Html,
    Xml,
    Svg,
    Replacing,
    Mail,
}

impl Form {
    /// A document of this form whose script, should it run, asks for `told`.
    fn document(self, told: &str) -> String {
        let script = format!("<script>new Image().src = \"{told}\"</script>");
        let html = format!("<!doctype html><html><body>shown{script}</body></html>");
        match self {
            Self::Html => html,
            Self::Xml => format!(
                "<html xmlns=\"http://www.w3.org/1999/xhtml\"><head><title>t</title></head><body>shown{script}</body></html>"
            ),
            Self::Svg => format!("<svg xmlns=\"http://www.w3.org/2000/svg\"><text>shown</text>{script}</svg>"),
            Self::Replacing => {
                let part = format!("--b\r\nContent-Type: text/html\r\n\r\n{html}\r\n");
                format!("{part}{part}--b--\r\n")
            }
            Self::Mail => format!(
                "From: <a>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related; type=\"text/html\"; boundary=\"b\"\r\n\r\n\
                 --b\r\nContent-Type: text/html\r\nContent-Location: http://a/\r\n\r\n{html}\r\n--b--\r\n"
            ),
        }
    }
}

/// Opens each document at its address of the node, with `host` as the one of the address, and waits until the browser would have run
/// all that it runs.
async fn open_all(browser: &Browser, site: &Site, node: &TestNode, paths: &[String], host: &str) {
    let host = if host.is_empty() { node.address() } else { host };
    for path in paths {
        browser.open(&format!("http://{host}{path}")).await;
    }
    // What was opened before has had its time when this one, opened last, has run.
    let known = site.asked_for("/ran/known").len();
    browser.open(&site.url("/known")).await;
    eventually("the browser runs scripts", async || site.asked_for("/ran/known").len() > known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_script_of_content_runs_on_the_nodes_origin() {
    let site = Site::start().await;
    let mut node = crate::node::Setup::new(On::Sqlite)
        .env("PENSTOCK_DELIVERY__CONTENT_ORIGIN", format!("http://{CONTENT_HOST}"))
        .start()
        .await;
    let rule = format!("--host-resolver-rules=MAP {CONTENT_HOST}:80 {}", node.address());
    let browser = Browser::start(&[&rule]).await;
    let told = site.url("/ran/known");
    site.put("/known", "content-type: text/html\r\n", Form::Html.document(&told));
    // Where nothing forbids it the browser runs them: otherwise this would show nothing.
    let mut paths = Vec::new();
    for (number, (media_type, form, runs)) in ACTIVE.iter().enumerate() {
        let (free, told) = (format!("/free/{number}"), format!("/ran/free/{number}."));
        let fields = format!("content-type: {media_type}\r\nx-content-type-options: nosniff\r\n");
        site.put(&free, fields, form.document(&site.url(&told)));
        if *runs {
            browser.open(&site.url(&free)).await;
            eventually(media_type, async || !site.asked_for(&told).is_empty()).await;
        }
        let document = form.document(&site.url(&format!("/ran/content/{number}.")));
        let hash = node.put(document.as_bytes(), media_type).await;
        let version = node.publish(&hash, "page").await;
        let receipt = node.receipt(&version, json!({ "quotaTier": "unlimited" })).await;
        paths.push(format!("/v1/streaming/data/{hash}?receiptId={receipt}"));
    }
    open_all(&browser, &site, &node, &paths, "").await;
    assert_eq!(site.asked_for("/ran/content/"), Vec::<String>::new(), "a script has run on the node's origin");
    for (path, (media_type, _, runs)) in paths.iter().zip(ACTIVE) {
        let answer = node.get(path).send().await.unwrap();
        let headers = answer.headers();
        assert!(headers["content-security-policy"].to_str().unwrap().starts_with("sandbox"), "{media_type}");
        assert_eq!(headers["cross-origin-resource-policy"], "cross-origin", "{media_type}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{media_type}");
        let disposition = headers["content-disposition"].to_str().unwrap();
        assert!(disposition.ends_with("; filename=\"page\""), "{media_type}: {disposition}");
        assert!(!runs || disposition.starts_with("attachment"), "{media_type}: {disposition}");
    }
    // At the address that has nothing but content they are shown, and run as little.
    open_all(&browser, &site, &node, &paths, CONTENT_HOST).await;
    assert_eq!(site.asked_for("/ran/content/"), Vec::<String>::new(), "a script has run on the content's origin");
    browser.open(&format!("http://{CONTENT_HOST}{}", paths[0])).await;
    let seen = browser.find("return [document.body.innerText, self.origin]").await;
    assert_eq!(seen, json!(["shown", "null"]));
    browser.close().await;
    node.finish().await;
}
