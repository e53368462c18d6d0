//! Sockets that can also be used without the event loop: while a busy script keeps a worker's thread, its clients are still served.
//!
//! The event loop tells when a socket has become ready; while it cannot run, nobody would notice. So in direct mode, which is a matter of
//! the thread, reads and writes just try. What the event loop would have said meanwhile it says later; an unnecessary wake-up
//! does no harm.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

thread_local! {
    static DIRECT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with this thread's sockets in direct mode.
pub fn directly<T>(work: impl FnOnce() -> T) -> T {
    DIRECT.set(true);
    let result = work();
    DIRECT.set(false);
    result
}

/// Ends the conversation on a socket that somebody else owns, who keeps it open meanwhile.
pub fn hang_up(socket: i32) {
    // A peer that is gone already needs no goodbye.
    let _ = nix::sys::socket::shutdown(socket, nix::sys::socket::Shutdown::Both);
}

/// Whether the other end of somebody else's socket is gone and nothing that it sent is left to read.
pub fn has_hung_up(socket: i32) -> bool {
    matches!(recv(socket, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT), Ok(0))
}

/// A second handle of somebody else's socket, to ask the kernel whether the other end is still there: its owner hears of it only when
/// he has read everything before.
pub struct Watch(OwnedFd);

impl Watch {
    pub fn has_hung_up(&self) -> bool {
        // Not asked for data, the kernel reports nothing but the end: of the other side, of both, or an error.
        let mut look = [PollFd::new(self.0.as_fd(), PollFlags::from_bits_retain(nix::libc::POLLRDHUP))];
        matches!(poll(&mut look, PollTimeout::ZERO), Ok(1..))
    }
}

/// A stream of tokio's with a socket below it.
pub struct Direct<S>(pub S);

impl<S: AsFd> Direct<S> {
    pub fn watch(&self) -> io::Result<Watch> {
        self.0.as_fd().try_clone_to_owned().map(Watch)
    }

    /// Ends the conversation at once; the socket is closed when this is dropped.
    pub fn hang_up(&self) {
        // A peer that is gone already needs no goodbye.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

fn pending_if_blocked<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Poll::Pending,
        other => Poll::Ready(other),
    }
}

impl<S: AsFd + AsyncRead + Unpin> AsyncRead for Direct<S> {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !DIRECT.get() {
            return Pin::new(&mut self.0).poll_read(context, buffer);
        }
        let result = (&*SockRef::from(&self.0)).read(buffer.initialize_unfilled());
        pending_if_blocked(result.map(|len| buffer.advance(len)))
    }
}

impl<S: AsFd + AsyncWrite + Unpin> AsyncWrite for Direct<S> {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !DIRECT.get() {
            return Pin::new(&mut self.0).poll_write(context, bytes);
        }
        pending_if_blocked((&*SockRef::from(&self.0)).write(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
