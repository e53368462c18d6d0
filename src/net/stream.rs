//! One type for the kinds of socket a client may come through.

use super::direct::{Direct, Watch};
use super::tls::{CertFacts, TlsStream};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub enum Stream {
    Tcp(Direct<TcpStream>),
    Unix(Direct<UnixStream>),
    Tls(TlsStream),
    /// Somewhere else just now (`net::console`): there is nothing to read and no room to write.
    Lent,
}

impl Stream {
    /// Reads what is there into `buffer`; 0 = the peer has closed.
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Stream::Tls(stream) = self {
            return stream.poll_read(context, buffer);
        }
        let mut buffer = ReadBuf::new(buffer);
        let result = match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Stream::Tls(_) | Stream::Lent => Poll::Pending,
        };
        result.map_ok(|()| buffer.filled().len())
    }

    /// Whether small packets go out at once. A socket that cannot tell (Unix) does anyway.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.tcp().map_or(Ok(()), |stream| stream.set_nodelay(nodelay))
    }

    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => stream.poll_write(context, bytes),
            Stream::Lent => Poll::Pending,
        }
    }

    /// Writes all of it, and sees to it that it reaches the socket.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            let len = poll_fn(|context| self.poll_write(context, &bytes[written..])).await?;
            if len == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            written += len;
        }
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Ends the conversation at once.
    pub fn hang_up(&self) {
        match self {
            Stream::Tcp(stream) => stream.hang_up(),
            Stream::Unix(stream) => stream.hang_up(),
            Stream::Tls(stream) => stream.socket().hang_up(),
            Stream::Lent => {}
        }
    }

    /// For others, to see whether the peer is still there.
    pub fn watch(&self) -> io::Result<Watch> {
        match self {
            Stream::Tcp(stream) => stream.watch(),
            Stream::Unix(stream) => stream.watch(),
            Stream::Tls(stream) => stream.socket().watch(),
            Stream::Lent => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Before the end: whatever the kind of socket has to say of it.
    pub fn say_goodbye(&mut self) {
        if let Stream::Tls(stream) = self {
            stream.say_goodbye();
        }
    }

    /// The peer's address and ours, of a socket that has such.
    pub fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let Some(stream) = self.tcp() else { return (None, None) };
        (stream.peer_addr().ok(), stream.local_addr().ok())
    }

    /// Common name of the certificate that the peer has shown.
    pub fn peer_common_name(&self) -> Option<String> {
        let Stream::Tls(stream) = self else { return None };
        CertFacts::of(stream.peer_certificate()?)?.common_name
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(stream) => Some(&stream.0),
            Stream::Tls(stream) => Some(&stream.socket().0),
            Stream::Unix(_) | Stream::Lent => None,
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
            Stream::Lent => Poll::Pending,
            Stream::Tls(stream) => stream.poll_flush(context),
        }
    }
}
