//! What a connection writes: replies, messages of others, a replica's stream.

use super::{Connection, Lent, REPLY_BUFFER};
use crate::replication::primary::feed::{Feed, Next};
use crate::server::clients::{OUTPUT_CHUNK, flag};
use crate::server::commands::client_list;
use std::io;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

impl Connection {
    /// Moves the replies from the worker's buffer to the connection's, to be written by `flush`.
    pub(super) fn take_replies(&mut self, lent: &mut Lent) {
        if self.feed.is_some() && !lent.reply.is_empty() {
            return self.refuse_reply(lent);
        }
        let replies = lent.reply.buffer_mut();
        if replies.is_empty() {
            return;
        }
        if self.output.is_empty() {
            // The buffers change places: nothing is copied.
            std::mem::swap(&mut self.output, replies);
        } else {
            // Doubled, what a slow reader leaves waiting would cost twice what it is.
            if self.output.capacity() - self.output.len() < replies.len() {
                self.output.reserve_exact(replies.len().max(self.output.len() / 4));
            }
            self.output.extend_from_slice(replies);
        }
        replies.clear();
        self.hold_replies();
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.write_output(context)?;
        if self.unflushed && self.stream.poll_flush(context)?.is_ready() {
            self.unflushed = false;
        }
        Ok(())
    }

    pub(super) fn write_output(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.stream.poll_write(context, &self.output[self.written..]) {
                Poll::Pending => {
                    // What is written goes once it is most of the buffer: a slow reader must not keep it for ever.
                    if self.written > OUTPUT_CHUNK && self.written > self.output.len() / 2 {
                        self.output.drain(..self.written);
                        self.written = 0;
                    }
                    // Nor must a few bytes that wait keep the worker's buffer.
                    if self.output.len() < self.output.capacity().min(REPLY_BUFFER) / 4 {
                        let buffer = std::mem::take(&mut self.output);
                        self.output = buffer.clone();
                        self.shared.lend().take_back(buffer);
                    }
                    return Ok(());
                }
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(len)) => self.written += len,
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        if self.written > 0 {
            self.unflushed = self.stream.is_buffered();
            let mut lent = self.shared.lend();
            lent.worker.stats.output_bytes.add(self.written as u64);
            lent.worker.stats.writes_processed.add(1);
            let used = std::mem::take(&mut self.written);
            self.output.clear();
            // The buffer goes back to the worker; one that a big reply has blown up goes back to the allocator, at the latest
            // when replies are small again.
            let buffer = match std::mem::take(&mut self.output) {
                grown if grown.capacity() > REPLY_BUFFER && used < grown.capacity() / 8 => {
                    Vec::with_capacity(REPLY_BUFFER)
                }
                buffer => buffer,
            };
            if self.feed.is_some() {
                // A replica's connection keeps its own: memory that comes and goes would look like a reason to evict keys.
                let is_fit = buffer.capacity() == REPLY_BUFFER;
                self.output = if is_fit { buffer } else { Vec::with_capacity(REPLY_BUFFER) };
            } else {
                lent.take_back(buffer);
            }
        }
        Ok(())
    }

    /// Takes what others have sent to this client; a blocked command that was answered ends here. While the socket is
    /// behind, messages stay where all listeners share their bytes.
    pub(super) fn take_outbox(&mut self) {
        if !self.session.client.has_mail() {
            return;
        }
        if self.output.len() - self.written > OUTPUT_CHUNK && !self.session.client.is_unblocked() {
            return;
        }
        if self.session.client.take_outbox(&mut self.output) {
            self.session.blocked = None;
            self.session.closing |= self.session.client.has(flag::CLOSE_AFTER_REPLY);
            self.deadline = None;
            // Somebody's write has served it.
            self.journal_before = u64::MAX;
            self.hold_replies();
        }
    }

    /// Fills the empty output of a replica's connection.
    pub(super) fn feed_output(&mut self, context: &mut Context<'_>) -> Next {
        if self.feed.is_none() {
            self.feed = Feed::attach(self.server, self.session.client.id);
            let nodelay = !self.server.config.current().repl_disable_tcp_nodelay;
            // A socket that refuses is slower or faster, no more.
            let _ = self.stream.set_nodelay(nodelay);
        }
        match &mut self.feed {
            Some(feed) => feed.fill(&mut self.output, context.waker()),
            None => Next::Close,
        }
    }

    /// A replica takes its reply for a part of the stream: whoever makes us reply is no replica.
    pub(super) fn refuse_reply(&mut self, lent: &mut Lent) {
        let client = &self.session.client;
        let table = lent.worker.server.table;
        let command = match client.last_command.load(Ordering::Relaxed) {
            0 => "NULL",
            id => &table.entry(id - 1).full_name,
        };
        let reply = lent.reply.as_bytes();
        if reply.first() == Some(&b'-') {
            let text = String::from_utf8_lossy(&reply[1..]);
            tracing::warn!(
                "== CRITICAL == This master is sending an error to its replica: '-{}' after processing the command \
                 '{command}'",
                text.trim_end()
            );
        }
        let mut line = String::new();
        client_list::describe(client, table, lent.worker.now_ms, &mut line);
        tracing::warn!("Replica generated a reply to command '{command}', disconnecting it: {line}");
        lent.reply.truncate(0);
        lent.worker.server.clients.kill(client);
    }
}
