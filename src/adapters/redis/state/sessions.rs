//! Sessions in Redis: one hash each. The constant part is one field of 64 bytes, so that the hash keeps its compact
//! encoding; the sums are fields of their own, so that the server adds to them.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ContentHash, ReceiptId, SessionId},
    model::{Session, SessionProgress},
    ports::{PortError, PortResult, SessionStore},
};
use redis::Value;
use uuid::Uuid;

use super::{
    super::{
        link::{Haste, RedisLink, typed},
        script::{Call, Script},
    },
    RedisState,
    own::PendingProgress,
    slots::millis,
};

/// Redis counts in signed numbers.
const LARGEST: u64 = i64::MAX as u64;

/// The fields: the constant part, streams, bytes, position, last activity.
const FIELDS: [&str; 5] = ["s", "n", "b", "p", "a"];

macro_rules! session_script {
    ($code:literal) => {
        concat!(
            "local function put(from)\n",
            "  redis.call('HSET', KEYS[1], 's', ARGV[2], 'n', ARGV[from], 'b', ARGV[from + 1], 'p', ARGV[from + 2], 'a', ARGV[from + 3])\n",
            "end\n",
            "local function add(from)\n",
            "  redis.call('HINCRBY', KEYS[1], 'n', ARGV[from])\n",
            "  redis.call('HINCRBY', KEYS[1], 'b', ARGV[from + 1])\n",
            "  if tonumber(ARGV[from + 2]) > tonumber(redis.call('HGET', KEYS[1], 'p')) then\n",
            "    redis.call('HSET', KEYS[1], 'p', ARGV[from + 2])\n",
            "  end\n",
            "  if ARGV[from + 3] ~= '' then redis.call('HSET', KEYS[1], 'a', ARGV[from + 3]) end\n",
            "end\n",
            "local exists = redis.call('EXISTS', KEYS[1]) == 1\n",
            $code,
            // Keeps the longer time to live, if another instance has set one.
            "\nif redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end\n",
            "return redis.call('HMGET', KEYS[1], 'n', 'b', 'p', 'a')"
        )
    };
}

/// ARGV: time to live, constant part, four sums.
static PUT: Script = Script::new("session_put", session_script!("redis.call('DEL', KEYS[1]) put(3)"));

/// ARGV: time to live, nothing, four sums to add. Returns nothing when there is no such session.
static ADD: Script = Script::new("session_add", session_script!("if not exists then return false end add(3)"));

/// ARGV: time to live, constant part, four sums in total, four sums that the server has not received. A server that
/// knows the session adds the latter; one that does not sets the former.
static RESTORE: Script = Script::new("session_restore", session_script!("if exists then add(7) else put(3) end"));

fn key(link: &RedisLink, id: SessionId) -> String {
    link.key("session", id)
}

fn put(link: &RedisLink, session: &Session, ttl: Duration) -> Call {
    sums(PUT.on(&[&key(link, session.session_id)]).arg(millis(ttl)).arg(&fixed(session)[..]), &session.progress)
}

pub(super) fn add(link: &RedisLink, id: SessionId, progress: &SessionProgress, ttl: Duration) -> Call {
    sums(ADD.on(&[&key(link, id)]).arg(millis(ttl)).arg(""), progress)
}

pub(super) fn restore(link: &RedisLink, session: &Session, unsent: &SessionProgress, ttl: Duration) -> Call {
    let call = RESTORE.on(&[&key(link, session.session_id)]).arg(millis(ttl)).arg(&fixed(session)[..]);
    sums(sums(call, &session.progress), unsent)
}

/// Two calls for one round trip: the fields, and the time to live.
fn get(link: &RedisLink, id: SessionId) -> Vec<Call> {
    let key = key(link, id);
    vec![
        Call::command("session_get", "HMGET").key(&key).arg(&FIELDS[..]),
        Call::command("session_ttl", "PTTL").key(&key),
    ]
}

/// The answers to [`get`].
fn got(id: SessionId, fields: Value, ttl: Value) -> PortResult<Option<(Session, Duration)>> {
    type Fields = (Option<Vec<u8>>, Option<u64>, Option<u64>, Option<u64>, Option<String>);
    let (Some(fixed), streams, bytes, position, active): Fields = typed(fields)? else { return Ok(None) };
    let sums = (streams.unwrap_or(0), bytes.unwrap_or(0), position.unwrap_or(0), active.unwrap_or_default());
    let ttl: i64 = typed(ttl)?;
    let session = read(id, &fixed, progress(sums))
        .ok_or_else(|| PortError::Corrupt(format!("the session {id} in Redis is not in the format of this version")))?;
    Ok(Some((session, Duration::from_millis(u64::try_from(ttl).unwrap_or(0)))))
}

