//! What can only be seen on a connection.

use std::{net::SocketAddr, sync::Arc};

use actix_web::HttpServer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::node::Node;

/// Starts a server on a free port; it ends with the test's runtime.
fn listen(node: &Arc<Node>) -> SocketAddr {
    let node = Arc::clone(node);
    let server =
        HttpServer::new(move || node.app()).workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a free port");
    let address = server.addrs()[0];
    actix_web::rt::spawn(server.run());
    address
}

/// Sends a request's text and takes all that comes until the server closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    connection.write_all(request.as_bytes()).await.expect("the request goes out");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("the answer is a text");
    answer
}

#[actix_web::test]
async fn head_answers_like_get_without_the_body() {
    let node = Arc::new(Node::new().await);
    let address = listen(&node);
    let ask = |method| {
        let request =
            format!("{method} /health/live HTTP/1.1\r\nhost: node\r\nx-request-id: 1\r\nconnection: close\r\n\r\n");
        async move { exchange(address, &request).await }
    };
    let (get, head) = (ask("GET").await, ask("HEAD").await);
    let (get_head, body) = get.split_once("\r\n\r\n").expect("a head and a body");
    assert_eq!(body, r#"{"status":"ok"}"#);
    let (head_head, nothing) = head.split_once("\r\n\r\n").expect("a head");
    assert_eq!(nothing, "");
    let fields = |text: &str| {
        let mut fields: Vec<_> = text.lines().filter(|line| !line.starts_with("date:")).map(str::to_owned).collect();
        fields.sort();
        fields
    };
    assert_eq!(fields(head_head), fields(get_head));
    let text = node.metrics.render().expect("a text");
    for method in ["GET", "HEAD"] {
        let ended = format!(r#"method="{method}",outcome="completed",route="/health/live",status="2xx"}} 1"#);
        assert!(text.contains(&ended), "{text}");
    }
}

#[actix_web::test]
async fn an_upload_without_a_key_is_answered_although_its_body_never_comes() {
    let node = Arc::new(Node::new().await);
    let address = listen(&node);
    let request = "POST /v1/assets HTTP/1.1\r\nhost: node\r\ncontent-length: 100000\r\nconnection: close\r\n\r\n";
    assert!(exchange(address, request).await.starts_with("HTTP/1.1 401 "));
}
