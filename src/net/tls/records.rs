//! Plain text ⇄ records: rustls's unbuffered state machine, the same for both sides of a connection.
//!
//! ```text
//!   process(bytes) ─┬─ ReadTraffic ─► plain text      ─┐
//!                   ├─ EncodeTlsData ─► outgoing      ─┼─► again, behind the bytes that are done with
//!                   ├─ TransmitTlsData ─► (in order)  ─┘
//!                   └─ BlockedHandshake, WriteTraffic, PeerClosed: nothing more to be had from these bytes
//! ```

use rustls::CommonState;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use std::io;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Handshake,
    Traffic,
    /// The peer says nothing more.
    Closed,
}

pub enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// A buffer whose bytes are made once: what is in it counts up to `len`.
#[derive(Default)]
pub struct Out {
    bytes: Vec<u8>,
    len: usize,
}

impl Out {
    pub fn clear(&mut self) {
        self.len = 0;
    }

    pub fn filled(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// All of it, at least `len` bytes.
    pub fn room(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
        &mut self.bytes
    }

    /// Has `write` put something behind what is there, with as much room as it asks for.
    fn append<E>(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
        required: impl Fn(&E) -> Option<usize>,
    ) -> Result<(), E> {
        loop {
            match write(&mut self.bytes[self.len..]) {
                Ok(len) => {
                    self.len += len;
                    return Ok(());
                }
                Err(error) => match required(&error) {
                    Some(len) => self.room(self.len + len),
                    None => return Err(error),
                },
            };
        }
    }
}

impl Side {
    pub fn state(&self) -> &CommonState {
        match self {
            Side::Server(connection) => connection,
            Side::Client(connection) => connection,
        }
    }

    /// Goes through the records in `bytes`: how many bytes are done with, and how things stand now.
    pub fn advance(
        &mut self,
        bytes: &mut [u8],
        outgoing: &mut Vec<u8>,
        plain: impl FnMut(&[u8]),
    ) -> (usize, Result<Phase, rustls::Error>) {
        match self {
            Side::Server(connection) => advance(connection, bytes, outgoing, plain),
            Side::Client(connection) => advance(connection, bytes, outgoing, plain),
        }
    }

    /// Makes records of plain text, behind those that the state machine itself has to send. `kept` is what is unfinished of the
    /// peer's records.
    pub fn seal(&mut self, kept: &mut Vec<u8>, text: &[u8], out: &mut Out) -> io::Result<()> {
        self.write_with(kept, out, |traffic, room| traffic.encrypt(text, room))
    }

    /// Makes the record that says: nothing more comes.
    pub fn seal_goodbye(&mut self, kept: &mut Vec<u8>, out: &mut Out) -> io::Result<()> {
        self.write_with(kept, out, |traffic, room| traffic.queue_close_notify(room))
    }

    fn write_with(
        &mut self,
        kept: &mut Vec<u8>,
        out: &mut Out,
        write: impl FnMut(&mut dyn Writes, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        match self {
            Side::Server(connection) => write_with(connection, kept, out, write),
            Side::Client(connection) => write_with(connection, kept, out, write),
        }
    }
}

/// What both of rustls's connections can do, each in a type of its own.
trait Records {
    type Data;
    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn state(&self) -> &CommonState;
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

/// A connection that may send plain text, whichever its side.
trait Writes {
    fn encrypt(&mut self, text: &[u8], room: &mut [u8]) -> Result<usize, EncryptError>;
    fn queue_close_notify(&mut self, room: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<D> Writes for WriteTraffic<'_, D> {
    fn encrypt(&mut self, text: &[u8], room: &mut [u8]) -> Result<usize, EncryptError> {
        WriteTraffic::encrypt(self, text, room)
    }

    fn queue_close_notify(&mut self, room: &mut [u8]) -> Result<usize, EncryptError> {
        WriteTraffic::queue_close_notify(self, room)
    }
}

fn advance<R: Records>(
    connection: &mut R,
    bytes: &mut [u8],
    outgoing: &mut Vec<u8>,
    mut plain: impl FnMut(&[u8]),
) -> (usize, Result<Phase, rustls::Error>) {
    let mut done = 0;
    loop {
        let UnbufferedStatus { mut discard, state } = connection.process(&mut bytes[done..]);
        let mut end = None;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            discard += record.discard;
                            plain(record.payload);
                        }
                        Err(error) => end = Some(Err(error)),
                    }
                }
                // The usual end: every byte was part of plain text.
                if done + discard == bytes.len() {
                    end.get_or_insert(Ok(Phase::Traffic));
                }
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing),
            // It is on its way: `outgoing` goes before anything else.
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::BlockedHandshake) => end = Some(Ok(Phase::Handshake)),
            Ok(ConnectionState::WriteTraffic(_)) => end = Some(Ok(Phase::Traffic)),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => end = Some(Ok(Phase::Closed)),
            // Data before the end of the handshake is not asked for.
            Ok(_) => end = Some(Err(rustls::Error::HandshakeNotComplete)),
            Err(error) => end = Some(Err(error)),
        }
        done += discard;
        if let Some(end) = end {
            if end.is_err() {
                encode_alert(connection, &mut bytes[done..], outgoing);
            }
            return (done, end);
        }
    }
}

/// After an error: what tells the peer of it. The bytes at fault must not be looked at again.
fn encode_alert<R: Records>(connection: &mut R, rest: &mut [u8], outgoing: &mut Vec<u8>) {
    while connection.state().wants_write() {
        let Ok(ConnectionState::EncodeTlsData(data)) = connection.process(rest).state else { return };
        encode(data, outgoing);
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) {
    let len = outgoing.len();
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = data.encode(&mut []) {
        outgoing.resize(len + required_size, 0);
        // It says itself how much it needs.
        let written = data.encode(&mut outgoing[len..]).unwrap_or(0);
        outgoing.truncate(len + written);
    }
}

fn write_with<R: Records>(
    connection: &mut R,
    kept: &mut Vec<u8>,
    out: &mut Out,
    mut write: impl FnMut(&mut dyn Writes, &mut [u8]) -> Result<usize, EncryptError>,
) -> io::Result<()> {
    loop {
        let UnbufferedStatus { discard, state } = connection.process(kept);
        let mut is_written = false;
        match state.map_err(io::Error::other)? {
            ConnectionState::WriteTraffic(mut traffic) => {
                let required = |error: &EncryptError| match error {
                    EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
                    _ => None,
                };
                out.append(|room| write(&mut traffic, room), required).map_err(io::Error::other)?;
                is_written = true;
            }
            ConnectionState::EncodeTlsData(mut data) => {
                let required = |error: &EncodeError| match error {
                    EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
                    _ => None,
                };
                out.append(|room| data.encode(room), required).map_err(io::Error::other)?;
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            // Said once; one may go on writing.
            ConnectionState::PeerClosed => {}
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        kept.drain(..discard);
        if is_written {
            return Ok(());
        }
    }
}
