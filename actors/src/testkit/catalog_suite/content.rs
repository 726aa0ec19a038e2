//! The storage index: content is announced, completed or withdrawn.

use super::*;

pub(super) async fn run<S: ApiKeys + ContentIndex>(store: &S) {
    content_is_there_once_it_is_completed(store).await;
    content_is_completed_once(store).await;
    announcing_stored_content_changes_nothing(store).await;
    a_producer_has_what_it_has_sent(store).await;
    each_producer_says_for_itself_what_a_content_is(store).await;
    content_is_stored_as_it_was_announced_last(store).await;
    an_announcement_is_known_before_it_is_completed(store).await;
    an_announcement_that_is_never_completed_is_withdrawn(store).await;
    a_repeated_announcement_is_young_again(store).await;
    a_withdrawal_takes_no_more_than_its_limit(store).await;
    empty_content_is_content(store).await;
    a_size_that_no_database_can_hold_is_rejected(store).await;
}

async fn content_is_there_once_it_is_completed<S: ApiKeys + ContentIndex>(store: &S) {
    let by = producer(store).await;
    let meta = random_content();
    assert_eq!(store.content(meta.content_hash).await.expect("an answer"), None);
    store.announce_content(&meta, by).await.expect("content is announced");
    assert_eq!(store.content(meta.content_hash).await.expect("an answer"), None);
    assert!(store.complete_content(meta.content_hash).await.expect("an answer"));
    assert_eq!(store.content(meta.content_hash).await.expect("an answer"), Some(meta));
}

async fn content_is_completed_once<S: ApiKeys + ContentIndex>(store: &S) {
    let by = producer(store).await;
    let meta = stored_content(store, by).await;
    assert!(!store.complete_content(meta.content_hash).await.expect("an answer"));
    assert!(!store.complete_content(random_hash()).await.expect("an answer"), "it was not announced");
}

async fn announcing_stored_content_changes_nothing<S: ApiKeys + ContentIndex>(store: &S) {
    let by = producer(store).await;
    let meta = stored_content(store, by).await;
    let other = producer(store).await;
    let again = ContentMeta { media_type: "text/plain".into(), stored_at: meta.stored_at + 1.hour(), ..meta.clone() };
    store.announce_content(&again, other).await.expect("content is announced");
    assert_eq!(store.content(meta.content_hash).await.expect("an answer"), Some(meta));
}

async fn a_producer_has_what_it_has_sent<S: ApiKeys + ContentIndex>(store: &S) {
    let (first, second) = (producer(store).await, producer(store).await);
    let hash = stored_content(store, first).await.content_hash;
    let note = async |by| store.note_upload(hash, by).await.expect("an answer");
    let has = async |by| store.has_uploaded(hash, by).await.expect("an answer");
    assert_eq!((note(first).await, note(first).await), (true, false));
    assert_eq!((has(first).await, has(second).await), (true, false), "the hash alone is no proof");
    assert_eq!((note(second).await, note(second).await), (true, false));
    assert!(has(second).await);
    let unknown = random_hash();
    assert!(!store.note_upload(unknown, first).await.expect("an answer"), "nothing announced it");
    assert!(!store.has_uploaded(unknown, first).await.expect("an answer"));
}

async fn each_producer_says_for_itself_what_a_content_is<S: ApiKeys + ContentIndex>(store: &S) {
    let (first, second, silent) = (producer(store).await, producer(store).await, producer(store).await);
    let meta = ContentMeta { media_type: "text/html".into(), ..random_content() };
    store.announce_content(&meta, first).await.expect("content is announced");
    assert_eq!(store.content_of(meta.content_hash, first).await.expect("an answer"), None, "it is not complete");
    assert!(store.complete_content(meta.content_hash).await.expect("an answer"));
    let said = async |by, media_type: &str| {
        let meta = ContentMeta { media_type: media_type.into(), ..meta.clone() };
        store.announce_content(&meta, by).await.expect("content is announced");
    };
    let is = async |by| {
        let found = store.content_of(meta.content_hash, by).await.expect("an answer").expect("it is stored");
        assert_eq!(ContentMeta { media_type: meta.media_type.clone(), ..found }, meta);
        found.media_type
    };
    said(second, "video/mp4").await;
    said(silent, UNSAID_MEDIA_TYPE).await;
    assert_eq!((&*is(first).await, &*is(second).await), ("text/html", "video/mp4"));
    assert_eq!(is(silent).await, UNSAID_MEDIA_TYPE, "the types that others gave do not apply to it");
    said(first, "text/plain").await;
    said(second, UNSAID_MEDIA_TYPE).await;
    assert_eq!(is(first).await, "text/plain", "a producer may give another type later");
    assert_eq!(is(second).await, "video/mp4", "an upload without a type keeps the earlier one");
}

