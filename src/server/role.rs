//! Who this server is to others in replication: the names of its history, and whom it follows.
//!
//! ```text
//!   replid    the history that this server writes, or that it follows as a replica
//!   replid2   the history it followed before it was promoted, valid up to second_offset: replicas of the old primary
//!             that come here need no full sync
//! ```

use crate::base::random::Random;
use parking_lot::Mutex;

/// The history that nobody has: forty zeros.
pub const NO_HISTORY: &str = "0000000000000000000000000000000000000000";

/// The names of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationIds {
    pub replid: String,
    pub replid2: String,
    /// First offset at which `replid2` is no longer valid; −1 without one.
    pub second_offset: i64,
}

/// Read by INFO, PSYNC and the RDB header; changed by promotion, REPLICAOF and full syncs.
pub struct Role {
    ids: Mutex<ReplicationIds>,
}

impl Default for Role {
    fn default() -> Self {
        let ids = ReplicationIds { replid: new_replid(), replid2: NO_HISTORY.to_owned(), second_offset: -1 };
        Role { ids: Mutex::new(ids) }
    }
}

impl Role {
    pub fn ids(&self) -> ReplicationIds {
        self.ids.lock().clone()
    }

    /// Changes the names; to be called with every shard locked when writes could fall in between.
    pub fn change_ids(&self, change: impl FnOnce(&mut ReplicationIds)) {
        change(&mut self.ids.lock());
    }
}

impl ReplicationIds {
    /// A new history begins (a restart without one, DEBUG CHANGE-REPL-ID): nobody can continue.
    pub fn renew(&mut self) {
        self.replid = new_replid();
        self.replid2 = NO_HISTORY.to_owned();
        self.second_offset = -1;
    }

    /// The present history ends at an offset and a new one begins there (promotion): replicas of the old one may go on.
    pub fn shift(&mut self, end: u64) {
        self.replid2 = std::mem::replace(&mut self.replid, new_replid());
        self.second_offset = end as i64 + 1;
    }
}

/// Forty random hexadecimal digits.
pub fn new_replid() -> String {
    let mut random = Random::from_entropy();
    (0..40).map(|_| char::from(b"0123456789abcdef"[random.below(16) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promotion_keeps_the_old_history_as_the_second() {
        let role = Role::default();
        let old = role.ids();
        assert_eq!(old.replid.len(), 40);
        role.change_ids(|ids| ids.shift(1234));
        let new = role.ids();
        assert_ne!(new.replid, old.replid);
        assert_eq!((new.replid2, new.second_offset), (old.replid, 1235));
    }
}
