//! Sessions that clients may resume, with the age limit of `tls-session-cache-timeout`.

use crate::base::clock;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use std::sync::Arc;
use std::time::Duration;

/// rustls's cache, bounded in number; each value carries when it was stored, in Unix milliseconds.
#[derive(Debug)]
pub struct Sessions {
    cache: Arc<ServerSessionMemoryCache>,
    lifetime: Duration,
}

impl Sessions {
    pub fn new(size: usize, lifetime: Duration) -> Arc<Self> {
        Arc::new(Sessions { cache: ServerSessionMemoryCache::new(size), lifetime })
    }

    fn if_young(&self, stored: Vec<u8>) -> Option<Vec<u8>> {
        let (stamp, value) = stored.split_first_chunk::<8>()?;
        let age_ms = clock::unix_ms().saturating_sub(i64::from_le_bytes(*stamp));
        (age_ms <= self.lifetime.as_millis() as i64).then(|| value.to_vec())
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let mut stamped = clock::unix_ms().to_le_bytes().to_vec();
        stamped.extend_from_slice(&value);
        self.cache.put(key, stamped)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.cache.get(key).and_then(|stored| self.if_young(stored))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.cache.take(key).and_then(|stored| self.if_young(stored))
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_kept_for_their_time_and_taken_once() {
        let young = Sessions::new(16, Duration::from_secs(60));
        assert!(young.put(b"id".to_vec(), b"secret".to_vec()));
        assert_eq!(young.get(b"id").as_deref(), Some(b"secret".as_slice()));
        assert_eq!(young.take(b"id").as_deref(), Some(b"secret".as_slice()));
        assert_eq!(young.take(b"id"), None);

        let old = Sessions::new(16, Duration::ZERO);
        old.put(b"id".to_vec(), b"secret".to_vec());
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(old.get(b"id"), None);
    }
}
