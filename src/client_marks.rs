//! Marks of clients for usage rows: the HMAC of an address under the key of the day.
//!
//! All instances use the key that the database has for the day ([`ClientKeys`]). The day ends by the database's clock. From then on no
//! mark is made until the key of the next day is read, so no key marks two days. Without a key, streams go on and their rows have no mark.
//!
//! A mark is made once for a connection ([`LastMark`]): further streams of it compare an address and a number, and take no lock.

use std::{
    cell::Cell,
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use penstock_actors::{
    model::{ClientMark, household},
    ports::{ClientKeys, DailyKey, PortError, PortResult},
};
use sha2::Sha256;
use tokio::time::Instant;

/// How often the key is read, so that an instance that was suspended, or whose database got another clock, learns of another day.
const POLL: Duration = Duration::from_secs(60);

/// From a failure to the next attempt.
const RETRY: Duration = Duration::from_secs(5);

/// The last mark of a connection. A proxy's connection may have many clients.
#[derive(Debug, Default)]
pub struct LastMark(Cell<Option<(u64, IpAddr, Option<ClientMark>)>>);

/// Makes marks under the present key.
#[derive(Default)]
pub struct ClientMarks {
    /// Grows with each change of the key.
    generation: AtomicU64,
    key: RwLock<Option<Hmac<Sha256>>>,
}

impl ClientMarks {
    /// The mark of a client at this address; `None` while there is no key.
    pub fn mark(&self, connection: Option<&LastMark>, address: IpAddr) -> Option<ClientMark> {
        // Read before the key: a mark is kept as one of an older key rather than of a newer one.
        let generation = self.generation.load(Ordering::Acquire);
        if let Some((of, from, mark)) = connection.and_then(|last| last.0.get())
            && of == generation
            && from == address
        {
            return mark;
        }
        let mark = self.key.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|key| make(key, address));
        if let Some(last) = connection {
            last.0.set(Some((generation, address, mark)));
        }
        mark
    }

    /// Reads the key of the day once, so that the first streams of a node have marks, and goes on in the background.
    pub async fn start(keys: Arc<dyn ClientKeys>, io: &tokio::runtime::Handle) -> Arc<Self> {
        let mut follower = Follower { marks: Arc::default(), keys, ends: None, is_silent: false };
        let pause = follower.step().await;
        let marks = Arc::clone(&follower.marks);
        io.spawn(follower.run(pause));
        marks
    }

    fn set(&self, key: Option<&[u8; 32]>) {
        let key = key.and_then(|key| Hmac::new_from_slice(key).ok());
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = key;
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// The mark of an address under a key. All addresses that limits take for one client have one mark.
pub fn mark_under(key: &[u8; 32], address: IpAddr) -> Option<ClientMark> {
    Hmac::<Sha256>::new_from_slice(key).ok().map(|key| make(&key, address))
}

fn make(key: &Hmac<Sha256>, address: IpAddr) -> ClientMark {
    let octets = match household(address) {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let digest = key.clone().chain_update(octets).finalize().into_bytes();
    let mut mark = [0; 8];
    mark.copy_from_slice(&digest[..8]);
    ClientMark::from_bytes(mark)
}

/// Keeps the key that of the present day.
struct Follower {
    marks: Arc<ClientMarks>,
    keys: Arc<dyn ClientKeys>,
    /// The key in use, and the end of its day.
    ends: Option<([u8; 32], Instant)>,
    is_silent: bool,
}

impl Follower {
    async fn run(mut self, mut pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            pause = self.step().await;
        }
    }

    /// Reads the key; returns when to read it again.
    async fn step(&mut self) -> Duration {
        self.drop_if_over();
        let asked = self.ask();
        let read = match self.ends {
            Some((_, ends)) => tokio::time::timeout_at(ends, asked)
                .await
                .unwrap_or_else(|elapsed| Err(PortError::unavailable("the database", elapsed))),
            None => asked.await,
        };
        match read {
            Ok(DailyKey { key, left }) => {
                if std::mem::take(&mut self.is_silent) {
                    tracing::info!("the key that marks clients is read again");
                }
                if self.ends.is_none_or(|(present, _)| present != key) {
                    self.marks.set(Some(&key));
                }
                self.ends = Some((key, Instant::now() + left));
                left.min(POLL)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_silent, true) {
                    tracing::warn!(
                        %error,
                        "the key that marks clients in usage rows cannot be read; from the end of the day on, rows have no mark until it can"
                    );
                }
                self.drop_if_over();
                self.ends.map_or(RETRY, |(_, ends)| ends.saturating_duration_since(Instant::now()).min(RETRY))
            }
        }
    }

    fn ask(&self) -> impl Future<Output = PortResult<DailyKey>> + use<> {
        let keys = Arc::clone(&self.keys);
        async move {
            let mut proposal = [0; 32];
            getrandom::fill(&mut proposal)
                .map_err(|error| PortError::unavailable("the source of randomness", error))?;
            keys.key_of_today(proposal).await
        }
    }

    fn drop_if_over(&mut self) {
        if self.ends.is_some_and(|(_, ends)| Instant::now() >= ends) {
            self.ends = None;
            self.marks.set(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use jiff::civil::Date;

    use super::*;

    /// A database whose days last an hour; each has a key of its own.
    struct Days {
        began: Instant,
        is_away: Mutex<bool>,
    }

    const DAY: Duration = Duration::from_secs(3600);

    #[async_trait]
    impl ClientKeys for Days {
        async fn key_of_today(&self, _: [u8; 32]) -> PortResult<DailyKey> {
            if *self.is_away.lock().expect("a lock") {
                return Err(PortError::unavailable("the database", "away"));
            }
            let past = self.began.elapsed();
            let day = past.as_secs() / DAY.as_secs();
            Ok(DailyKey { key: [day as u8; 32], left: DAY * (day as u32 + 1) - past })
        }

        async fn kept_keys(&self) -> PortResult<Vec<(Date, [u8; 32])>> {
            Ok(Vec::new())
        }
    }

    fn at(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_mark_is_of_a_household_and_of_a_day() {
        let marks = ClientMarks::default();
        assert_eq!(marks.mark(None, at("192.0.2.7")), None, "there is no key yet");
        marks.set(Some(&[1; 32]));
        let mark = |address| marks.mark(None, at(address)).expect("a mark");
        assert_eq!(mark("192.0.2.7"), mark("::ffff:192.0.2.7"));
        assert_ne!(mark("192.0.2.7"), mark("192.0.2.8"));
        assert_eq!(mark("2001:db8:1:2:aaaa::1"), mark("2001:db8:1:2:bbbb::2"));
        assert_ne!(mark("2001:db8:1:2::1"), mark("2001:db8:1:3::1"));
        assert_eq!(Some(mark("192.0.2.7")), mark_under(&[1; 32], at("192.0.2.7")));
        let today = mark("192.0.2.7");
        marks.set(Some(&[2; 32]));
        assert_ne!(marks.mark(None, at("192.0.2.7")), Some(today));
    }

    #[test]
    fn a_connection_keeps_its_mark_for_one_address_and_one_key() {
        let (marks, last) = (ClientMarks::default(), LastMark::default());
        marks.set(Some(&[1; 32]));
        for address in ["192.0.2.7", "192.0.2.7", "192.0.2.8", "192.0.2.7"] {
            assert_eq!(marks.mark(Some(&last), at(address)), mark_under(&[1; 32], at(address)), "{address}");
        }
        marks.set(Some(&[2; 32]));
        assert_eq!(marks.mark(Some(&last), at("192.0.2.7")), mark_under(&[2; 32], at("192.0.2.7")));
        marks.set(None);
        assert_eq!(marks.mark(Some(&last), at("192.0.2.7")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_key_outlives_its_day_also_when_the_database_is_away() {
        let days = Arc::new(Days { began: Instant::now(), is_away: Mutex::new(false) });
        let marks = ClientMarks::start(days.clone(), &tokio::runtime::Handle::current()).await;
        let mark = || marks.mark(None, at("192.0.2.7"));
        let of_day = |day| mark_under(&[day; 32], at("192.0.2.7"));
        assert_eq!(mark(), of_day(0), "from the start on");
        tokio::time::sleep(DAY + RETRY).await;
        assert_eq!(mark(), of_day(1));
        *days.is_away.lock().expect("a lock") = true;
        tokio::time::sleep(DAY - 2 * RETRY).await;
        assert_eq!(mark(), of_day(1), "the day is not over");
        tokio::time::sleep(2 * RETRY).await;
        assert_eq!(mark(), None);
        *days.is_away.lock().expect("a lock") = false;
        tokio::time::sleep(2 * RETRY).await;
        assert_eq!(mark(), of_day(2));
    }
}
