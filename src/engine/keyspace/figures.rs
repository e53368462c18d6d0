//! How much each database holds, for INFO keyspace and DBSIZE-like questions.

use super::lock::{Keyspace, SHARDS, ShardSet};

/// One database's figures, added up over the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DbFigures {
    pub keys: usize,
    /// Keys with an expiry.
    pub expires: usize,
    /// Average time to live of those, an estimate of the active expire cycle.
    pub ttl_average_ms: i64,
    /// Hashes with fields that expire.
    pub expiring_hashes: usize,
}

impl Keyspace {
    /// The figures of every database. One shard is locked at a time, so a key on its way between databases may be missed or
    /// seen twice: these are statistics.
    pub fn figures(&'static self) -> Vec<DbFigures> {
        let mut figures = vec![DbFigures::default(); self.databases()];
        let mut ttl_sums = vec![0i128; self.databases()];
        for shard in 0..SHARDS {
            let locked = self.lock(ShardSet::one(shard));
            for (db, part) in locked.shard(shard).dbs().iter().enumerate() {
                figures[db].keys += part.len();
                figures[db].expires += part.volatile_len();
                figures[db].expiring_hashes += part.expiring_hashes();
                ttl_sums[db] += i128::from(part.ttl_average_ms()) * part.volatile_len() as i128;
            }
        }
        for (figures, ttl_sum) in figures.iter_mut().zip(ttl_sums) {
            if figures.expires > 0 {
                figures.ttl_average_ms = (ttl_sum / figures.expires as i128) as i64;
            }
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::keyspace::{Locked, NewExpiry};

    #[test]
    fn adds_up_over_shards_and_databases() {
        let keyspace = Keyspace::leak(4);
        for n in 0..100 {
            let key = format!("k{n}");
            let hash = Locked::hash(key.as_bytes());
            let expiry = if n % 4 == 0 { NewExpiry::At(1_000) } else { NewExpiry::Clear };
            keyspace.lock_all().db_mut(hash, n % 2).set_string(hash, key.as_bytes(), b"v", expiry, 0);
        }
        let figures = keyspace.figures();
        assert_eq!(
            figures.iter().map(|db| (db.keys, db.expires)).collect::<Vec<_>>(),
            [(50, 25), (50, 0), (0, 0), (0, 0)]
        );
    }
}
