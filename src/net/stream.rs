//! One type for the kinds of socket a client may come through.

use super::direct::Direct;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

pub enum Stream {
    Tcp(Direct<TcpStream>),
    Unix(Direct<UnixStream>),
    Tls(Box<TlsStream<Direct<TcpStream>>>),
}

impl Stream {
    /// Reads what is there into `buffer`; 0 = the peer has closed.
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let result = match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Stream::Tls(stream) => match Pin::new(stream).poll_read(context, &mut buffer) {
                // Many clients close without saying goodbye in TLS; what is cut short shows in the protocol above.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                other => other,
            },
        };
        result.map_ok(|()| buffer.filled().len())
    }

    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    /// Ends the conversation at once.
    pub fn hang_up(&self) {
        match self {
            Stream::Tcp(stream) => stream.hang_up(),
            Stream::Unix(stream) => stream.hang_up(),
            Stream::Tls(stream) => stream.get_ref().0.hang_up(),
        }
    }

    /// Whether `poll_write` may take bytes without handing them to the socket.
    pub fn is_buffered(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// Sees to it that what `poll_write` has taken reaches the socket: TLS keeps encrypted bytes that did not fit.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}
