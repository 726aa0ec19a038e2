//! A site of somebody else's: pages at an origin that is not the node's, and what was asked for there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A page: its own header fields, each with its line end, and its bytes.
pub(crate) type Page = (String, Vec<u8>);

/// A running site.
pub(crate) struct Site {
    base: String,
    pages: Arc<Mutex<HashMap<String, Page>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let site = Self { base, pages: Arc::default(), asked: Arc::default() };
        let (pages, asked) = (Arc::clone(&site.pages), Arc::clone(&site.asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&pages), Arc::clone(&asked)));
            }
        });
        site
    }

    pub(crate) fn put(&self, path: &str, fields: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.pages.lock().unwrap().insert(path.to_owned(), (fields.into(), bytes.into()));
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Paths with this beginning that were asked for.
    pub(crate) fn asked_for(&self, beginning: &str) -> Vec<String> {
        self.asked.lock().unwrap().iter().filter(|path| path.starts_with(beginning)).cloned().collect()
    }
}

/// One request for each connection.
async fn answer(mut stream: TcpStream, pages: Arc<Mutex<HashMap<String, Page>>>, asked: Arc<Mutex<Vec<String>>>) {
    let (mut head, mut part) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part).await {
            Ok(read @ 1..) => head.extend_from_slice(&part[..read]),
            Ok(0) | Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let page = pages.lock().unwrap().get(&path).cloned();
    asked.lock().unwrap().push(path);
    let (status, (fields, bytes)) = page.map_or(("404 Not Found", Page::default()), |page| ("200 OK", page));
    let head = format!("HTTP/1.1 {status}\r\n{fields}content-length: {}\r\nconnection: close\r\n\r\n", bytes.len());
    let _ = stream.write_all(&[head.as_bytes(), &bytes].concat()).await;
    let _ = stream.shutdown().await;
}