async fn content_is_stored_as_it_was_announced_last<S: ApiKeys + ContentIndex>(store: &S) {
    let by = producer(store).await;
    let first = random_content();
    let last = ContentMeta { media_type: "video/webm".into(), stored_at: first.stored_at + 1.hour(), ..first.clone() };
    for meta in [&first, &last] {
        store.announce_content(meta, by).await.expect("content is announced");
    }
    assert!(store.complete_content(last.content_hash).await.expect("an answer"));
    assert_eq!(store.content(last.content_hash).await.expect("an answer"), Some(last));
}

async fn an_announcement_is_known_before_it_is_completed<S: ApiKeys + ContentIndex>(store: &S) {
    let by = producer(store).await;
    let stored = stored_content(store, by).await.content_hash;
    let announced = random_content();
    store.announce_content(&announced, by).await.expect("content is announced");
    let (one, two) = (random_hash(), random_hash());
    let mut unknown = store.unknown_content(&[one, stored, two, announced.content_hash]).await.expect("an answer");
    unknown.sort();
    let mut expected = vec![one, two];
    expected.sort();
    assert_eq!(unknown, expected);
    assert_eq!(store.unknown_content(&[]).await.expect("an answer"), []);
}

async fn an_announcement_that_is_never_completed_is_withdrawn<S: ApiKeys + ContentIndex>(store: &S) {
    let by = producer(store).await;
    let mut old = random_content();
    old.stored_at = long_ago();
    let stored = ContentMeta { stored_at: long_ago(), ..random_content() };
    for meta in [&old, &stored] {
        store.announce_content(meta, by).await.expect("content is announced");
    }
    assert!(store.complete_content(stored.content_hash).await.expect("an answer"));
    withdraw_all(store, long_ago()).await;
    assert!(is_known(store, old.content_hash).await, "it is not older than itself");
    withdraw_all(store, long_ago() + 1.second()).await;
    assert!(!is_known(store, old.content_hash).await);
    assert!(!store.complete_content(old.content_hash).await.expect("an answer"));
    assert_eq!(store.content(stored.content_hash).await.expect("an answer"), Some(stored));
}

async fn a_repeated_announcement_is_young_again<S: ApiKeys + ContentIndex>(store: &S) {
    let by = producer(store).await;
    let young = random_content();
    let old = ContentMeta { stored_at: long_ago(), ..young.clone() };
    for meta in [&old, &young, &old] {
        store.announce_content(meta, by).await.expect("content is announced");
    }
    withdraw_all(store, long_ago() + 1.second()).await;
    assert!(is_known(store, young.content_hash).await);
}

async fn a_withdrawal_takes_no_more_than_its_limit<S: ApiKeys + ContentIndex>(store: &S) {
    let by = producer(store).await;
    for _ in 0..3 {
        let old = ContentMeta { stored_at: long_ago(), ..random_content() };
        store.announce_content(&old, by).await.expect("content is announced");
    }
    let withdrawn = store.withdraw_announcements(long_ago() + 1.second(), 2).await.expect("an answer");
    assert!(withdrawn <= 2, "{withdrawn} were withdrawn");
    assert_eq!(store.withdraw_announcements(long_ago() + 1.second(), 0).await.expect("an answer"), 0);
}

async fn empty_content_is_content<S: ApiKeys + ContentIndex>(store: &S) {
    let by = producer(store).await;
    let empty = ContentMeta { size_bytes: 0, ..random_content() };
    store.announce_content(&empty, by).await.expect("content is announced");
    assert!(store.complete_content(empty.content_hash).await.expect("an answer"));
    assert_eq!(store.content(empty.content_hash).await.expect("an answer"), Some(empty));
}

async fn a_size_that_no_database_can_hold_is_rejected<S: ApiKeys + ContentIndex>(store: &S) {
    let by = producer(store).await;
    let huge = ContentMeta { size_bytes: u64::MAX, ..random_content() };
    assert_rejected(&store.announce_content(&huge, by).await);
    assert!(!is_known(store, huge.content_hash).await);
}

/// A time at which only this suite announces.
fn long_ago() -> Timestamp {
    Timestamp::UNIX_EPOCH + (24 * 365).hours()
}

async fn withdraw_all<S: ApiKeys + ContentIndex>(store: &S, before: Timestamp) {
    while store.withdraw_announcements(before, 100).await.expect("an answer") > 0 {}
}

async fn is_known<S: ApiKeys + ContentIndex>(store: &S, hash: ContentHash) -> bool {
    store.unknown_content(&[hash]).await.expect("an answer").is_empty()
}
