//! Replies: one set of methods, written as RESP2 or RESP3 into one growing buffer.
//!
//! A command says what it means (`map`, `double`, `null`); how that looks depends on the connection's protocol version
//! (redis.io, "Redis serialization protocol specification").

use crate::base::number::{DoubleText, IntText};

/// Up to this length replies double their buffer when it is full.
const DOUBLED_MAX: usize = 256 * 1024;

#[derive(Default)]
pub struct Reply {
    buffer: Vec<u8>,
    resp3: bool,
    /// The client may not be sent more than this; 0 = whatever it asks for.
    limit: usize,
    /// Something was left out because of the limit: the client must go.
    is_cut_short: bool,
}

/// Where an aggregate of unknown length begins.
#[must_use]
pub struct Mark {
    at: usize,
}

impl Reply {
    pub fn new(resp3: bool) -> Self {
        Reply { resp3, ..Reply::default() }
    }

    pub fn is_resp3(&self) -> bool {
        self.resp3
    }

    pub fn set_resp3(&mut self, resp3: bool) {
        self.resp3 = resp3;
    }

    pub fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    pub fn is_limited(&self) -> bool {
        self.limit > 0
    }

    /// Asked between the elements of replies that a short request can make as long as it likes: true if the rest is not worth making.
    #[inline]
    pub fn must_stop(&mut self) -> bool {
        let stops = self.limit > 0 && self.buffer.len() >= self.limit;
        self.is_cut_short |= stops;
        stops
    }

    #[inline]
    pub fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    /// Forgets that it was cut short.
    pub fn restart(&mut self) {
        self.is_cut_short = false;
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes back everything behind `len`: a command that fails half-way leaves only its error.
    pub fn truncate(&mut self, len: usize) {
        self.buffer.truncate(len);
    }

    /// The buffer itself, to write it out and reuse it.
    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Bytes that are a reply already.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// A line of user data, with spaces for line ends.
    pub fn simple_bytes(&mut self, text: &[u8]) {
        self.safe_line(b'+', text);
    }

    /// An error with its prefix (`ERR …`). Line ends, which user data may carry, become spaces.
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    pub fn error_bytes(&mut self, text: &[u8]) {
        self.safe_line(b'-', text);
    }

    fn safe_line(&mut self, kind: u8, text: &[u8]) {
        self.buffer.push(kind);
        self.buffer.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
        self.raw(b"\r\n");
    }

    #[inline]
    pub fn integer(&mut self, value: i64) {
        match value {
            0 => self.raw(b":0\r\n"),
            1 => self.raw(b":1\r\n"),
            _ => self.header(b':', value),
        }
    }

    /// A count: lengths never exceed i64.
    #[inline]
    pub fn count(&mut self, value: usize) {
        self.integer(value as i64);
    }

    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        // One look at the capacity for all that follows.
        let needed = bytes.len() + 32;
        if self.buffer.capacity() - self.buffer.len() < needed {
            self.grow(needed);
        }
        self.header(b'$', bytes.len() as i64);
        self.buffer.extend_from_slice(bytes);
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// Long replies grow by a quarter: doubled, they would take for a moment what maxmemory holds other data to be.
    #[cold]
    fn grow(&mut self, needed: usize) {
        match self.buffer.len() {
            len @ DOUBLED_MAX.. => self.buffer.reserve_exact(needed.max(len / 4)),
            _ => self.buffer.reserve(needed),
        }
    }

    /// Memory of the replies: what they have made the buffer grow to, but not what it had before.
    pub fn memory(&self) -> usize {
        self.buffer.capacity().min(self.buffer.len() * 2)
    }

    /// An integer as a bulk string.
    #[inline]
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(&IntText::new(value));
    }

