//! Wishes that handlers leave for the tasks above (a shutdown, a save, a new primary). The task that owns the matter makes
//! it true; `server` itself starts nothing.

use parking_lot::Mutex;
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
    waker: Option<Waker>,
}

#[derive(Default)]
pub struct Intents(Mutex<Wishes>);

impl Intents {
    pub fn wish_shutdown(&self, wish: ShutdownWish) {
        let mut wishes = self.0.lock();
        wishes.shutdown = Some(wish);
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
}
