//! Client-side caching: who has to forget a key when it changes (redis.io, "Client-side caching").

use super::state::Server;
use std::sync::atomic::Ordering;

impl Server {
    /// A key has changed or expired.
    pub fn invalidate_key(&self, _db: usize, _key: &[u8]) {
        debug_assert!(self.tracking_clients.load(Ordering::Relaxed) == 0);
    }

    /// A database (or all of them) was emptied.
    pub fn invalidate_all(&self, _db: Option<usize>) {
        debug_assert!(self.tracking_clients.load(Ordering::Relaxed) == 0);
    }
}
