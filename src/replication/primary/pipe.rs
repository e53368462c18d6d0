//! A snapshot on its way to several replicas: written once, read by each at its own pace, never far ahead of the slowest.
//!
//! ```text
//!   snapshot thread ─► | piece | piece | piece |        pieces that every reader has taken go
//!                          ▲ slowest     ▲ fastest      WINDOW bytes at most: then the writer sleeps
//! ```

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// Bytes between the slowest reader and the writer.
const WINDOW: u64 = 4 << 20;
/// How often a writer that waits for room looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    /// Position of the first piece, and behind the last.
    start: u64,
    end: u64,
    is_complete: bool,
    /// Where each reader stands; none once he has left.
    readers: Vec<Option<u64>>,
}

#[derive(Default)]
pub struct Pipe {
    state: Mutex<State>,
    room: Condvar,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Bytes,
    /// Later.
    NotYet,
    /// Nothing will come any more.
    End,
}

impl Pipe {
    /// One more reader, from the beginning; nobody joins once something was written.
    pub fn add_reader(&self) -> usize {
        let mut state = self.state.lock();
        state.readers.push(Some(0));
        state.readers.len() - 1
    }

    /// Appends; sleeps while the slowest reader is too far behind. An error if nobody reads any more, or `is_wanted` says no.
    pub fn write(&self, bytes: &[u8], is_wanted: impl Fn() -> bool) -> io::Result<()> {
        let mut state = self.state.lock();
        loop {
            let slowest = state.readers.iter().flatten().min().copied();
            let Some(slowest) = slowest.filter(|_| is_wanted()) else { return Err(io::ErrorKind::BrokenPipe.into()) };
            if state.end - slowest < WINDOW {
                break;
            }
            self.room.wait_for(&mut state, LOOK);
        }
        state.end += bytes.len() as u64;
        state.pieces.push_back(Bytes::copy_from_slice(bytes));
        Ok(())
    }

    /// Nothing more will come.
    pub fn complete(&self) {
        self.state.lock().is_complete = true;
    }

    /// Appends the next piece to `into`.
    pub fn read(&self, reader: usize, into: &mut Vec<u8>) -> Piece {
        let mut state = self.state.lock();
        let Some(position) = state.readers[reader] else { return Piece::End };
        let mut start = state.start;
        let piece = state.pieces.iter().find(|piece| {
            let is_next = start == position;
            start += piece.len() as u64;
            is_next
        });
        let Some(piece) = piece.cloned() else {
            return if state.is_complete { Piece::End } else { Piece::NotYet };
        };
        state.readers[reader] = Some(position + piece.len() as u64);
        self.let_go(&mut state);
        drop(state);
        into.extend_from_slice(&piece);
        Piece::Bytes
    }

    /// The reader is gone, or has all.
    pub fn leave(&self, reader: usize) {
        let mut state = self.state.lock();
        state.readers[reader] = None;
        self.let_go(&mut state);
    }

    fn let_go(&self, state: &mut State) {
        let slowest = state.readers.iter().flatten().min().copied().unwrap_or(state.end);
        while state.pieces.front().is_some_and(|piece| state.start + piece.len() as u64 <= slowest) {
            state.start += state.pieces.pop_front().map_or(0, |piece| piece.len() as u64);
        }
        self.room.notify_all();
    }

    /// How many still read.
    pub fn readers(&self) -> usize {
        self.state.lock().readers.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn readers_go_at_their_own_pace() {
        let pipe = Pipe::default();
        let (fast, slow) = (pipe.add_reader(), pipe.add_reader());
        pipe.write(b"one", || true).expect("two readers");
        pipe.write(b"two", || true).expect("two readers");
        let mut bytes = Vec::new();
        assert_eq!(pipe.read(fast, &mut bytes), Piece::Bytes);
        assert_eq!(pipe.read(fast, &mut bytes), Piece::Bytes);
        assert_eq!(pipe.read(fast, &mut bytes), Piece::NotYet);
        assert_eq!(bytes, b"onetwo");
        assert_eq!(pipe.state.lock().pieces.len(), 2);
        pipe.leave(fast);
        pipe.complete();
        bytes.clear();
        while pipe.read(slow, &mut bytes) == Piece::Bytes {}
        assert_eq!(bytes, b"onetwo");
        assert_eq!(pipe.read(slow, &mut bytes), Piece::End);
        assert_eq!(pipe.state.lock().pieces.len(), 0);
        pipe.leave(slow);
        assert!(pipe.write(b"three", || true).is_err(), "nobody reads");
    }

    #[test]
    fn the_writer_waits_for_the_slowest() {
        let pipe = Arc::new(Pipe::default());
        let reader = pipe.add_reader();
        let writer = Arc::clone(&pipe);
        let thread = std::thread::spawn(move || {
            let piece = vec![7; 1 << 20];
            (0..20).all(|_| writer.write(&piece, || true).is_ok())
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(pipe.state.lock().end <= WINDOW + (1 << 20));
        let mut bytes = Vec::new();
        while bytes.len() < 20 << 20 {
            if pipe.read(reader, &mut bytes) == Piece::NotYet {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert!(thread.join().expect("the writer"));
        let cancelled = Arc::new(Pipe::default());
        cancelled.add_reader();
        assert!(cancelled.write(b"x", || false).is_err());
    }
}
