//! Links that this server opens itself.

use super::direct::Direct;
use super::stream::Stream;
use super::tls::TlsStream;
use rustls::ClientConfig;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, lookup_host};

/// Where from, and how long it may take.
#[derive(Clone, Debug, Default)]
pub struct Dial {
    /// Local address to connect from (bind-source-addr).
    pub source: Option<IpAddr>,
    pub timeout: Duration,
}

/// Connects to a host and port: the first of its addresses that answers.
pub async fn tcp(host: &str, port: u16, dial: &Dial) -> io::Result<Stream> {
    let connect = async {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host((host, port)).await? {
            match connect(address, dial.source).await {
                Ok(stream) => return Ok(Stream::Tcp(Direct(stream))),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    tokio::time::timeout(dial.timeout, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The same, speaking TLS from the beginning.
pub async fn tls(host: &str, port: u16, dial: &Dial, config: Arc<ClientConfig>) -> io::Result<Stream> {
    let handshake = async {
        let Stream::Tcp(stream) = tcp(host, port, dial).await? else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        Ok(Stream::Tls(TlsStream::connect(stream.0, config, host).await?))
    };
    tokio::time::timeout(dial.timeout, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<tokio::net::TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
