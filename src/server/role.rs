//! Who this server is to others in replication: the names of its history, and whom it follows.
//!
//! ```text
//!   replid    the history that this server writes, or that it follows as a replica
//!   replid2   the history it followed before it was promoted, valid up to second_offset: replicas of the old primary
//!             that come here need no full sync
//! ```
//! and the link to the primary, in the order in which a healthy one goes through its states:
//!
//! ```text
//!   None ─ REPLICAOF ─► Connect ─► Connecting ─► Handshake ─┬─ +FULLRESYNC ─► Transfer ─┬─► Connected
//!                          ▲                                └─ +CONTINUE ───────────────┘        │
//!                          └──────────────────────── any failure ◄───────────────────────────────┘
//! ```
//! All of it is plain data: `replication::replica` moves it, INFO, ROLE and admission read it. `epoch` counts the changes
//! of role; who works on behalf of a role (the link, a write that waits for its locks) compares it and gives up.

use super::config::PrimaryAddress;
use crate::base::clock;
use crate::base::random::Random;
use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

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

/// How far the link to the primary is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// This server follows nobody.
    #[default]
    None,
    /// About to connect, at once or after a pause.
    Connect,
    Connecting,
    Handshake,
    Transfer,
    Connected,
}

impl LinkState {
    /// As ROLE says it.
    pub fn name(self) -> &'static str {
        match self {
            LinkState::None => "none",
            LinkState::Connect => "connect",
            LinkState::Connecting => "connecting",
            LinkState::Handshake => "handshake",
            LinkState::Transfer => "sync",
            LinkState::Connected => "connected",
        }
    }
}

/// Whom this server follows, and how it stands with him.
#[derive(Clone, Debug, Default)]
pub struct Link {
    pub primary: Option<PrimaryAddress>,
    pub state: LinkState,
    /// The data set is `replid`'s up to the journal's end: PSYNC may ask to go on from there.
    pub may_continue: bool,
    /// Since when the link has been down, if it was ever up.
    pub down_since_ms: Option<i64>,
}

/// A snapshot on its way from the primary.
#[derive(Default)]
pub struct Transfer {
    /// −1 before the header; 0 if the primary does not know.
    pub total: AtomicI64,
    pub read: AtomicI64,
}

/// A look at the link's connection from outside.
pub type LookAtLink = Box<dyn Fn() -> bool + Send>;

/// Read by INFO, PSYNC and the RDB header; changed by promotion, REPLICAOF and full syncs.
pub struct Role {
    ids: Mutex<ReplicationIds>,
    link: Mutex<Link>,
    epoch: AtomicU64,
    /// The link is up.
    connected: AtomicBool,
    pub transfer: Transfer,
    /// When the primary was heard last.
    pub last_io_ms: AtomicI64,
    /// Bytes of the stream that were received, which is ahead of what was applied (the journal's end).
    pub read_offset: AtomicU64,
    /// Tells whether the link that is up has lost its primary, or was killed, and its thread has not noticed yet. There while it is up.
    is_lost: Mutex<Option<LookAtLink>>,
    /// The database that the primary's stream has selected.
    pub stream_db: AtomicUsize,
    waker: AtomicWaker,
}

impl Default for Role {
    fn default() -> Self {
        let ids = ReplicationIds { replid: new_replid(), replid2: NO_HISTORY.to_owned(), second_offset: -1 };
        Role {
            ids: Mutex::new(ids),
            link: Mutex::default(),
            epoch: AtomicU64::new(1),
            connected: AtomicBool::new(false),
            transfer: Transfer::default(),
            last_io_ms: AtomicI64::new(0),
            read_offset: AtomicU64::new(0),
            is_lost: Mutex::default(),
            stream_db: AtomicUsize::new(0),
            waker: AtomicWaker::new(),
        }
    }
}

impl Role {
    /// The role at start: of somebody who follows a primary if one is configured.
    pub fn of(primary: Option<PrimaryAddress>) -> Self {
        let role = Role::default();
        if primary.is_some() {
            role.set_primary(primary, false);
        }
        role
    }

    pub fn ids(&self) -> ReplicationIds {
        self.ids.lock().clone()
    }

    pub fn link(&self) -> Link {
        self.link.lock().clone()
    }

    /// The same for who reports on it: up only if the primary is still there. The link's thread may hear of its end a moment after
    /// another one has been asked; what is reported as up is then data that somebody has already sent away.
    pub fn link_as_seen(&self) -> Link {
        let mut link = self.link();
        let is_lost = || self.is_lost.lock().as_ref().is_some_and(|is_lost| is_lost());
        if link.state == LinkState::Connected && is_lost() {
            link.state = LinkState::Connect;
            link.down_since_ms = Some(clock::unix_ms());
        }
        link
    }

    /// How to look at the link that is up now; nothing when it is over.
    pub fn set_look(&self, is_lost: Option<LookAtLink>) {
        *self.is_lost.lock() = is_lost;
    }

    pub fn primary(&self) -> Option<PrimaryAddress> {
        self.link.lock().primary.clone()
    }

    /// Changes with the role.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    #[inline]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Whom to follow from here on; nobody: this server is a primary. To be called with every shard locked.
    pub fn set_primary(&self, primary: Option<PrimaryAddress>, may_continue: bool) {
        let mut link = self.link.lock();
        let state = if primary.is_some() { LinkState::Connect } else { LinkState::None };
        let down_since_ms = match link.state {
            _ if primary.is_none() => None,
            LinkState::Connected => Some(clock::unix_ms()),
            _ => link.down_since_ms,
        };
        *link = Link { primary, state, may_continue, down_since_ms };
        drop(link);
        self.connected.store(false, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Changes what is known of the link, unless the role has changed since `epoch`.
    pub fn update_link(&self, epoch: u64, change: impl FnOnce(&mut Link)) {
        let mut link = self.link.lock();
        if self.epoch() == epoch {
            change(&mut link);
            self.connected.store(link.state == LinkState::Connected, Ordering::Release);
        }
    }

    /// For the one task that owns the link: ready when the role is no longer that of `epoch`.
    pub fn poll_changed(&self, epoch: u64, context: &mut Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        if self.epoch() == epoch { Poll::Pending } else { Poll::Ready(()) }
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
        self.rename(new_replid(), end);
    }

    /// The same with a name that the primary has given.
    pub fn rename(&mut self, replid: String, end: u64) {
        self.replid2 = std::mem::replace(&mut self.replid, replid);
        self.second_offset = end as i64 + 1;
    }

    /// Another history takes the place of everything (a full sync).
    pub fn replace(&mut self, replid: String) {
        *self = ReplicationIds { replid, replid2: NO_HISTORY.to_owned(), second_offset: -1 };
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
    fn a_stale_epoch_changes_nothing() {
        let role = Role::default();
        let before = role.epoch();
        role.set_primary(Some(PrimaryAddress { host: "h".into(), port: 1 }), true);
        role.update_link(before, |link| link.state = LinkState::Connected);
        assert_eq!((role.link().state, role.is_connected()), (LinkState::Connect, false));
        role.update_link(role.epoch(), |link| link.state = LinkState::Connected);
        assert!(role.is_connected());
        role.set_primary(None, false);
        assert_eq!((role.link().state, role.is_connected()), (LinkState::None, false));
    }

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
