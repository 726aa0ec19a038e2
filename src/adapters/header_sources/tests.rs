//! Servers that answer well, wrongly, or not at all.

use std::time::Duration;

use penstock_actors::{
    model::{HEADER_BYTES, RawHeader},
    ports::HeaderSource,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{ServerSettings, block_headers_service::BlockHeadersService, chaintracks::Chaintracks};
use crate::adapters::bsv::miner::PrivateChain;

/// Status and body of an answer; `None`: there is none.
type Answer = Option<(u16, Vec<u8>)>;

/// Makes an answer to a path with its query.
type Answers = fn(&str) -> Answer;

/// A server that answers a request for its path and query with this status and body; `None`: not at all.
async fn server(answer: impl Fn(&str) -> Answer + Send + 'static) -> ServerSettings {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.is_ok_and(|read| read > 0) {}
            let head = String::from_utf8_lossy(&head);
            let Some((status, body)) = answer(head.split(' ').nth(1).unwrap_or_default()) else {
                unanswered.push(socket);
                continue;
            };
            let head = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = socket.write_all(&[head.into_bytes(), body].concat()).await;
        }
    });
    ServerSettings {
        url: format!("http://{address}/prefix").parse().expect("a URL"),
        token: "secret".to_owned(),
        timeout: Duration::from_secs(2),
    }
}

fn headers(count: usize) -> Vec<RawHeader> {
    let mut chain = PrivateChain::new();
    for _ in 1..count {
        chain.mine(&[], &[0x51], 0);
    }
    chain.headers_from(0).iter().map(|header| header.raw).collect()
}

fn bytes(headers: &[RawHeader]) -> Vec<u8> {
    headers.iter().flat_map(|header| header.0).collect()
}

#[tokio::test]
async fn chaintracks_has_its_tip_plain_or_in_an_envelope_and_headers_as_bytes() {
    let known = headers(6);
    for tip in [r#"{"height":5,"hash":"00"}"#, r#"{"status":"success","value":{"height":5,"hash":"00"}}"#] {
        let body = bytes(&known[2..5]);
        let settings = server(move |path| match path {
            "/prefix/v2/tip" => Some((200, tip.into())),
            "/prefix/v2/headers.bin?height=2&count=3" => Some((200, body.clone())),
            _ => Some((404, Vec::new())),
        });
        let source = Chaintracks::new(settings.await).expect("a client");
        assert_eq!(source.tip().await.expect("a tip"), 5);
        assert_eq!(source.headers(2, 3).await.expect("headers"), known[2..5]);
        assert!(source.headers(6, 3).await.expect("nothing is there").is_empty());
    }
}

#[tokio::test]
async fn block_headers_service_has_the_fields_of_headers_of_all_branches() {
    let known = headers(4);
    let json = |raw: &RawHeader, hash: String| {
        serde_json::json!({
            "hash": hash,
            "version": u32::from_le_bytes(raw.0[..4].try_into().expect("4 bytes")),
            "prevBlockHash": raw.previous().to_string(),
            "merkleRoot": raw.merkle_root().to_string(),
            "creationTimestamp": raw.time(),
            "difficultyTarget": raw.bits(),
            "nonce": u32::from_le_bytes(raw.0[76..].try_into().expect("4 bytes")),
            "work": "2"
        })
    };
    let hash = |index: usize| known.get(index + 1).map_or_else(|| "cd".repeat(32), |next| next.previous().to_string());
    let mut fields: Vec<_> = known[1..].iter().enumerate().map(|(at, raw)| json(raw, hash(at + 1))).collect();
    fields.insert(1, json(&known[1], "ab".repeat(32)));
    let body = serde_json::to_vec(&fields).expect("JSON");
    let settings = server(move |path| match path {
        "/prefix/api/v1/chain/tip/longest" => {
            Some((200, br#"{"height":3,"state":"LONGEST_CHAIN","header":{}}"#.into()))
        }
        "/prefix/api/v1/chain/header/byHeight?height=1&count=10" => Some((200, body.clone())),
        _ => None,
    });
    let source = BlockHeadersService::new(settings.await).expect("a client");
    assert_eq!(source.tip().await.expect("a tip"), 3);
    assert_eq!(source.headers(1, 10).await.expect("headers"), known[1..]);
}

/// Both kinds, on a server that answers so.
async fn sources(answer: Answers) -> [Box<dyn HeaderSource>; 2] {
    let settings = server(answer).await;
    let chaintracks = Chaintracks::new(settings.clone()).expect("a client");
    let service = BlockHeadersService::new(settings).expect("a client");
    [Box::new(chaintracks), Box::new(service)]
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error_in_time() {
    let long = |_: &str| Some((200, vec![b' '; 10_000_000]));
    let answers: [Answers; 4] = [|_| None, |_| Some((500, Vec::new())), |_| Some((200, b"half".to_vec())), long];
    for answer in answers {
        for source in sources(answer).await {
            assert!(source.tip().await.is_err(), "{}", source.name());
            assert!(source.headers(0, 10).await.is_err(), "{}", source.name());
        }
    }
    // A header and a half.
    for source in sources(|_| Some((200, vec![1; HEADER_BYTES * 3 / 2]))).await {
        assert!(source.headers(0, 10).await.is_err(), "{}", source.name());
    }
    let nothing = ServerSettings {
        url: "http://127.0.0.1:1".parse().expect("a URL"),
        token: String::new(),
        timeout: Duration::from_secs(2),
    };
    assert!(Chaintracks::new(nothing).expect("a client").tip().await.is_err());
}
