//! A blocking RESP2/RESP3 client over a `TcpStream`, independent of the server's own codec: a codec that tests itself
//! proves nothing.
//!
//! Every read has a time limit, so that a server that stays silent fails a test and does not hang it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// One reply, with every RESP type kept apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Status(String),
    Error(String),
    Integer(i64),
    Double(String),
    Boolean(bool),
    BigNumber(String),
    Bulk(Vec<u8>),
    Verbatim(String, Vec<u8>),
    /// `$-1`, `*-1` (RESP2) or `_` (RESP3); `wire` tells them apart.
    Nil,
    Array(Vec<Reply>),
    Set(Vec<Reply>),
    Push(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
}

impl Reply {
    /// The text of a status, bulk or verbatim reply; panics on anything else, as a test should.
    pub fn text(&self) -> String {
        match self {
            Reply::Status(text) | Reply::Double(text) | Reply::BigNumber(text) => text.clone(),
            Reply::Bulk(bytes) | Reply::Verbatim(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("no text in {other:?}"),
        }
    }

    pub fn integer(&self) -> i64 {
        match self {
            Reply::Integer(number) => *number,
            other => panic!("no integer: {other:?}"),
        }
    }

    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items,
            other => panic!("no array: {other:?}"),
        }
    }

    pub fn is_ok(&self) -> bool {
        *self == Reply::Status("OK".into())
    }

    pub fn is_error(&self, start: &str) -> bool {
        matches!(self, Reply::Error(text) if text.starts_with(start))
    }
}

pub struct Client {
    stream: TcpStream,
    /// Around everything that is read and written, if the port wants it.
    tls: Option<rustls::ClientConnection>,
    input: Vec<u8>,
    start: usize,
    /// Out-of-band pushes met while a command's reply was awaited.
    pub pushes: VecDeque<Reply>,
    /// The raw bytes of the reply read last.
    pub wire: Vec<u8>,
}

