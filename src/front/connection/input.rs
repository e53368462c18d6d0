//! What a connection reads, and the requests in it.
//!
//! Requests are run in the buffer into which they were read. Only an unfinished one is copied to `input`, and goes on there until it
//! is complete: by way of the worker's buffer, or straight to its place if it is long.

use super::{Connection, Lent, READ_BUFFER};
use crate::front::parking;
use crate::net::console;
use crate::net::stream::Stream;
use crate::resp::Limits;
use crate::server::clients::OUTPUT_CHUNK;
use crate::server::dispatch::{self, BATCH_MAX, BatchEnd};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What one read of a very long argument may bring.
const READ_MOST: usize = 4 << 20;
/// Room that is set aside for an argument once its length is known. The client is charged for it, as it is by Redis.
const ROOM_MOST: usize = 4 << 20;
/// Replies are written in between once so many bytes have gathered.
pub(super) const REPLY_FLUSH: usize = 256 * 1024;

impl Connection {
    /// Reads once and runs what came.
    pub(super) fn read(&mut self, context: &mut Context<'_>) -> io::Result<Poll<usize>> {
        let shared = Rc::clone(&self.shared);
        let lent = &mut *shared.lend();
        if !self.input.is_empty() {
            return self.read_more(context, lent);
        }
        let mut buffer = std::mem::take(&mut lent.buffer);
        let result = self.stream.poll_read(context, &mut buffer);
        let result = match result {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(len)) => {
                if self.is_local {
                    parking::note_local_read();
                }
                lent.worker.stats.input_bytes.add(len as u64);
                lent.worker.stats.reads_processed.add(1);
                self.report_query(len, READ_BUFFER);
                let rest = self.run(lent, &mut buffer[..len]);
                if rest < len {
                    let wanted = self.parser.wanted().max(len - rest);
                    self.input.reserve_exact(wanted.min(ROOM_MOST));
                    self.input.extend_from_slice(&buffer[rest..len]);
                }
                self.check_query(lent);
                Ok(Poll::Ready(len))
            }
        };
        lent.buffer = buffer;
        result
    }

    /// Reads on behind an unfinished request: by way of the worker's buffer, or straight to its place if much of one argument is
    /// missing. Room is taken for what is known to come and no more, since the client is charged for it.
    pub(super) fn read_more(&mut self, context: &mut Context<'_>, lent: &mut Lent) -> io::Result<Poll<usize>> {
        let old = self.input.len();
        let missing = self.parser.wanted().saturating_sub(old);
        let result = if missing <= READ_BUFFER {
            let result = self.stream.poll_read(context, &mut lent.buffer);
            if let Poll::Ready(Ok(len)) = &result {
                self.input.extend_from_slice(&lent.buffer[..*len]);
            }
            result
        } else {
            // Announced is not sent: nothing is touched, and beyond a moderate size not even set aside, before it is needed.
            let next = missing.min(old.clamp(READ_BUFFER, READ_MOST));
            self.input.reserve_exact(next.max(missing.min(ROOM_MOST)));
            self.input.resize(old + next, 0);
            let result = self.stream.poll_read(context, &mut self.input[old..]);
            self.input.truncate(old + if let Poll::Ready(Ok(len)) = &result { *len } else { 0 });
            result
        };
        match result {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(len)) => {
                lent.worker.stats.input_bytes.add(len as u64);
                lent.worker.stats.reads_processed.add(1);
                if !self.waits() {
                    self.run_own(lent);
                }
                self.check_query(lent);
                Ok(Poll::Ready(len))
            }
        }
    }

    /// Runs what waited behind a blocked command.
    pub(super) fn run_input(&mut self) {
        let shared = Rc::clone(&self.shared);
        self.run_own(&mut shared.lend());
    }

    pub(super) fn run_own(&mut self, lent: &mut Lent) {
        let mut input = std::mem::take(&mut self.input);
        self.report_query(input.len(), input.capacity());
        let rest = self.run(lent, &mut input);
        if rest < input.len() {
            input.drain(..rest);
            self.input = input;
        }
    }

    /// Parses and runs requests until the buffer is used up; returns where the unfinished rest begins.
    pub(super) fn run(&mut self, lent: &mut Lent, buffer: &mut [u8]) -> usize {
        let mut start = 0;
        self.journal_before = self.server.journal.end();
        if let Some(feed) = &self.feed {
            feed.heard();
        }
        lent.worker.renew_if_changed();
        while start < buffer.len() && !self.waits() && !self.session.closing {
            let limits =
                Limits { bulk_len_max: lent.worker.settings.bulk_len_max, authenticated: self.session.authenticated };
            lent.batch.clear();
            let parsed = self.parser.parse(buffer, start, BATCH_MAX, limits, &mut lent.batch);
            let (rest, error) = match parsed {
                Ok(rest) => (rest, None),
                Err((rest, error)) => (rest, Some(error)),
            };
            let may_settle = self.may_settle(buffer[start]);
            self.lend_console();
            let Lent { worker, batch, reply, .. } = lent;
            let end = dispatch::run_batch(worker, &mut self.session, batch, buffer, reply, may_settle);
            self.take_console_back();
            if end == BatchEnd::Unsettled {
                self.parser.reset();
                if self.begin_to_settle() {
                    break;
                }
                self.is_settled = true;
                continue;
            }
            if let BatchEnd::Stopped(executed) = end {
                self.parser.reset();
                start = lent.batch.end(executed - 1);
                break;
            }
            if let Some(error) = error {
                lent.reply.error(&format!("ERR {}", error.0));
                lent.worker.stats.count_error("ERR");
                self.session.closing = true;
                start = buffer.len();
                break;
            }
            start = rest;
            if lent.batch.is_empty() {
                break;
            }
            if lent.reply.len() >= REPLY_FLUSH {
                self.take_replies(lent);
                self.check_output(lent);
                if self.session.client.is_killed() {
                    return buffer.len();
                }
            }
        }
        self.take_replies(lent);
        if self.output.len() > OUTPUT_CHUNK {
            self.check_output(lent);
        }
        start
    }

    /// Before a batch: who debugs scripts talks with the debugger through this very socket.
    #[inline]
    pub(super) fn lend_console(&mut self) {
        if self.session.script_debug.is_some() {
            console::lend(std::mem::replace(&mut self.stream, Stream::Lent));
        }
    }

    #[inline]
    pub(super) fn take_console_back(&mut self) {
        if let Stream::Lent = self.stream
            && let Some(stream) = console::take_back()
        {
            self.stream = stream;
        }
    }
}
