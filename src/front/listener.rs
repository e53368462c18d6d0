//! Listening sockets: binding, accepting, dealing out to the workers.

use super::pool::{Accepted, Pool};
use crate::base::clock;
use crate::server::Server;
use crate::server::clients::{Client, flag};
use crate::server::config::Config;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Binds a port on every configured address. An address with a leading `-` may be missing on this machine.
pub fn bind(config: &Config, port: u16) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    for text in &config.bind.0 {
        let (optional, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text.as_str()),
        };
        let bound = resolve(name).and_then(|ip| bind_one(SocketAddr::new(ip, port), config.tcp_backlog as i32));
        match bound {
            Ok(listener) => listeners.push(listener),
            Err(error) if optional && is_missing_address(&error) => {}
            Err(error) => {
                let reason = format!("Could not create server TCP listening socket {name}:{port}: {error}");
                tracing::warn!("{reason}");
                return Err(reason);
            }
        }
    }
    // None is no fault: `bind ""`, or optional addresses only.
    Ok(listeners)
}

fn resolve(name: &str) -> io::Result<IpAddr> {
    match name {
        "*" => Ok(Ipv4Addr::UNSPECIFIED.into()),
        "::*" => Ok(Ipv6Addr::UNSPECIFIED.into()),
        _ => {
            if let Ok(ip) = name.parse() {
                return Ok(ip);
            }
            let mut found = std::net::ToSocketAddrs::to_socket_addrs(&(name, 0))?;
            found.next().map(|address| address.ip()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
        }
    }
}

fn is_missing_address(error: &io::Error) -> bool {
    // EAFNOSUPPORT, EADDRNOTAVAIL, EPROTONOSUPPORT: no such protocol or address on this machine.
    error.kind() == io::ErrorKind::AddrNotAvailable || matches!(error.raw_os_error(), Some(97 | 93 | 94))
}

fn bind_one(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// How clients of a listening socket speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Plain,
    Tls,
}

/// Clients who come while a small data set is being loaded, or none, wait in the socket's queue until it is there, as in Redis, which
/// looks at its sockets every two megabytes of a load: only a load that lasts answers -LOADING. Where there is nothing to load it is
/// only the first files that are being made, however long the disk takes for that.
async fn outwait_short_load(server: &Server) {
    const STEP: Duration = Duration::from_millis(1);
    let mut steps = 0..100;
    while server.loading.load(Ordering::Acquire) {
        let has_data = server.save_status.loading.total_bytes.load(Ordering::Relaxed) > 0;
        if has_data && steps.next().is_none() {
            return;
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Accepts clients for ever.
pub async fn accept(
    server: &'static Server,
    pool: Arc<Pool>,
    listener: TcpListener,
    transport: Transport,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    outwait_short_load(server).await;
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors, most likely: the queue keeps the client until one is free.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(stream) = stream.into_std() else { continue };
        let config = server.config.current();
        server.stats.connections_received.fetch_add(1, Ordering::Relaxed);
        if server.clients.len() >= config.maxclients as usize {
            server.stats.connections_rejected.fetch_add(1, Ordering::Relaxed);
            refuse(&stream, transport, b"-ERR max number of clients reached\r\n");
            continue;
        }
        if config.protected_mode && server.default_user_needs_no_password() && !peer.ip().to_canonical().is_loopback() {
            server.stats.connections_rejected.fetch_add(1, Ordering::Relaxed);
            refuse(&stream, transport, PROTECTED_MODE.as_bytes());
            continue;
        }
        prepare(&stream, config.tcp_keepalive);
        let laddr = stream.local_addr().map(|address| address.to_string()).unwrap_or_default();
        let id = server.clients.next_id();
        let client = Arc::new(Client::new(id, peer.to_string(), laddr, stream.as_raw_fd(), clock::unix_ms()));
        client.set(flag::TLS, transport == Transport::Tls);
        server.clients.add(Arc::clone(&client));
        pool.deal(match transport {
            Transport::Plain => Accepted::Tcp(stream, client),
            Transport::Tls => Accepted::Tls(stream, client),
        });
    }
}

/// Accepts clients of a Unix socket for ever.
pub async fn accept_unix(
    server: &'static Server,
    pool: Arc<Pool>,
    listener: std::os::unix::net::UnixListener,
    path: String,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    outwait_short_load(server).await;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(stream) = stream.into_std() else { continue };
        server.stats.connections_received.fetch_add(1, Ordering::Relaxed);
        let address = format!("{path}:0");
        let id = server.clients.next_id();
        let client = Arc::new(Client::new(id, address.clone(), address, stream.as_raw_fd(), clock::unix_ms()));
        client.set(flag::UNIX_SOCKET, true);
        server.clients.add(Arc::clone(&client));
        pool.deal(Accepted::Unix(stream, client));
    }
}

/// Tells the client why, where that costs nothing: behind TLS a reason would need the whole handshake.
fn refuse(stream: &TcpStream, transport: Transport, reply: &[u8]) {
    use std::io::Write;
    if transport == Transport::Tls {
        return;
    }
    // The client is turned away either way.
    let _ = (&*stream).write(reply);
}

fn prepare(stream: &TcpStream, keepalive_s: u32) {
    // Options only: a socket without them works, too.
    let _ = stream.set_nodelay(true);
    if keepalive_s > 0 {
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(u64::from(keepalive_s)))
            .with_interval(Duration::from_secs(u64::from(keepalive_s / 3).max(1)))
            .with_retries(3);
        let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
    }
}

const PROTECTED_MODE: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no \
password is set for the default user. In this mode connections are only accepted from the loopback interface. To connect \
from elsewhere: set a password (requirepass or ACL SETUSER default), or turn protected mode off with 'CONFIG SET \
protected-mode no' from this machine or 'protected-mode no' in the configuration, if no untrusted network can reach the \
port.\r\n";