impl Client {
    pub fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        Ok(Client { stream, tls: None, input: Vec::new(), start: 0, pushes: VecDeque::new(), wire: Vec::new() })
    }

    /// The same through TLS; the handshake comes with the first bytes.
    pub fn connect_tls(port: u16, config: &Arc<rustls::ClientConfig>) -> io::Result<Client> {
        let name = rustls::pki_types::ServerName::try_from("localhost").map_err(io::Error::other)?;
        let session = rustls::ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Client { tls: Some(session), ..Client::connect(port)? })
    }

    /// The TLS session, for tests of what only TLS can do.
    pub fn tls(&mut self) -> &mut rustls::ClientConnection {
        self.tls.as_mut().expect("a client through TLS")
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn read_timeout(&self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("a timeout above zero");
    }

    /// Sends one command and waits for its reply; a broken connection fails the test.
    pub fn call<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> Reply {
        self.try_call(argv).unwrap_or_else(|error| panic!("{:?}: {error}", printable(argv)))
    }

    /// As `call`, from one line of words separated by spaces.
    pub fn line(&mut self, line: &str) -> Reply {
        let argv: Vec<&str> = line.split_whitespace().collect();
        self.call(&argv)
    }

    pub fn try_call<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> io::Result<Reply> {
        self.send(argv)?;
        self.reply()
    }

    pub fn send<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> io::Result<()> {
        self.write(&request(argv))
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(session) => {
                let mut stream = rustls::Stream::new(session, &mut self.stream);
                stream.write_all(bytes)?;
                stream.flush()
            }
            None => self.stream.write_all(bytes),
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(session) => rustls::Stream::new(session, &mut self.stream).read(buffer),
            None => self.stream.read(buffer),
        }
    }

    /// The next reply that is no push; pushes met on the way are kept in `pushes`.
    pub fn reply(&mut self) -> io::Result<Reply> {
        loop {
            self.wire.clear();
            match self.read_frame()? {
                push @ Reply::Push(_) => self.pushes.push_back(push),
                reply => return Ok(reply),
            }
        }
    }

    /// The next frame of any kind, kept pushes first.
    pub fn frame(&mut self) -> io::Result<Reply> {
        if let Some(push) = self.pushes.pop_front() {
            return Ok(push);
        }
        self.wire.clear();
        self.read_frame()
    }

    /// The next frame unless the connection stays silent for `limit`.
    pub fn frame_within(&mut self, limit: Duration) -> io::Result<Option<Reply>> {
        let before = self.stream.read_timeout()?;
        self.stream.set_read_timeout(Some(limit))?;
        let result = self.frame();
        self.stream.set_read_timeout(before)?;
        match result {
            Ok(frame) => Ok(Some(frame)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All bytes until the server closes the connection.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = self.input.split_off(self.start);
        self.input.clear();
        self.start = 0;
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.read_some(&mut chunk) {
                Ok(0) => return Ok(rest),
                Ok(count) => rest.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(rest),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 && self.start == self.input.len() {
            self.input.clear();
            self.start = 0;
        }
        let mut chunk = [0; 16 * 1024];
        match self.read_some(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.input.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut from = self.start;
        let end = loop {
            match self.input[from..].windows(2).position(|pair| pair == b"\r\n") {
                Some(position) => break from + position,
                None => {
                    let unread = self.input.len() - self.start;
                    self.fill()?;
                    from = self.start + unread.saturating_sub(1);
                }
            }
        };
        let line = self.input[self.start..end].to_vec();
        self.wire.extend_from_slice(&self.input[self.start..end + 2]);
        self.start = end + 2;
        String::from_utf8(line).map_err(|_| io::Error::other("reply line is not UTF-8"))
    }

    fn read_bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.input.len() - self.start < count + 2 {
            self.fill()?;
        }
        let bytes = self.input[self.start..self.start + count].to_vec();
        self.wire.extend_from_slice(&self.input[self.start..self.start + count + 2]);
        self.start += count + 2;
        Ok(bytes)
    }

    fn read_frame(&mut self) -> io::Result<Reply> {
        let line = self.read_line()?;
        if line.is_empty() {
            return Err(io::Error::other("empty reply line"));
        }
        let (kind, text) = line.split_at(1);
        let number = || text.parse::<i64>().map_err(|_| io::Error::other(format!("bad reply line {line:?}")));
        Ok(match kind {
            "+" => Reply::Status(text.into()),
            "-" => Reply::Error(text.into()),
            ":" => Reply::Integer(number()?),
            "," => Reply::Double(text.into()),
            "(" => Reply::BigNumber(text.into()),
            "#" => Reply::Boolean(text == "t"),
            "_" => Reply::Nil,
            "$" | "*" | "~" | ">" | "=" if number()? < 0 => Reply::Nil,
            "$" => Reply::Bulk(self.read_bytes(number()? as usize)?),
            "=" => {
                let bytes = self.read_bytes(number()? as usize)?;
                Reply::Verbatim(String::from_utf8_lossy(&bytes[..3]).into_owned(), bytes[4..].to_vec())
            }
            "*" => Reply::Array(self.read_items(number()?)?),
            "~" => Reply::Set(self.read_items(number()?)?),
            ">" => Reply::Push(self.read_items(number()?)?),
            "%" => Reply::Map(self.read_pairs(number()?)?),
            "|" => {
                // Attributes are data about the reply that follows; the tests that want them read `wire`.
                self.read_pairs(number()?)?;
                self.read_frame()?
            }
            _ => return Err(io::Error::other(format!("unknown reply type in {line:?}"))),
        })
    }

    fn read_items(&mut self, count: i64) -> io::Result<Vec<Reply>> {
        (0..count).map(|_| self.read_frame()).collect()
    }

    fn read_pairs(&mut self, count: i64) -> io::Result<Vec<(Reply, Reply)>> {
        (0..count).map(|_| Ok((self.read_frame()?, self.read_frame()?))).collect()
    }
}

/// A request as every client sends it: an array of bulk strings.
pub fn request<A: AsRef<[u8]>>(argv: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", argv.len()).into_bytes();
    for argument in argv {
        let argument = argument.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn printable<A: AsRef<[u8]>>(argv: &[A]) -> Vec<String> {
    argv.iter().map(|argument| argument.as_ref().escape_ascii().take(80).map(char::from).collect()).collect()
}
