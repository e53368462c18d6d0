//! How a connection begins and ends: with a socket that was accepted, or with a session that another worker has served so far.
//!
//! ```text
//!   accepted ─► (TLS handshake) ─► open ─┐
//!                                        ├─► serve ─┬─ closed ─► depart
//!   from another worker ─► arrive ───────┘          └─ moves ──► another worker's `arrive`
//! ```

use super::{Connection, RETRY, Shared, settle};
use crate::front::pool::{Accepted, Socket};
use crate::net::direct::Direct;
use crate::net::stream::Stream;
use crate::net::tls::TlsStream;
use crate::replication::primary::feed::Feed;
use crate::resp::RequestParser;
use crate::server::clients::{Client, flag};
use crate::server::config::TlsAuthClientsUser;
use crate::server::workers::Workers;
use crate::server::{Session, dispatch};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

/// Why a connection's task is done.
enum End {
    Closed,
    /// Another worker is to serve the client from now on.
    Moves,
}

/// Begins to serve a client. Its connection is known at once, but for TLS, which has its handshake before it.
pub fn start(shared: &Rc<Shared>, accepted: Accepted) {
    let shared = Rc::clone(shared);
    let (stream, client) = match accepted {
        Accepted::Turn(turns) => return settle::take_turn(turns),
        Accepted::Moved(socket, session) => return arrive(&shared, socket, *session),
        Accepted::Tcp(stream, client) => (watch(Socket::Tcp(stream)), client),
        Accepted::Unix(stream, client) => (watch(Socket::Unix(stream)), client),
        Accepted::Tls(stream, client) => {
            tokio::task::spawn_local(async move {
                let stream = shared.handshakes.run(shared.server, stream, &client).await;
                if let Some(connection) = open(&shared, stream, client) {
                    serve(connection).await;
                }
            });
            return;
        }
    };
    if let Some(connection) = open(&shared, stream, client) {
        tokio::task::spawn_local(serve(connection));
    }
}

/// Has this worker's event loop watch a socket.
fn watch(socket: Socket) -> io::Result<Stream> {
    Ok(match socket {
        Socket::Tcp(stream) => Stream::Tcp(Direct(tokio::net::TcpStream::from_std(stream)?)),
        Socket::Unix(stream) => Stream::Unix(Direct(tokio::net::UnixStream::from_std(stream)?)),
        Socket::Tls(stream, session) => {
            Stream::Tls(TlsStream::resume(tokio::net::TcpStream::from_std(stream)?, session))
        }
    })
}

/// The opposite of `watch`.
fn release(stream: Stream) -> io::Result<Socket> {
    match stream {
        Stream::Tcp(stream) => stream.0.into_std().map(Socket::Tcp),
        Stream::Unix(stream) => stream.0.into_std().map(Socket::Unix),
        Stream::Tls(stream) => stream.release().map(|(socket, session)| Socket::Tls(socket, session)),
        Stream::Lent => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Goes on with a client that another worker has served so far.
fn arrive(shared: &Rc<Shared>, socket: Socket, mut session: Session) {
    match watch(socket) {
        Ok(stream) => {
            let connection = connect(shared, stream, session);
            tokio::task::spawn_local(serve(connection));
        }
        Err(error) => {
            tracing::warn!("A connection is lost on its way to another worker: {error}");
            let shared = Rc::clone(shared);
            tokio::task::spawn_local(async move { depart(&shared, &mut session).await });
        }
    }
}

fn open(shared: &Rc<Shared>, stream: io::Result<Stream>, client: Arc<Client>) -> Option<Rc<RefCell<Connection>>> {
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(
                "Error accepting a client connection: {error} (addr={} laddr={})",
                client.addr,
                client.laddr
            );
            shared.server.clients.remove(client.id);
            return None;
        }
    };
    let mut session = Session::new(client, false);
    let server = shared.server;
    server.become_default_user(&mut session);
    if server.config.current().tls_auth_clients_user == TlsAuthClientsUser::CommonName
        && let Some(name) = stream.peer_common_name()
    {
        server.become_certified_user(&mut session, name.as_bytes());
    }
    Some(connect(shared, stream, session))
}

