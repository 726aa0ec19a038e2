//! The promises of every [`RateLimits`].
//!
//! A store with a clock of its own cannot be moved, only waited for, and its position in its windows is unknown. So the suite
//! relies on no moment except those that a [`RateGrant`] reports: the model is [`RateWindow`] at the moment of the grant.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::join_all;

use crate::{
    ids::KeyId,
    model::{
        Client, Subject,
        rate_window::{CountRequest, RateWindow, WindowTime},
    },
    ports::{RateGrant, RateLimits},
};

/// Runs the whole suite against a back end with windows of this length: some seconds, so that a few calls fit into the
/// rest of one. `advance` lets time pass: it moves the clock that the back end was given, or waits.
///
/// # Panics
/// When a promise is broken.
pub async fn run(limits: Arc<dyn RateLimits>, window: Duration, advance: impl AsyncFn(Duration)) {
    let limits = Back { limits, window, advance: &advance };
    limits.a_subject_is_let_in_up_to_its_limit_and_no_further().await;
    limits.subjects_are_counted_by_themselves().await;
    limits.a_refusal_counts_nothing().await;
    limits.what_is_needed_comes_first_and_a_part_of_the_rest_is_spare().await;
    limits.a_limit_may_change_from_call_to_call().await;
    limits.calls_at_once_never_pass_the_limit_together().await;
    limits.there_is_room_again_when_it_was_said().await;
    limits.the_past_is_forgotten_after_two_windows().await;
    limits.it_counts_as_the_arithmetic_says().await;
}

struct Back<'a, A> {
    limits: Arc<dyn RateLimits>,
    window: Duration,
    advance: &'a A,
}

/// A subject without requests so far.
fn fresh() -> Subject {
    Subject { class: "streaming", client: Client::Key(KeyId::next()) }
}