/// The answer of the scripts: the progress of the session, if it exists.
pub(super) fn sum(answer: Value) -> PortResult<Option<SessionProgress>> {
    let sums: Option<Sums> = typed(answer)?;
    Ok(sums.map(progress))
}

/// Streams, bytes, position, and the last activity in microseconds, or nothing.
type Sums = (u64, u64, u64, String);

fn progress((streams, bytes_delivered, position, active): Sums) -> SessionProgress {
    let last_active = active.parse().ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    SessionProgress { streams, bytes_delivered, position, last_active }
}

fn sums(call: Call, progress: &SessionProgress) -> Call {
    let active = progress.last_active.map(|at| at.as_microsecond().to_string()).unwrap_or_default();
    call.arg(progress.streams.min(LARGEST))
        .arg(progress.bytes_delivered.min(LARGEST))
        .arg(progress.position.min(LARGEST))
        .arg(active)
}

/// The constant part: receipt, content, size, time of creation.
fn fixed(session: &Session) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..16].copy_from_slice(session.receipt_id.as_uuid().as_bytes());
    bytes[16..48].copy_from_slice(session.content_hash.as_bytes());
    bytes[48..56].copy_from_slice(&session.size_bytes.to_be_bytes());
    bytes[56..].copy_from_slice(&session.created_at.as_microsecond().to_be_bytes());
    bytes
}

fn read(session_id: SessionId, fixed: &[u8], progress: SessionProgress) -> Option<Session> {
    let fixed: &[u8; 64] = fixed.try_into().ok()?;
    Some(Session {
        session_id,
        receipt_id: ReceiptId::from_uuid(Uuid::from_slice(&fixed[..16]).ok()?),
        content_hash: ContentHash::from_bytes(fixed[16..48].try_into().ok()?),
        size_bytes: u64::from_be_bytes(fixed[48..56].try_into().ok()?),
        created_at: Timestamp::from_microsecond(i64::from_be_bytes(fixed[56..].try_into().ok()?)).ok()?,
        progress,
    })
}

#[async_trait]
impl SessionStore for RedisState {
    async fn put_session(&self, session: &Session, ttl: Duration) -> PortResult<()> {
        let now = self.clock.monotonic();
        self.own().sessions.put(session.clone(), now + ttl);
        match self.ask(put(&self.link, session, ttl), Haste::Now).await {
            Err(failure) if failure.is_unavailability() => {
                self.own().owe(session.session_id, SessionProgress::default(), ttl);
                Ok(())
            }
            answer => Ok(answer.map(drop)?),
        }
    }

    async fn session(&self, id: SessionId) -> PortResult<Option<Session>> {
        let now = self.clock.monotonic();
        let mut answers = self.link.try_all(get(&self.link, id), Haste::Now).await.into_iter();
        let found = match (answers.next(), answers.next()) {
            (Some(Ok(fields)), Some(Ok(ttl))) => got(id, fields, ttl)?,
            (Some(Err(failure)), _) | (_, Some(Err(failure))) if !failure.is_unavailability() => {
                return Err(failure.into());
            }
            _ => return Ok(self.own().sessions.get(id, now).cloned()),
        };
        if let Some((session, ttl)) = found {
            self.own().sessions.put(session.clone(), now + ttl);
            return Ok(Some(session));
        }
        let Some(lost) = self.own().sessions.get(id, now).cloned() else { return Ok(None) };
        // Redis keeps used sessions for at least as long as this instance does, so it has lost this one.
        self.restore(vec![(id, PendingProgress::default())], Haste::Now).await;
        Ok(Some(lost))
    }

    async fn add_progress(
        &self,
        id: SessionId,
        bytes: u64,
        position: u64,
        at: Timestamp,
        ttl: Duration,
    ) -> PortResult<Option<SessionProgress>> {
        let now = self.clock.monotonic();
        let mut added = SessionProgress::default();
        added.add(bytes, position, at);
        let here = self.own().sessions.renew(id, now, now + ttl).map(|session| {
            session.progress.add(bytes, position, at);
            session.progress
        });
        match self.ask(add(&self.link, id, &added, ttl), Haste::Later).await {
            Ok(answer) => match sum(answer)? {
                Some(sum) => {
                    self.own().note_progress(id, sum, now);
                    Ok(Some(sum))
                }
                // Redis has lost the session; the copy here includes this stream.
                None => {
                    if here.is_some() {
                        self.restore(vec![(id, PendingProgress::default())], Haste::Now).await;
                    }
                    Ok(here)
                }
            },
            Err(failure) if failure.is_unavailability() => {
                if failure.is_unsent() {
                    self.own().owe(id, added, ttl);
                }
                // Of a session that began on another instance, this instance knows only the progress that is added
                // here.
                Ok(Some(here.unwrap_or(added)))
            }
            Err(failure) => Err(failure.into()),
        }
    }
}
