//! INFO keyspace: a line per database that has keys.

use super::View;
use crate::base::random::Random;
use crate::engine::keyspace::SHARDS;
use std::fmt::Write;

/// Keys looked at per shard for the average time to live.
const TTL_SAMPLES: usize = 4;

pub fn write(view: &View<'_>, text: &mut String) {
    for table in &view.memory().tables {
        let ttl = if table.volatile > 0 { average_ttl_ms(view, table.db) } else { 0 };
        // Writing into a String cannot fail.
        let _ =
            write!(text, "db{}:keys={},expires={},avg_ttl={ttl},subexpiry=0\r\n", table.db, table.keys, table.volatile);
    }
}

/// Estimated from a few keys of each shard.
fn average_ttl_ms(view: &View<'_>, db: usize) -> i64 {
    let mut random = Random::from_entropy();
    let now_ms = view.now_us / 1000;
    let (mut sum, mut count) = (0i64, 0i64);
    for part in (0..SHARDS).flat_map(|shard| view.locked.shard(shard).parts(db)) {
        part.sample(&mut random, TTL_SAMPLES, true, |record| {
            if let Some(at) = record.expiry() {
                sum = sum.saturating_add((at - now_ms).max(0));
                count += 1;
            }
        });
    }
    if count == 0 { 0 } else { sum / count }
}