impl<A: AsyncFn(Duration)> Back<'_, A> {
    async fn take(&self, subject: &Subject, ask: CountRequest) -> RateGrant {
        self.limits.take(subject, ask).await.expect("an answer")
    }

    async fn one(&self, subject: &Subject, limit: u32) -> RateGrant {
        self.take(subject, CountRequest::one(limit)).await
    }

    /// Lets time pass until a window has just begun, so that calls that follow at once are all in it.
    async fn at_the_start_of_a_window(&self) {
        let left = self.one(&fresh(), 1).await.valid_for;
        (self.advance)(left + Duration::from_millis(1)).await;
    }

    async fn a_subject_is_let_in_up_to_its_limit_and_no_further(&self) {
        self.at_the_start_of_a_window().await;
        let subject = fresh();
        for remaining in [2, 1, 0] {
            let grant = self.one(&subject, 3).await;
            assert_eq!((grant.granted, grant.remaining), (1, remaining));
            assert!(grant.valid_for <= self.window && grant.more_after >= grant.valid_for, "{grant:?}");
        }
        let refused = self.one(&subject, 3).await;
        assert_eq!((refused.granted, refused.remaining), (0, 0));
        assert_eq!(self.one(&fresh(), 0).await.granted, 0, "a limit of 0 grants nothing");
    }

    async fn subjects_are_counted_by_themselves(&self) {
        self.at_the_start_of_a_window().await;
        let address = |text: &str| Client::at(text.parse::<IpAddr>().expect("an address"));
        // Another run against the same store may have left counts of fixed addresses.
        let key = KeyId::next();
        let of_key = |class| Subject { class, client: Client::Key(key) };
        for subject in [of_key("streaming"), of_key("admin"), fresh()] {
            assert_eq!(self.one(&subject, 1).await.granted, 1, "{subject}");
            assert_eq!(self.one(&subject, 1).await.granted, 0, "{subject}");
        }
        let clients = [Client::Key(key), address("192.0.2.1"), address("2001:db8::1"), address("::")];
        let spellings: HashSet<_> = clients.map(|client| Subject { class: "admin", client }.to_string()).into();
        assert_eq!(spellings.len(), clients.len());
    }

    async fn a_refusal_counts_nothing(&self) {
        self.at_the_start_of_a_window().await;
        let subject = fresh();
        assert_eq!(self.take(&subject, CountRequest { limit: 4, need: 4, spare_parts: 0 }).await.granted, 4);
        for _ in 0..50 {
            assert_eq!(self.one(&subject, 4).await.granted, 0);
        }
        // A window later all of the four still count, and none of the fifty: half a window more, and two are gone.
        (self.advance)(self.window + self.window / 2).await;
        let grant = self.take(&subject, CountRequest { limit: 4, need: 4, spare_parts: 0 }).await;
        assert!(grant.granted >= 2, "{grant:?}");
    }

    async fn what_is_needed_comes_first_and_a_part_of_the_rest_is_spare(&self) {
        self.at_the_start_of_a_window().await;
        let subject = fresh();
        let grant = self.take(&subject, CountRequest { limit: 100, need: 20, spare_parts: 4 }).await;
        assert_eq!((grant.granted, grant.remaining), (40, 60));
        let grant = self.take(&subject, CountRequest { limit: 100, need: 58, spare_parts: 4 }).await;
        assert_eq!((grant.granted, grant.remaining), (58, 2));
        let grant = self.take(&subject, CountRequest { limit: 100, need: 5, spare_parts: 4 }).await;
        assert_eq!((grant.granted, grant.remaining), (2, 0));
    }

    async fn a_limit_may_change_from_call_to_call(&self) {
        self.at_the_start_of_a_window().await;
        let subject = fresh();
        assert_eq!(self.take(&subject, CountRequest { limit: 10, need: 5, spare_parts: 0 }).await.granted, 5);
        assert_eq!(self.one(&subject, 3).await.granted, 0);
        assert_eq!(self.take(&subject, CountRequest { limit: 7, need: 5, spare_parts: 0 }).await.granted, 2);
        let large = self.take(&subject, CountRequest { limit: u32::MAX, need: 1_000_000_000, spare_parts: 0 }).await;
        assert_eq!((large.granted, large.remaining), (1_000_000_000, u32::MAX - 1_000_000_007));
    }

    async fn calls_at_once_never_pass_the_limit_together(&self) {
        self.at_the_start_of_a_window().await;
        let (subject, granted) = (fresh(), AtomicU32::new(0));
        let asks = (0..200_u32).map(async |turn| {
            let ask = CountRequest { limit: 100, need: 1 + turn % 3, spare_parts: turn % 5 };
            granted.fetch_add(self.take(&subject, ask).await.granted, Relaxed);
        });
        join_all(asks).await;
        assert_eq!(granted.into_inner(), 100);
    }

    async fn there_is_room_again_when_it_was_said(&self) {
        self.at_the_start_of_a_window().await;
        let subject = fresh();
        assert_eq!(self.take(&subject, CountRequest { limit: 5, need: 5, spare_parts: 0 }).await.granted, 5);
        let refused = self.one(&subject, 5).await;
        assert_eq!(refused.granted, 0);
        assert!(refused.more_after >= refused.valid_for, "no room comes back within the window of a first burst");
        (self.advance)(refused.more_after).await;
        assert!(self.one(&subject, 5).await.granted > 0);
    }

    async fn the_past_is_forgotten_after_two_windows(&self) {
        let subject = fresh();
        let taken = self.take(&subject, CountRequest { limit: 9, need: 9, spare_parts: 0 }).await.granted;
        assert_eq!(taken, 9);
        (self.advance)(self.window * 2).await;
        let grant = self.take(&subject, CountRequest { limit: 9, need: 9, spare_parts: 0 }).await;
        assert_eq!((grant.granted, grant.remaining), (9, 0));
    }

    /// Compares it with the model at all kinds of moments: late in a window, across one boundary, across several.
    async fn it_counts_as_the_arithmetic_says(&self) {
        self.at_the_start_of_a_window().await;
        let (subject, limit) = (fresh(), 12);
        let millis = |time: Duration| time.as_millis() as u64;
        let window = millis(self.window);
        let (mut counts, mut last_left) = (RateWindow::default(), window);
        // In parts of the window: the time that passes between the calls, never a whole window at once, so that the end
        // of a window shows in the time that is left.
        for (turn, eighths) in [1_u32, 3, 2, 3, 1, 5, 4, 5, 2, 5].into_iter().enumerate() {
            (self.advance)(self.window * eighths / 8).await;
            let ask = CountRequest { limit, need: 2 + turn as u32 % 4, spare_parts: turn as u32 % 3 };
            let grant = self.take(&subject, ask).await;
            let at = WindowTime { elapsed: window - millis(grant.valid_for), window };
            if millis(grant.valid_for) > last_left {
                counts = counts.next();
            }
            last_left = millis(grant.valid_for);
            let granted = counts.take(ask, at);
            assert_eq!(grant, RateGrant::of(granted, counts, limit, at), "in turn {turn}");
        }
    }
}