    /// The absent value: `$-1` or `_`.
    #[inline]
    pub fn null(&mut self) {
        self.raw(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// The absent aggregate: `*-1` or `_`.
    pub fn null_array(&mut self) {
        self.raw(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// A map of `pairs` keys and values; flat in RESP2.
    pub fn map(&mut self, pairs: usize) {
        if self.resp3 { self.header(b'%', pairs as i64) } else { self.array(pairs * 2) }
    }

    pub fn set(&mut self, len: usize) {
        if self.resp3 { self.header(b'~', len as i64) } else { self.array(len) }
    }

    /// An out-of-band message.
    pub fn push(&mut self, len: usize) {
        if self.resp3 { self.header(b'>', len as i64) } else { self.array(len) }
    }

    /// An attribute of the reply that follows; nothing in RESP2, so the caller must leave out its content too.
    pub fn attribute(&mut self, pairs: usize) {
        self.header(b'|', pairs as i64);
    }

    pub fn boolean(&mut self, value: bool) {
        match (self.resp3, value) {
            (true, true) => self.raw(b"#t\r\n"),
            (true, false) => self.raw(b"#f\r\n"),
            (false, value) => self.integer(i64::from(value)),
        }
    }

    pub fn double(&mut self, value: f64) {
        let text = DoubleText::new(value);
        if self.resp3 { self.line(b',', &text) } else { self.bulk(&text) }
    }

    /// A double that was printed elsewhere (INCRBYFLOAT's long doubles).
    pub fn double_text(&mut self, text: &[u8]) {
        if self.resp3 { self.line(b',', text) } else { self.bulk(text) }
    }

    pub fn big_number(&mut self, digits: &[u8]) {
        if self.resp3 { self.line(b'(', digits) } else { self.bulk(digits) }
    }

    /// Text for people, with its format (`txt`, `mkd`).
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        if !self.resp3 {
            return self.bulk(text);
        }
        self.header(b'=', text.len() as i64 + 4);
        self.raw(format.as_bytes());
        self.raw(b":");
        self.raw(text);
        self.raw(b"\r\n");
    }

    /// Begins an array whose length is known only at the end.
    pub fn begin(&mut self) -> Mark {
        Mark { at: self.buffer.len() }
    }

    pub fn end_array(&mut self, mark: Mark, len: usize) {
        self.insert_header(mark, b'*', len);
    }

    pub fn end_set(&mut self, mark: Mark, len: usize) {
        self.insert_header(mark, if self.resp3 { b'~' } else { b'*' }, len);
    }

    pub fn end_map(&mut self, mark: Mark, pairs: usize) {
        if self.resp3 { self.insert_header(mark, b'%', pairs) } else { self.insert_header(mark, b'*', pairs * 2) }
    }

    fn insert_header(&mut self, mark: Mark, kind: u8, len: usize) {
        let text = IntText::new(len as i64);
        let header = [kind].into_iter().chain(text.iter().copied()).chain(*b"\r\n");
        self.buffer.splice(mark.at..mark.at, header);
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.buffer.push(kind);
        self.raw(text);
        self.raw(b"\r\n");
    }

    #[inline]
    fn header(&mut self, kind: u8, value: i64) {
        if (0..10).contains(&value) {
            self.raw(&[kind, b'0' + value as u8, b'\r', b'\n']);
        } else if (10..100).contains(&value) {
            let value = value as u32;
            self.raw(&[kind, b'0' + (value / 10) as u8, b'0' + (value % 10) as u8, b'\r', b'\n']);
        } else {
            self.long_header(kind, value);
        }
    }

    fn long_header(&mut self, kind: u8, value: i64) {
        self.line(kind, &IntText::new(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(write: impl Fn(&mut Reply)) -> (String, String) {
        let text = |resp3| {
            let mut reply = Reply::new(resp3);
            write(&mut reply);
            String::from_utf8_lossy(reply.as_bytes()).into_owned()
        };
        (text(false), text(true))
    }

    fn same(text: &str) -> (String, String) {
        (text.into(), text.into())
    }

    #[test]
    fn shapes_in_both_protocols() {
        assert_eq!(both(|r| r.null()), ("$-1\r\n".into(), "_\r\n".into()));
        assert_eq!(both(|r| r.null_array()), ("*-1\r\n".into(), "_\r\n".into()));
        assert_eq!(both(|r| r.map(2)), ("*4\r\n".into(), "%2\r\n".into()));
        assert_eq!(both(|r| r.set(12)), ("*12\r\n".into(), "~12\r\n".into()));
        assert_eq!(both(|r| r.double(1.5)), ("$3\r\n1.5\r\n".into(), ",1.5\r\n".into()));
        assert_eq!(both(|r| r.boolean(true)), (":1\r\n".into(), "#t\r\n".into()));
        assert_eq!(both(|r| r.verbatim("txt", b"hi")), ("$2\r\nhi\r\n".into(), "=6\r\ntxt:hi\r\n".into()));
        assert_eq!(both(|r| r.bulk(b"")), same("$0\r\n\r\n"));
        assert_eq!(both(|r| r.integer(-123)), same(":-123\r\n"));
        assert_eq!(both(|r| r.error("ERR a\r\nb")), same("-ERR a  b\r\n"));
        let nested = both(|r| {
            let mark = r.begin();
            r.bulk(b"x");
            r.end_array(mark, 1);
        });
        assert_eq!(nested, same("*1\r\n$1\r\nx\r\n"));
    }
}
