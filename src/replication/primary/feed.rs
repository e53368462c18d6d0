//! What a replica's connection sends: whenever its output is empty, the feed fills it from the snapshot or the journal.
//! Nothing of the stream is copied per replica but what its socket is just taking.

use super::link::{Inner, Link, Payload, Stage};
use super::pipe;
use super::spill::Piece;
use crate::base::clock;
use crate::server::Server;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

/// Bytes handed to the connection at once.
const PIECE: usize = 64 * 1024;
const FILE_PIECE: usize = 256 * 1024;

pub struct Feed {
    server: &'static Server,
    link: Arc<Link>,
}

/// What the connection does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Write what was filled in.
    Write,
    /// Nothing now; the waker is called.
    Sleep,
    /// The link is over.
    Close,
}

impl Feed {
    /// The feed of a connection whose client has become a replica.
    pub fn attach(server: &'static Server, client: u64) -> Option<Self> {
        let link = super::primary().links.find(client)?;
        Some(Feed { server, link })
    }

    /// Something has come from the replica: while it loads a snapshot it sends newlines, which show that it is alive.
    pub fn heard(&self) {
        self.link.replica.ack_ms.store(clock::unix_ms(), Ordering::Relaxed);
    }

    /// Fills the empty output.
    pub fn fill(&mut self, output: &mut Vec<u8>, waker: &Waker) -> Next {
        let link = Arc::clone(&self.link);
        let mut inner = link.lock();
        inner.stalled_since_ms = 0;
        if !inner.control.is_empty() {
            output.append(&mut inner.control);
            return Next::Write;
        }
        match inner.stage {
            Stage::Waiting | Stage::Prepared | Stage::AwaitAck | Stage::Transmitted => Next::Sleep,
            Stage::Payload(_) => self.fill_from_payload(&mut inner, output),
            Stage::Stream => self.fill_from_journal(output, waker),
        }
    }

    fn fill_from_payload(&self, inner: &mut Inner, output: &mut Vec<u8>) -> Next {
        let Stage::Payload(payload) = &mut inner.stage else { return Next::Sleep };
        match payload {
            Payload::Pipe { pipe, reader, mark } => match pipe.read(*reader, output) {
                pipe::Piece::NotYet => return Next::Sleep,
                pipe::Piece::Bytes => {}
                pipe::Piece::End => {
                    output.extend_from_slice(mark.as_bytes());
                    inner.finish_payload(&self.link);
                }
            },
            Payload::File { file, at, len } => {
                output.resize(FILE_PIECE.min((*len - *at) as usize), 0);
                let Ok(read) = file.read_at(output, *at) else { return Next::Close };
                if read == 0 && at < len {
                    return Next::Close;
                }
                output.truncate(read);
                *at += read as u64;
                if at == len {
                    inner.finish_payload(&self.link);
                }
            }
        }
        inner.stalled_since_ms = clock::unix_ms();
        Next::Write
    }

    fn fill_from_journal(&self, output: &mut Vec<u8>, waker: &Waker) -> Next {
        if self.link.is_spilled() {
            match self.fill_from_disk(output) {
                Piece::InMemory => {}
                Piece::Bytes => return Next::Write,
                Piece::Gone => return Next::Close,
            }
        }
        let reader = &self.link.replica.reader;
        let journal = &self.server.journal;
        let position = reader.position.load(Ordering::Acquire);
        if position == journal.end() {
            // In this order: what is appended after the look finds the waker.
            reader.waker.register(waker);
            if journal.sleeps(reader, position) {
                return Next::Sleep;
            }
        }
        match journal.read_on(reader, PIECE, output) {
            Ok(len) => {
                self.server.replicas.output_bytes.fetch_add(len as u64, Ordering::Relaxed);
                Next::Write
            }
            // It may have gone to disk just now.
            Err(_) => match self.fill_from_disk(output) {
                Piece::Bytes => Next::Write,
                Piece::InMemory | Piece::Gone => {
                    tracing::warn!("The stream no longer has what replica {} needs next", self.link.replica.name());
                    Next::Close
                }
            },
        }
    }

    fn fill_from_disk(&self, output: &mut Vec<u8>) -> Piece {
        let before = output.len();
        let piece = super::primary().spill.read(self.server, &self.link, output);
        self.server.replicas.output_bytes.fetch_add((output.len() - before) as u64, Ordering::Relaxed);
        piece
    }
}

/// The connection is over.
impl Drop for Feed {
    fn drop(&mut self) {
        super::full_sync::detach(self.server, &self.link);
    }
}
