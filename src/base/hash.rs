//! Keyed hash of byte strings. The seed is drawn once per process, so that nobody outside can aim many keys at one bucket.

use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

static SEED: OnceLock<ahash::RandomState> = OnceLock::new();

/// 64 well-mixed bits. The low bits choose a bucket, bits 48..56 are its tag, the top bits choose the shard.
#[inline]
pub fn bytes(data: &[u8]) -> u64 {
    let mut hasher = SEED.get_or_init(ahash::RandomState::new).build_hasher();
    hasher.write(data);
    hasher.finish()
}

/// XXH3, 64 bits: the digest of a value that DIGEST answers.
pub fn xxh3(data: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(data)
}
