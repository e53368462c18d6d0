//! Latencies of one command in buckets of 1/16 of their size: two instructions to find the bucket, 6 % at most of error.
//!
//! ```text
//!   ns      0…15     16…31     32…63 (by 2)    64…127 (by 4)   …
//!   bucket  0…15     16…31     32…47           48…63           …
//! ```

use crate::base::counter::Counter;

const SUB: usize = 16;
/// Up to 2^36 ns (69 s); longer ones count in the last bucket.
const BUCKETS: usize = SUB * (36 - 4 + 1);

pub struct LatencyHistogram {
    buckets: Box<[Counter]>,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        LatencyHistogram { buckets: (0..BUCKETS).map(|_| Counter::new()).collect() }
    }
}

impl LatencyHistogram {
    #[inline]
    pub fn record(&self, ns: u64) {
        self.buckets[bucket_of(ns)].add(1);
    }

    pub fn reset(&self) {
        self.buckets.iter().for_each(Counter::reset);
    }

    /// Adds this histogram's counts to `sum` (indexed by bucket).
    pub fn add_to(&self, sum: &mut Vec<u64>) {
        sum.resize(BUCKETS, 0);
        for (total, bucket) in sum.iter_mut().zip(&self.buckets) {
            *total += bucket.value();
        }
    }
}

#[inline]
fn bucket_of(ns: u64) -> usize {
    if ns < SUB as u64 {
        return ns as usize;
    }
    let exponent = 63 - ns.leading_zeros() as usize;
    let fraction = (ns >> (exponent - 4)) as usize & (SUB - 1);
    (SUB * (exponent - 3) + fraction).min(BUCKETS - 1)
}

/// The largest latency that counts in a bucket.
pub fn bucket_upper_ns(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let exponent = bucket / SUB + 3;
    let fraction = (bucket % SUB) as u64;
    ((SUB as u64 + fraction + 1) << (exponent - 4)) - 1
}

/// The latency that `percentile` per cent of the recorded ones do not exceed.
pub fn percentile_ns(counts: &[u64], percentile: f64) -> u64 {
    let total: u64 = counts.iter().sum();
    let wanted = ((total as f64 * percentile / 100.0).ceil() as u64).clamp(1, total.max(1));
    let mut seen = 0;
    for (bucket, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= wanted {
            return bucket_upper_ns(bucket);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        let mut last = 0;
        for ns in (0..5000).chain((5000..100_000_000).step_by(9973)) {
            let bucket = bucket_of(ns);
            assert!(bucket >= last, "{ns}");
            last = bucket;
            assert!(bucket_upper_ns(bucket) >= ns && bucket_upper_ns(bucket) <= ns + ns / 8, "{ns}");
        }
    }

    #[test]
    fn percentiles_of_known_data() {
        let histogram = LatencyHistogram::default();
        (1..=1000).for_each(|us| histogram.record(us * 1000));
        let mut counts = Vec::new();
        histogram.add_to(&mut counts);
        let half = percentile_ns(&counts, 50.0);
        assert!((500_000..540_000).contains(&half), "{half}");
        assert!(percentile_ns(&counts, 100.0) >= 1_000_000);
    }
}
