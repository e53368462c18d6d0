//! A socket that TLS wraps, over rustls's unbuffered interface.
//!
//! ```text
//!   socket ─► thread's buffer: [ kept | read ] ─► records ─► plain text, straight into the reader's buffer
//!                │ an unfinished record is kept in `incoming`    └► what has no room there waits in `plain`
//!                ▼ until its rest comes
//!   socket ◄─ thread's buffer ◄─ records ◄─ plain text
//!                └► what the socket does not take waits in `outgoing`
//! ```
//! One read brings up to 64 kB and one write takes all records of a reply; an idle connection holds no buffer. (rustls's own
//! buffers read 4 kB at a time, keep them, and write every record by itself.) All but the socket is plain data, so a connection
//! can go on on another thread.

use super::records::{Out, Phase, Side};
use crate::net::direct::{self, Direct};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ServerConfig};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The longest record with its header, and what a read is at least ready to take.
const RECORD_MOST: usize = 16 * 1024 + 256 + 5;
const READ_MOST: usize = 64 * 1024;
/// Plain text that one write makes records of.
const WRITE_MOST: usize = 64 * 1024;
/// Reads in a row that bring no plain text (key updates, parts of a record) before others get their turn.
const FRUITLESS_MAX: usize = 16;

thread_local! {
    /// Where records pass through; borrowed for one read or write at a time.
    static BUFFER: RefCell<Out> = RefCell::default();
}

pub struct TlsStream {
    socket: Direct<TcpStream>,
    session: Box<Session>,
}

/// All of a connection but its socket.
pub struct Session {
    side: Side,
    /// An unfinished record (or handshake message).
    incoming: Vec<u8>,
    /// Plain text that the reader had no room for, and how much of it he has had since.
    plain: Vec<u8>,
    plain_read: usize,
    /// Records that the socket has not taken yet, and how many of their bytes are written.
    outgoing: Vec<u8>,
    outgoing_written: usize,
    phase: Phase,
}

impl Session {
    fn new(side: Side) -> Box<Self> {
        Box::new(Session {
            side,
            incoming: Vec::new(),
            plain: Vec::new(),
            plain_read: 0,
            outgoing: Vec::new(),
            outgoing_written: 0,
            phase: Phase::Handshake,
        })
    }

    /// Plain text that waits.
    fn take_plain(&mut self, buffer: &mut [u8]) -> usize {
        let waiting = &self.plain[self.plain_read..];
        let len = waiting.len().min(buffer.len());
        buffer[..len].copy_from_slice(&waiting[..len]);
        self.plain_read += len;
        if self.plain_read == self.plain.len() {
            (self.plain, self.plain_read) = (Vec::new(), 0);
        }
        len
    }

    /// Goes through records; plain text goes to `buffer`, and its length is returned. What is unfinished is kept.
    fn receive(&mut self, bytes: &mut [u8], buffer: &mut [u8]) -> io::Result<usize> {
        let (mut filled, plain) = (0, &mut self.plain);
        let (done, phase) = self.side.advance(bytes, &mut self.outgoing, |text| {
            let (fits, more) = text.split_at(text.len().min(buffer.len() - filled));
            buffer[filled..filled + fits.len()].copy_from_slice(fits);
            filled += fits.len();
            plain.extend_from_slice(more);
        });
        self.phase = phase.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.incoming = bytes[done..].to_vec();
        Ok(filled)
    }
}

impl TlsStream {
    /// The server's part of a handshake.
    pub async fn accept(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Self::shake_hands(socket, Side::Server(connection)).await
    }

