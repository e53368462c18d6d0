//! The link's bytes: lines during the handshake, raw bytes of a snapshot, then the stream. Requests go out as arrays.

use crate::base::clock;
use crate::net::stream::Stream;
use crate::resp::encode;
use crate::server::Server;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

/// Bytes read at once.
const PIECE: usize = 128 * 1024;
/// A line of the handshake is short; whoever sends more speaks something else.
const LINE_MAX: usize = 16 * 1024;

pub struct Wire {
    pub server: &'static Server,
    stream: Stream,
    /// What was received; `start` is where the unused rest begins.
    pub input: Vec<u8>,
    pub start: usize,
}

impl Wire {
    pub fn new(server: &'static Server, stream: Stream) -> Self {
        Wire { server, stream, input: Vec::new(), start: 0 }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The bytes that were received and not used yet.
    pub fn rest(&self) -> &[u8] {
        &self.input[self.start..]
    }

    /// Waits for more bytes. The end of the connection is an error. May be given up while it waits.
    pub async fn read_some(&mut self) -> io::Result<usize> {
        self.compact();
        let len = poll_fn(|context| {
            let old = self.input.len();
            self.input.resize(old + PIECE, 0);
            let result = self.stream.poll_read(context, &mut self.input[old..]);
            let len = if let Poll::Ready(Ok(len)) = &result { *len } else { 0 };
            self.input.truncate(old + len);
            result
        })
        .await?;
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection lost"));
        }
        self.server.role.last_io_ms.store(clock::unix_ms(), Ordering::Relaxed);
        self.server.stats.primary_bytes.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }

    /// Gives the room of used bytes back to those that follow.
    fn compact(&mut self) {
        if self.start == self.input.len() {
            self.input.clear();
            // What a long command has taken is not kept for the next one.
            self.input.shrink_to(PIECE * 2);
            self.start = 0;
        } else if self.start > PIECE {
            self.input.drain(..self.start);
            self.start = 0;
        }
    }

    /// A line that was received whole, without its end.
    pub fn take_line(&mut self) -> io::Result<Option<String>> {
        let rest = self.rest();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            if rest.len() > LINE_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of the handshake is too long"));
            }
            return Ok(None);
        };
        let line = &rest[..end];
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        self.start += end + 1;
        Ok(Some(line))
    }

    /// The next line, if it comes within repl-timeout.
    pub async fn line(&mut self) -> io::Result<String> {
        let patience = Duration::from_secs(u64::from(self.server.config.current().repl_timeout));
        let line = async {
            loop {
                if let Some(line) = self.take_line()? {
                    return Ok(line);
                }
                self.read_some().await?;
            }
        };
        tokio::time::timeout(patience, line).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends a command.
    pub async fn send(&mut self, words: &[&[u8]]) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode(&mut bytes, words.iter().copied());
        self.write(&bytes).await
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }
}
