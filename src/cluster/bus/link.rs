//! One connection of the bus: whole messages in, queued bytes out.

use super::Bus;
use crate::cluster::machine::node::LinkId;
use crate::cluster::message;
use crate::net::stream::Stream;
use atomic_waker::AtomicWaker;
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

const READ: usize = 16 * 1024;

/// What others have for a link. Any thread may send; the link's task writes.
#[derive(Default)]
pub struct Outgoing {
    queue: Mutex<VecDeque<Bytes>>,
    bytes: AtomicUsize,
    is_over: AtomicBool,
    waker: AtomicWaker,
}

impl Outgoing {
    pub fn send(&self, bytes: Bytes) {
        self.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        self.queue.lock().push_back(bytes);
        self.waker.wake();
    }

    pub fn close(&self) {
        self.is_over.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn is_closed(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn next(&self) -> Option<Bytes> {
        self.queue.lock().pop_front()
    }

    fn note_written(&self, len: usize) {
        self.bytes.fetch_sub(len, Ordering::Relaxed);
    }
}

struct Wire<'a> {
    stream: Stream,
    outgoing: &'a Outgoing,
    unsent: Bytes,
}

impl Wire<'_> {
    /// Writes what waits, reads what comes: how many bytes came, 0 at the end.
    fn poll(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.outgoing.waker.register(context.waker());
        if self.outgoing.is_closed() {
            return Poll::Ready(Ok(0));
        }
        loop {
            if self.unsent.is_empty() {
                match self.outgoing.next() {
                    Some(bytes) => self.unsent = bytes,
                    None => break,
                }
            }
            match self.stream.poll_write(context, &self.unsent)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(len) => {
                    self.outgoing.note_written(len);
                    self.unsent.advance(len);
                }
                Poll::Pending => break,
            }
        }
        // What TLS has kept back goes out when the socket takes it.
        let _ = self.stream.poll_flush(context)?;
        self.stream.poll_read(context, buffer)
    }
}

/// Serves a link to its end.
pub async fn serve(bus: &'static Bus, id: LinkId, stream: Stream, outgoing: &Outgoing) {
    let mut wire = Wire { stream, outgoing, unsent: Bytes::new() };
    let (mut input, mut buffer) = (Vec::new(), vec![0; READ]);
    loop {
        match poll_fn(|context| wire.poll(context, &mut buffer)).await {
            Ok(0) => return,
            Ok(len) => input.extend_from_slice(&buffer[..len]),
            Err(error) => return tracing::debug!("I/O error on a node link: {error}"),
        }
        if !take_messages(bus, id, &mut input) {
            return tracing::warn!("Bad message length or signature received from Cluster bus.");
        }
    }
}

/// Hands over every message that is there whole; false if this is no bus.
fn take_messages(bus: &'static Bus, id: LinkId, input: &mut Vec<u8>) -> bool {
    let mut at = 0;
    while let Some(start) = input.get(at..at + 8).and_then(|start| start.try_into().ok()) {
        let Some(len) = message::announced_len(start) else { return false };
        let Some(bytes) = input.get(at..at + len) else { break };
        bus.input(|machine| machine.receive(id, bytes));
        at += len;
    }
    input.drain(..at);
    true
}