    /// The client's part of a handshake.
    pub async fn connect(socket: TcpStream, config: Arc<ClientConfig>, host: &str) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        Self::shake_hands(socket, Side::Client(connection)).await
    }

    async fn shake_hands(socket: TcpStream, side: Side) -> io::Result<Self> {
        let mut stream = TlsStream { socket: Direct(socket), session: Session::new(side) };
        // A client speaks first.
        stream.session.receive(&mut [], &mut [])?;
        poll_fn(|context| stream.poll_handshake(context)).await?;
        Ok(stream)
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(context))?;
            match self.session.phase {
                Phase::Handshake => {}
                Phase::Traffic => return Poll::Ready(Ok(())),
                Phase::Closed => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
            // What the peer says right behind its handshake is kept in `plain`.
            ready!(self.poll_receive(context, &mut []))?;
        }
    }

    /// Goes on with a connection that another thread has released.
    pub fn resume(socket: TcpStream, session: Box<Session>) -> Self {
        TlsStream { socket: Direct(socket), session }
    }

    /// The opposite: no event loop watches the socket any more.
    pub fn release(self) -> io::Result<(std::net::TcpStream, Box<Session>)> {
        Ok((self.socket.0.into_std()?, self.session))
    }

    pub fn socket(&self) -> &Direct<TcpStream> {
        &self.socket
    }

    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.session.side.state().peer_certificates()?.first()
    }

    /// Many clients close without saying goodbye in TLS; what is cut short shows in the protocol above.
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.session.plain.is_empty() {
            return Poll::Ready(Ok(self.session.take_plain(buffer)));
        }
        for _ in 0..FRUITLESS_MAX {
            if self.session.phase == Phase::Closed {
                return Poll::Ready(Ok(0));
            }
            let len = ready!(self.poll_receive(context, buffer))?;
            if len > 0 {
                return Poll::Ready(Ok(len));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// One read of the socket; the plain text that came of it.
    fn poll_receive(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let result = BUFFER.with_borrow_mut(|bytes| {
            let kept = self.session.incoming.len();
            let room = buffer.len().clamp(RECORD_MOST, READ_MOST);
            let bytes = bytes.room(kept + room);
            let mut read = ReadBuf::new(&mut bytes[kept..kept + room]);
            ready!(Pin::new(&mut self.socket).poll_read(context, &mut read))?;
            let len = read.filled().len();
            if len == 0 {
                self.session.phase = Phase::Closed;
                return Poll::Ready(Ok(0));
            }
            bytes[..kept].copy_from_slice(&self.session.incoming);
            Poll::Ready(self.session.receive(&mut bytes[..kept + len], buffer))
        });
        if !self.session.outgoing.is_empty() {
            // Answers in TLS itself, such as why the peer is not understood, go if there is room for them; an error comes again.
            let _ = self.poll_flush(context);
        }
        result
    }

    /// Takes a part of what is to be written; what the socket does not take of it is kept for `poll_flush`.
    pub fn poll_write(&mut self, context: &mut Context<'_>, text: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(context))?;
        let text = &text[..text.len().min(WRITE_MOST)];
        BUFFER.with_borrow_mut(|records| {
            records.clear();
            self.session.side.seal(&mut self.session.incoming, text, records)?;
            let mut bytes = records.filled();
            while !bytes.is_empty() {
                match Pin::new(&mut self.socket).poll_write(context, bytes) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(len)) => bytes = &bytes[len..],
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        self.session.outgoing = bytes.to_vec();
                        break;
                    }
                }
            }
            Poll::Ready(Ok(text.len()))
        })
    }

    /// Writes the records that wait.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = &mut *self.session;
        while session.outgoing_written < session.outgoing.len() {
            let waiting = &session.outgoing[session.outgoing_written..];
            match ready!(Pin::new(&mut self.socket).poll_write(context, waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => session.outgoing_written += len,
            }
        }
        if session.outgoing_written > 0 {
            (session.outgoing, session.outgoing_written) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the peer that nothing more comes, if it is not behind with what came before: clients take an end without it
    /// for an error.
    pub fn say_goodbye(&mut self) {
        if !self.session.outgoing.is_empty() {
            return;
        }
        BUFFER.with_borrow_mut(|records| {
            records.clear();
            if self.session.side.seal_goodbye(&mut self.session.incoming, records).is_ok() {
                let mut context = Context::from_waker(Waker::noop());
                // Whoever is gone already needs no goodbye.
                let _ = direct::directly(|| Pin::new(&mut self.socket).poll_write(&mut context, records.filled()));
            }
        });
    }
}
