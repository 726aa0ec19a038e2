//! One stream under one receipt: the request, the checks of its head, and its bytes, each compared with the content.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use hyper::{Response, StatusCode, body::Incoming, header};

use crate::{
    client::{Connection, Target},
    content::Content,
    fault::{Fault, STALL, refusal},
};

/// What to stream.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) content: Arc<Content>,
    pub(crate) receipt_id: String,
    /// A part of the content; all of it without.
    pub(crate) range: Option<Range<u64>>,
}

impl Wanted {
    pub(crate) fn whole(content: Arc<Content>, receipt_id: String) -> Self {
        Self { content, receipt_id, range: None }
    }

    /// Bytes that are asked for.
    pub(crate) fn len(&self) -> u64 {
        let place = self.place();
        place.end - place.start
    }

    fn place(&self) -> Range<u64> {
        self.range.clone().unwrap_or(0..self.content.len())
    }
}

/// A stream whose head has come.
pub(crate) struct Stream {
    body: Incoming,
    content: Arc<Content>,
    began: Instant,
    first_byte: Option<Duration>,
    /// The place in the content of the next byte, and of the one after the last.
    next: u64,
    end: u64,
    received: u64,
}

/// How a stream went.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) received: u64,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) total: Duration,
    pub(crate) fault: Option<Fault>,
}

impl Ended {
    /// No stream has begun.
    pub(crate) fn refused(began: Instant, fault: Fault) -> Self {
        Self { received: 0, first_byte: None, total: began.elapsed(), fault: Some(fault) }
    }
}

impl Stream {
    /// Asks for the content and checks the head of the answer.
    pub(crate) async fn open(target: &Target, connection: &mut Connection, wanted: &Wanted) -> Result<Self, Fault> {
        let path = format!("/v1/streaming/data/{}", wanted.content.hash);
        let mut request = target.request("GET", &path).header("x-receipt-id", &wanted.receipt_id);
        if let Some(range) = &wanted.range {
            request = request.header(header::RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        let request = request.body(Full::default()).map_err(|_| Fault::WrongHead("the request cannot be made"))?;
        let began = Instant::now();
        let response =
            tokio::time::timeout(STALL, connection.send(request)).await.map_err(|_elapsed| Fault::Stalled)??;
        if response.status().is_client_error() || response.status().is_server_error() {
            return Err(refusal(response).await);
        }
        check_head(&response, wanted)?;
        let place = wanted.place();
        Ok(Self {
            body: response.into_body(),
            content: wanted.content.clone(),
            began,
            first_byte: None,
            next: place.start,
            end: place.end,
            received: 0,
        })
    }

    /// Reads what comes next; false at the end.
    pub(crate) async fn read(&mut self) -> Result<bool, Fault> {
        let frame = tokio::time::timeout(STALL, self.body.frame()).await.map_err(|_elapsed| Fault::Stalled)?;
        let Some(frame) = frame else {
            return if self.next == self.end { Ok(false) } else { Err(Fault::WrongLength) };
        };
        // Trailers are allowed, and of no interest.
        let Ok(bytes) = frame.map_err(|error| Fault::lost(&error))?.into_data() else { return Ok(true) };
        if !bytes.is_empty() {
            self.first_byte.get_or_insert_with(|| self.began.elapsed());
        }
        self.received += bytes.len() as u64;
        let after = self.next + bytes.len() as u64;
        if after > self.end {
            return Err(Fault::WrongLength);
        }
        if self.content.bytes[place(self.next..after)] != bytes {
            return Err(Fault::WrongBytes);
        }
        self.next = after;
        Ok(true)
    }

    /// Whether bytes have come and others have not.
    pub(crate) fn is_midway(&self) -> bool {
        self.received > 0 && self.next < self.end
    }

    /// Reads to the end.
    pub(crate) async fn finish(mut self) -> Ended {
        loop {
            match self.read().await {
                Ok(true) => {}
                Ok(false) => return self.ended(None),
                Err(fault) => return self.ended(Some(fault)),
            }
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn ended(self, fault: Option<Fault>) -> Ended {
        Ended { received: self.received, first_byte: self.first_byte, total: self.began.elapsed(), fault }
    }
}

/// Streams once, from the request to the last byte.
pub(crate) async fn stream(target: &Target, connection: &mut Connection, wanted: &Wanted) -> Ended {
    let began = Instant::now();
    match Stream::open(target, connection, wanted).await {
        Ok(stream) => stream.finish().await,
        Err(fault) => Ended::refused(began, fault),
    }
}

/// A place in a content that lies in memory.
fn place(range: Range<u64>) -> Range<usize> {
    let index = |place: u64| usize::try_from(place).expect("the content is in memory, so its places fit");
    index(range.start)..index(range.end)
}

/// What the head says must be what was asked for, before a byte is believed.
fn check_head(response: &Response<Incoming>, wanted: &Wanted) -> Result<(), Fault> {
    let text = |name| response.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let place = wanted.place();
    let check = |holds: bool, what| if holds { Ok(()) } else { Err(Fault::WrongHead(what)) };
    let status = if wanted.range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    check(response.status() == status, "status")?;
    check(text(header::ETAG) == Some(&format!("\"{}\"", wanted.content.hash)), "etag")?;
    check(text(header::CONTENT_LENGTH) == Some(&(place.end - place.start).to_string()), "content-length")?;
    if wanted.range.is_some() {
        let content_range = format!("bytes {}-{}/{}", place.start, place.end - 1, wanted.content.len());
        check(text(header::CONTENT_RANGE) == Some(&content_range), "content-range")?;
    }
    Ok(())
}
