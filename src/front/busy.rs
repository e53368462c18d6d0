//! Serving a worker's other clients while a busy script keeps its thread: they are answered -BUSY, and may end the script.
//!
//! ```text
//!   event loop ─► task of client A ─► EVAL ─► Lua ─► hook ─► here ─► the connections of B, C, … one after the other,
//!                                                                    read and written directly (`net::direct`)
//! ```
//! The event loop stands still meanwhile, so nothing here waits. Afterwards every task that was served so is woken once.

use super::connection::Shared;
use crate::base::clock::Stopwatch;
use crate::net::direct;
use crate::server::Server;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// Between two rounds lies at least this time, and so many times what a round takes.
const PAUSE_NS: u64 = 2_000_000;
const SHARE: u64 = 4;

struct Here {
    shared: Weak<Shared>,
    stopwatch: Stopwatch,
    /// Reading before which no round begins.
    last: u64,
    pause_ns: u64,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// Makes this thread's connections known.
pub fn remember(shared: &Rc<Shared>) {
    let stopwatch = Stopwatch::new();
    let last = stopwatch.raw();
    HERE.set(Some(Here { shared: Rc::downgrade(shared), stopwatch, last, pause_ns: 0 }));
}

/// The server's `busy_hook`.
pub fn serve_others(_: &'static Server) {
    // Borrowed only for a moment: a round may come here again by no way, but must not fail if it did.
    let due = HERE.with_borrow(|here| {
        let here = here.as_ref()?;
        let waited = here.stopwatch.ns_between(here.last, here.stopwatch.raw());
        (waited >= here.pause_ns).then(|| here.shared.upgrade()).flatten()
    });
    let Some(shared) = due else { return };
    let start = HERE.with_borrow(|here| here.as_ref().map_or(0, |here| here.stopwatch.raw()));
    direct::directly(|| shared.serve_others());
    HERE.with_borrow_mut(|here| {
        if let Some(here) = here {
            here.last = here.stopwatch.raw();
            here.pause_ns = PAUSE_NS.max(SHARE * here.stopwatch.ns_between(start, here.last));
        }
    });
}
