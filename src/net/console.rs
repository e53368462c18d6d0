//! The socket of the client whose command runs, lent to that command: the script debugger talks with its user in the midst of a
//! script, while the event loop stands still.
//!
//! The connection lends its stream before it runs a batch and takes it back afterwards. Reads and writes are made directly
//! (`net::direct`), so this works through TLS too.

use super::direct;
use super::stream::Stream;
use crate::base::clock;
use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A peer that takes nothing for so long is given up.
const WRITE_TIMEOUT_MS: i64 = 5000;
/// Pause before a socket that is full is tried again.
const RETRY: Duration = Duration::from_millis(1);

thread_local! {
    /// More than one only if a busy script lets other connections of its thread run.
    static LENT: RefCell<Vec<Stream>> = const { RefCell::new(Vec::new()) };
}

pub fn lend(stream: Stream) {
    LENT.with_borrow_mut(|lent| lent.push(stream));
}

pub fn take_back() -> Option<Stream> {
    LENT.with_borrow_mut(Vec::pop)
}

pub fn is_lent() -> bool {
    LENT.with_borrow(|lent| !lent.is_empty())
}

fn with_stream<T>(work: impl FnOnce(&mut Stream, &mut Context<'_>) -> Poll<io::Result<T>>) -> io::Result<Option<T>> {
    LENT.with_borrow_mut(|lent| {
        let stream = lent.last_mut().ok_or(io::ErrorKind::NotConnected)?;
        match direct::directly(|| work(stream, &mut Context::from_waker(Waker::noop()))) {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => Ok(None),
        }
    })
}

/// Reads what is there: nothing yet is `None`, the end is 0.
pub fn read(buffer: &mut [u8]) -> io::Result<Option<usize>> {
    with_stream(|stream, context| stream.poll_read(context, buffer))
}

/// Writes everything, waiting for the peer where it must.
pub fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    let give_up_ms = clock::unix_ms() + WRITE_TIMEOUT_MS;
    loop {
        let done = if bytes.is_empty() {
            with_stream(|stream, context| stream.poll_flush(context))?.is_some()
        } else {
            let written = with_stream(|stream, context| stream.poll_write(context, bytes))?;
            bytes = &bytes[written.unwrap_or(0)..];
            if written.is_some() {
                continue;
            }
            false
        };
        if done {
            return Ok(());
        }
        if clock::unix_ms() > give_up_ms {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(RETRY);
    }
}
