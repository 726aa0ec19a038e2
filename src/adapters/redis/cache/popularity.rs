//! The most used things, by the hour: a sorted set for each hour, which expires with the next hour. So counts need no
//! ageing, and yesterday's popular things are forgotten.

use std::collections::HashMap;

use jiff::Timestamp;
use penstock_actors::ports::{PopularityList, PortResult};

use super::{
    super::{
        RedisLink,
        script::{Call, Script},
    },
    typed,
};

/// Things remembered for an hour: many more than are ever warmed, so that new ones have room to rise.
const USED: usize = 4096;

/// Things in one call.
const PART: usize = 256;

const HOUR: i64 = 3600;

static ADD_USES: Script = Script::new(
    "cache_add_uses",
    "for i = 3, #ARGV, 2 do redis.call('ZINCRBY', KEYS[1], ARGV[i + 1], ARGV[i]) end
     redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[1])
     redis.call('EXPIRE', KEYS[1], ARGV[2])",
);

fn key(link: &RedisLink, list: PopularityList, hour: i64) -> String {
    link.key(&format!("u:{}", list.as_str()), hour)
}

pub(super) async fn add(
    link: &RedisLink,
    list: PopularityList,
    uses: &[(String, u64)],
    now: Timestamp,
) -> PortResult<()> {
    let key = key(link, list, now.as_second() / HOUR);
    for part in uses.chunks(PART) {
        let call = ADD_USES.on(&[&key]).arg(USED).arg(2 * HOUR);
        link.ask::<()>(part.iter().fold(call, |call, (name, count)| call.arg(name).arg(count))).await?;
    }
    Ok(())
}

/// The previous hour counts half, so that the first minutes of an hour do not start from nothing.
pub(super) async fn most(
    link: &RedisLink,
    list: PopularityList,
    limit: usize,
    now: Timestamp,
) -> PortResult<Vec<String>> {
    let hour = now.as_second() / HOUR;
    let range = |hour: i64| {
        let range = Call::command("cache_most_used", "ZREVRANGE").key(&key(link, list, hour));
        range.arg(0).arg(limit.saturating_sub(1)).arg("WITHSCORES")
    };
    let mut scores = HashMap::<String, f64>::new();
    if limit == 0 {
        return Ok(Vec::new());
    }
    for (answer, weight) in link.ask_all(vec![range(hour), range(hour - 1)]).await.into_iter().zip([1.0, 0.5]) {
        for (name, score) in typed::<Vec<(String, f64)>>(answer?)? {
            *scores.entry(name).or_default() += score * weight;
        }
    }
    let mut scores: Vec<_> = scores.into_iter().collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(scores.into_iter().take(limit).map(|(name, _)| name).collect())
}
