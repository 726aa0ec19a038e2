//! Invalidations over pub/sub: a hint that makes changes visible sooner. An instance that misses a message reads the
//! change from the change log.
//!
//! A message holds its sender, which has already told its own listeners, and one tag per line. A lost subscription is
//! made again with growing pauses; a silent one is pinged, because a dead connection is silent too.

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::StreamExt as _;
use penstock_actors::ports::{InvalidationBus, Invalidations, PortResult, Tag};
use redis::{Client, RedisResult};
use tokio::{sync::broadcast, time::timeout};
use uuid::Uuid;

use super::{
    super::{
        link::{Haste, RedisLink, WeakLink},
        script::Call,
    },
    RedisState, STEP,
};

/// Tags in one message: about 45 KB.
const MESSAGE: usize = 1024;

/// How long a subscription may be silent before it is pinged.
const SILENCE: Duration = Duration::from_secs(5);

const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

fn channel(link: &RedisLink) -> String {
    format!("{}tags", link.prefix())
}

/// The calls that tell the other instances. All go to one server, so they arrive in order.
fn publish(link: &RedisLink, sender: Uuid, tags: &[Tag]) -> Vec<Call> {
    let channel = channel(link);
    let messages = tags.chunks(MESSAGE).map(|tags| message(sender, tags));
    messages.map(|message| Call::command("tags_publish", "PUBLISH").key(&channel).arg(message)).collect()
}

fn message(sender: Uuid, tags: &[Tag]) -> String {
    let mut text = sender.simple().to_string();
    for tag in tags {
        text.push('\n');
        text.push_str(&tag.to_string());
    }
    text
}

/// The tags of another instance's message. Unknown tags are skipped: nothing in this version depends on them.
fn read(message: &[u8], me: Uuid) -> Vec<Tag> {
    let Ok(text) = std::str::from_utf8(message) else { return Vec::new() };
    let mut lines = text.split('\n');
    let sender = lines.next().and_then(|sender| Uuid::try_parse(sender).ok());
    if sender.is_none_or(|sender| sender == me) {
        return Vec::new();
    }
    lines.filter_map(|tag| Tag::from_str(tag).ok()).collect()
}

/// Passes on the tags of other instances, for as long as the link exists.
pub(super) async fn follow(link: WeakLink, me: Uuid, tags: broadcast::Sender<Tag>) {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(SHORTEST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times();
    let mut waits = pauses.build();
    let mut logged = false;
    loop {
        let Some(link) = link.upgrade() else { return };
        let (server, channel, patience) = (link.a_server(), channel(&link), link.connect_timeout());
        drop(link);
        let began = Instant::now();
        if let Some(server) = server
            && let Err(error) = listen(server, &channel, patience, me, &tags).await
            && !std::mem::replace(&mut logged, true)
        {
            tracing::warn!(%error, "the subscription to invalidations on Redis failed; this instance reads changes from the change log until it is back");
        }
        if began.elapsed() > LONGEST_PAUSE {
            // The subscription had worked for a while.
            (waits, logged) = (pauses.build(), false);
        }
        tokio::time::sleep(waits.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

/// Returns when the subscription has ended.
async fn listen(
    server: Client,
    channel: &str,
    patience: Duration,
    me: Uuid,
    tags: &broadcast::Sender<Tag>,
) -> RedisResult<()> {
    let subscribing = async {
        let mut subscription = server.get_async_pubsub().await?;
        subscription.subscribe(channel).await?;
        Ok::<_, redis::RedisError>(subscription)
    };
    let subscription = within(patience, subscribing).await?;
    tracing::debug!(channel, "subscribed");
    let (mut sink, mut messages) = subscription.split();
    loop {
        match timeout(SILENCE, messages.next()).await {
            Ok(Some(message)) => {
                for tag in read(message.get_payload_bytes(), me) {
                    // Fails only when there is no listener.
                    let _ = tags.send(tag);
                }
            }
            Ok(None) => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
            Err(_) => within(patience, sink.ping::<redis::Value>()).await.map(drop)?,
        }
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(patience, work).await.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}

#[async_trait]
impl InvalidationBus for RedisState {
    async fn invalidate(&self, tags: &[Tag]) -> PortResult<()> {
        for tag in tags {
            // Fails only when there is no listener here.
            let _ = self.tags.send(tag.clone());
        }
        for step in tags.chunks(STEP * MESSAGE) {
            let answers = self.link.try_all(publish(&self.link, self.me, step), Haste::Now).await;
            answers.into_iter().try_for_each(|answer| answer.map(drop))?;
        }
        Ok(())
    }

    fn invalidations(&self) -> Invalidations {
        self.tags.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_actors::ids::{ReceiptId, VersionId};

    #[test]
    fn what_is_written_is_read_by_others_and_passed_over_by_its_sender() {
        let (me, other) = (Uuid::new_v4(), Uuid::new_v4());
        let tags =
            [Tag::Receipt(ReceiptId::random()), Tag::QuotaPolicy("gold:x".into()), Tag::Asset(VersionId::next())];
        let message = message(me, &tags);
        assert_eq!(read(message.as_bytes(), other), tags);
        assert_eq!(read(message.as_bytes(), me), []);
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        let me = Uuid::new_v4();
        let of_a_later_version = format!("{}\nweather:sunny\npolicy:gold", Uuid::new_v4().simple());
        assert_eq!(read(of_a_later_version.as_bytes(), me), [Tag::QuotaPolicy("gold".into())]);
        for message in [&b""[..], b"nobody\npolicy:gold", b"\xff\n"] {
            assert_eq!(read(message, me), []);
        }
    }
}
