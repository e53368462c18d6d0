//! The other end of MIGRATE: a connection that speaks AUTH, SELECT and RESTORE, kept for a while for the next MIGRATE.

use super::migrate::Failure;
use crate::net::stream::Stream;
use std::future::{Future, poll_fn};
use std::io;
use std::time::Duration;

/// A longer line is no reply to RESTORE.
const LINE_MAX: usize = 64 * 1024;

pub struct Target {
    stream: Stream,
    input: Vec<u8>,
    /// The database that was selected last on this connection.
    pub selected_db: Option<i64>,
    /// When it was used last, in milliseconds.
    pub used_ms: i64,
}

/// A status or an error.
pub type Answer = Result<(), String>;

impl Target {
    pub fn new(stream: Stream) -> Self {
        Target { stream, input: Vec::new(), selected_db: None, used_ms: 0 }
    }

    pub async fn write(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), Failure> {
        within(timeout, self.stream.write_all(bytes), "writing to").await
    }

    /// One reply: everything that is sent here is answered by a single line.
    pub async fn answer(&mut self, timeout: Duration) -> Result<Answer, Failure> {
        let line = within(timeout, self.line(), "reading to").await?;
        match line.split_first() {
            Some((b'+', _)) => Ok(Ok(())),
            Some((b'-', text)) => Ok(Err(String::from_utf8_lossy(text).into_owned())),
            _ => Err(Failure::lost("reading to")),
        }
    }

    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.input.drain(..=end).collect();
                line.truncate(line.len() - 1 - usize::from(line.ends_with(b"\r\n")));
                return Ok(line);
            }
            if self.input.len() > LINE_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut buffer = [0; 4096];
            let len = poll_fn(|context| self.stream.poll_read(context, &mut buffer)).await?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(&buffer[..len]);
        }
    }
}

/// An error or a silence while doing something with the target.
async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = io::Result<T>>,
    what: &'static str,
) -> Result<T, Failure> {
    match tokio::time::timeout(timeout, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(Failure::lost(what)),
        Err(_) => Err(Failure::timed_out(what)),
    }
}
