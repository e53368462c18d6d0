//! Wishes that handlers leave for the tasks above (a shutdown, a save, a new primary). The task that owns the matter makes
//! it true; `server` itself starts nothing.

use super::blocking::Blocked;
use super::clients::{Client, flag};
use super::pause::Purpose;
use super::session::Session;
use super::state::Server;
use crate::engine::keyspace::ShardSet;
use crate::engine::keyspace::waiters::Ticket;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

/// How a shutdown was asked for (SHUTDOWN's options, signals).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownWish {
    /// Some: SAVE or NOSAVE was said; nothing: save if save points are set.
    pub save: Option<bool>,
    pub now: bool,
    pub force: bool,
}

#[derive(Default)]
struct Wishes {
    shutdown: Option<ShutdownWish>,
    under_way: bool,
    /// Until when the shutdown waits for replicas.
    deadline_ms: Option<i64>,
    requesters: Vec<(Arc<Client>, Arc<Ticket>)>,
    waker: Option<Waker>,
}

#[derive(Default)]
pub struct Intents(Mutex<Wishes>);

impl Intents {
    /// Asks for a shutdown, on behalf of a client or of a signal.
    pub fn wish_shutdown(&self, wish: ShutdownWish, requester: Option<(Arc<Client>, Arc<Ticket>)>) {
        let mut wishes = self.0.lock();
        wishes.shutdown = Some(wish);
        wishes.under_way = true;
        wishes.requesters.extend(requester);
        if let Some(waker) = wishes.waker.take() {
            waker.wake();
        }
    }

    /// For the task that shuts down: takes the wish, or leaves a waker for it.
    pub fn poll_shutdown(&self, waker: &Waker) -> Option<ShutdownWish> {
        let mut wishes = self.0.lock();
        let wish = wishes.shutdown.take();
        if wish.is_none() {
            wishes.waker = Some(waker.clone());
        }
        wish
    }

    /// A client that asked is gone.
    fn forget_requester(&self, ticket: &Arc<Ticket>) {
        self.0.lock().requesters.retain(|(_, other)| !Arc::ptr_eq(other, ticket));
    }

    /// The task that shuts down says how long it will wait for replicas.
    pub fn set_shutdown_deadline(&self, until_ms: i64) {
        self.0.lock().deadline_ms = Some(until_ms);
    }

    pub fn shutdown_deadline_ms(&self) -> Option<i64> {
        self.0.lock().deadline_ms
    }

    /// A shutdown is under way that no client has asked for.
    pub fn is_shutdown_by_signal(&self) -> bool {
        let wishes = self.0.lock();
        wishes.under_way && wishes.requesters.is_empty()
    }

    /// A shutdown was asked for and neither aborted nor given up.
    pub fn is_shutting_down(&self) -> bool {
        self.0.lock().under_way
    }
}

/// What the ticket of a client in SHUTDOWN carries: it waits for no key, and only the end of the shutdown ends its wait.
struct ShutdownWait;

impl Server {
    /// Asks for a shutdown on behalf of a client, which sleeps until the end of the process, or of the attempt.
    pub fn shut_down_for(&self, session: &mut Session, wish: ShutdownWish) {
        let ticket = Ticket::new(ShardSet::EMPTY, false, None, Box::new(ShutdownWait));
        session.blocked = Some(Blocked { ticket: Arc::clone(&ticket), deadline_ms: None });
        session.client.set(flag::BLOCKED, true);
        self.clients.blocked.fetch_add(1, Ordering::Relaxed);
        self.intents.wish_shutdown(wish, Some((Arc::clone(&session.client), ticket)));
    }

    /// SHUTDOWN ABORT: false if no shutdown is under way. The task that shuts down asks `is_shutting_down` as it goes on.
    pub fn abort_shutdown(&self) -> bool {
        let was_under_way = self.intents.is_shutting_down();
        if was_under_way {
            tracing::warn!("Shutdown manually aborted.");
            self.give_up_shutdown();
        }
        was_under_way
    }

    /// The shutdown failed or was aborted: whoever asked for it hears so, and writes go on.
    pub fn give_up_shutdown(&self) {
        let requesters = {
            let mut wishes = self.intents.0.lock();
            wishes.shutdown = None;
            wishes.under_way = false;
            wishes.deadline_ms = None;
            std::mem::take(&mut wishes.requesters)
        };
        for (client, ticket) in requesters {
            if ticket.claim() {
                client.set(flag::BLOCKED, false);
                self.clients.blocked.fetch_sub(1, Ordering::Relaxed);
                client.unblock(bytes::Bytes::from_static(b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n"));
            }
        }
        self.unpause_clients(Purpose::Shutdown);
    }
}

/// The connection of a client in SHUTDOWN is gone. True if the ticket was such a one's.
pub fn forget(server: &Server, ticket: &Arc<Ticket>) -> bool {
    if !ticket.payload.is::<ShutdownWait>() {
        return false;
    }
    server.intents.forget_requester(ticket);
    if ticket.claim() {
        server.clients.blocked.fetch_sub(1, Ordering::Relaxed);
    }
    true
}