fn connect(shared: &Rc<Shared>, stream: Stream, session: Session) -> Rc<RefCell<Connection>> {
    let id = session.client.id;
    let is_local = session.client.is_local();
    session.client.worker.store(shared.index, Ordering::Relaxed);
    let connection = Rc::new(RefCell::new(Connection {
        shared: Rc::clone(shared),
        server: shared.server,
        durable_mark: None,
        journal_before: 0,
        stream,
        session,
        parser: RequestParser::default(),
        input: Vec::new(),
        output: Vec::new(),
        written: 0,
        unflushed: false,
        deadline: None,
        peer_closed: false,
        waker: Waker::noop().clone(),
        is_over: false,
        is_local,
        feed: None,
        settled_for: 0,
        settling: None,
        is_settled: false,
    }));
    shared.connections.borrow_mut().insert(id, Rc::downgrade(&connection));
    connection
}

/// Serves one client until it leaves.
async fn serve(connection: Rc<RefCell<Connection>>) {
    // An error of the socket means that the client is gone, which is all there is to know.
    let end = poll_fn(|context| connection.borrow_mut().poll_inside(context)).await;
    let Ok(connection) = Rc::try_unwrap(connection) else { unreachable!("only its task keeps a connection") };
    let mut connection = connection.into_inner();
    let shared = Rc::clone(&connection.shared);
    if let Ok(End::Moves) = end {
        shared.connections.borrow_mut().remove(&connection.session.client.id);
        match release(connection.stream) {
            Ok(socket) => return shared.pool.deal(Accepted::Moved(socket, Box::new(connection.session))),
            Err(error) => tracing::warn!("A connection is lost on its way to another worker: {error}"),
        }
    } else {
        if connection.feed.is_none() && connection.session.client.has(flag::REPLICA) {
            // Gone before the first byte was sent: the link must know all the same.
            connection.feed = Feed::attach(connection.server, connection.session.client.id);
        }
        // Before the socket is closed: a replica that comes back is not to find what was kept for it so far.
        connection.feed = None;
        connection.stream.say_goodbye();
        if connection.session.client.is_killed() && connection.session.client.has(flag::REPLICA) {
            // Whoever kills it just now finds that it has no socket any more, and relies on this.
            connection.stream.hang_up();
        }
        connection.session.client.leave_socket();
        connection.drop_buffers();
    }
    depart(&shared, &mut connection.session).await;
}

/// Takes a session out of every registry, as soon as a busy script lets it.
async fn depart(shared: &Shared, session: &mut Session) {
    while !close(shared, session) {
        tokio::time::sleep(RETRY).await;
    }
}

/// Takes a session out of every registry; false if a busy script does not let it.
fn close(shared: &Shared, session: &mut Session) -> bool {
    let is_closed = dispatch::close_session(&mut shared.lend().worker, session);
    shared.connections.borrow_mut().remove(&session.client.id);
    is_closed
}

impl Connection {
    /// As a task of the event loop.
    fn poll_inside(&mut self, context: &mut Context<'_>) -> Poll<io::Result<End>> {
        if self.is_over {
            return Poll::Ready(Ok(End::Closed));
        }
        if !self.waker.will_wake(context.waker()) {
            self.waker.clone_from(context.waker());
        }
        match self.poll(context) {
            Poll::Pending if self.belongs_elsewhere() => Poll::Ready(Ok(End::Moves)),
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => Poll::Ready(result.map(|()| End::Closed)),
        }
    }

    /// Whether another worker should serve this client, and nothing here keeps it. Looked at when the number of active workers has
    /// changed; a connection that never says anything stays where it is.
    #[inline]
    fn belongs_elsewhere(&mut self) -> bool {
        let active = self.server.workers.active();
        if active == self.settled_for {
            return false;
        }
        let client = &self.session.client;
        if Workers::home(client.id, active) == self.shared.index {
            self.settled_for = active;
            return false;
        }
        self.input.is_empty()
            && self.output.is_empty()
            && !self.unflushed
            && !self.session.is_waiting()
            && !self.session.closing
            && self.durable_mark.is_none()
            && self.deadline.is_none()
            && !client.is_killed()
            && !client.has(flag::REPLICA)
            && self.session.replica.is_none()
    }
}
