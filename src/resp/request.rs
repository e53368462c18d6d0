//! The request parser: incremental, limited, and without copies.
//!
//! Requests are arrays of bulk strings or inline lines; arguments are offsets into the read buffer. The parser remembers
//! how far it got in an unfinished request, so that a value of 500 MB that arrives in small pieces is not scanned again.
//!
//! ```text
//!          ┌── inline line ───────────────► request
//!   start ─┤                      ┌────────────────────────┐
//!          └── *N\r\n ── $len\r\n ┴─ len bytes \r\n ── N−1 ┘ ─► request
//! ```

use super::argv::{Args, Range};
use crate::base::number::parse_i64;
use crate::base::quoting::split_args;

/// What a client may send; tighter before it has authenticated.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub bulk_len_max: usize,
    pub authenticated: bool,
}

const INLINE_MAX: usize = 64 * 1024;
const ARGS_MAX: i64 = i32::MAX as i64;
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_MAX: i64 = 16384;
/// Arguments reserved ahead for an announced array: the announcement alone must not cost memory.
const RESERVE_MAX: usize = 1024;
/// Arguments whose room is kept for the next request: one with 100,000 of them must not cost memory for ever.
const RANGES_KEPT: usize = 4096;

/// The client broke the protocol: it gets this error and is disconnected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolError(pub String);

impl ProtocolError {
    fn new(what: &str) -> Self {
        ProtocolError(format!("Protocol error: {what}"))
    }
}

/// One request of a batch: a run of the batch's arguments.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    first: u32,
    count: u32,
    /// Offset behind the request in the parsed buffer.
    end: u32,
}

/// Requests parsed from one read, in order.
#[derive(Default)]
pub struct Batch {
    ranges: Vec<Range>,
    requests: Vec<Request>,
}

impl Batch {
    pub fn clear(&mut self) {
        self.ranges.clear();
        self.ranges.shrink_to(RANGES_KEPT);
        self.requests.clear();
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Where the request after this one begins in the parsed buffer.
    pub fn end(&self, index: usize) -> usize {
        self.requests[index].end as usize
    }

    /// The arguments of a request; `buffer` is the one that was parsed.
    #[inline]
    pub fn args<'a>(&'a self, index: usize, buffer: &'a [u8]) -> Args<'a> {
        let request = self.requests[index];
        Args::new(buffer, &self.ranges[request.first as usize..][..request.count as usize])
    }
}

/// A request of the common shape, all of it in the buffer: up to nine arguments of up to 999 bytes. Its arguments go to `ranges`;
/// returns where the next request begins, or nothing (and no arguments) for whatever needs a closer look.
#[inline]
fn quick_array(buffer: &[u8], begin: usize, ranges: &mut Vec<Range>) -> Option<usize> {
    let [b'*', count, b'\r', b'\n', ..] = buffer.get(begin..)? else { return None };
    let count = count.wrapping_sub(b'0');
    if !(1..=9).contains(&count) {
        return None;
    }
    let first = ranges.len();
    let mut at = begin + 4;
    for _ in 0..count {
        match quick_bulk(buffer, at) {
            Some((start, len)) => {
                ranges.push((start as u32, len as u32));
                at = start + len + 2;
            }
            None => {
                ranges.truncate(first);
                return None;
            }
        }
    }
    Some(at)
}

/// A bulk string that is there as a whole: where its bytes begin, and how many.
#[inline]
fn quick_bulk(buffer: &[u8], at: usize) -> Option<(usize, usize)> {
    // An argument takes at least six bytes, so most are followed by more than the eight that are looked at.
    let head: &[u8; 8] = buffer.get(at..at + 8)?.first_chunk()?;
    let digit = |index: usize| usize::from(head[index].wrapping_sub(b'0'));
    let (start, len) = match head {
        [b'$', _, b'\r', b'\n', ..] if digit(1) < 10 => (at + 4, digit(1)),
        [b'$', _, _, b'\r', b'\n', ..] if digit(1).wrapping_sub(1) < 9 && digit(2) < 10 => {
            (at + 5, digit(1) * 10 + digit(2))
        }
        [b'$', _, _, _, b'\r', b'\n', ..] if digit(1).wrapping_sub(1) < 9 && digit(2) < 10 && digit(3) < 10 => {
            (at + 6, digit(1) * 100 + digit(2) * 10 + digit(3))
        }
        _ => return None,
    };
    (start + len + 2 <= buffer.len()).then_some((start, len))
}

/// The state of one connection's request stream.
#[derive(Default)]
pub struct RequestParser {
    /// Arguments that an unfinished array still lacks; 0 between requests.
    missing: usize,
    /// Length of the bulk string whose header has been read.
    bulk: Option<usize>,
    /// Arguments of the unfinished request, relative to its first byte.
    pending: Vec<Range>,
    /// How far the unfinished request has been parsed, relative to its first byte.
    position: usize,
}

enum Step {
    Request,
    Incomplete,
}

impl RequestParser {
    /// Parses up to `requests_max` requests of `buffer[start..]` into `batch` and returns where the unparsed rest begins.
    ///
    /// The rest is either nothing or one unfinished request, which the caller must present again from its first byte.
    pub fn parse(
        &mut self,
        buffer: &mut [u8],
        start: usize,
        requests_max: usize,
        limits: Limits,
        batch: &mut Batch,
    ) -> Result<usize, (usize, ProtocolError)> {
        let mut begin = start;
        while batch.requests.len() < requests_max && begin < buffer.len() {
            let first = batch.ranges.len();
            if self.position == 0
                && let Some(end) = quick_array(buffer, begin, &mut batch.ranges)
            {
                let count = batch.ranges.len() - first;
                batch.requests.push(Request { first: first as u32, count: count as u32, end: end as u32 });
                begin = end;
                continue;
            }
            let is_inline = self.missing == 0 && buffer[begin] != b'*';
            // An inline request is rewritten in place, so it must never be parsed twice: it gets a batch of its own.
            if is_inline && !batch.is_empty() {
                break;
            }
            let step =
                if is_inline { self.inline(buffer, begin, batch) } else { self.array(buffer, begin, limits, batch) };
            match step {
                Err(error) => return Err((begin, error)),
                Ok(Step::Incomplete) => break,
                Ok(Step::Request) => {
                    begin += self.position;
                    self.position = 0;
                    let count = batch.ranges.len() - first;
                    // `*0` and empty lines are skipped without a reply.
                    if count > 0 {
                        batch.requests.push(Request { first: first as u32, count: count as u32, end: begin as u32 });
                    }
                    if is_inline && count > 0 {
                        break;
                    }
                }
            }
        }
        Ok(begin)
    }

    /// Forgets the unfinished request: the caller will present everything behind the last executed request again.
    pub fn reset(&mut self) {
        *self = RequestParser::default();
    }

    /// Bytes that the unfinished request is known to need from its first byte on (a hint for the read buffer's size).
    pub fn wanted(&self) -> usize {
        self.bulk.map_or(0, |len| self.position + len + 2)
    }

    /// How much of an unfinished request is understood and only waits for the rest.
    pub fn understood(&self) -> usize {
        if self.missing > 0 { self.position } else { 0 }
    }

    /// Bytes held for an unfinished request.
    pub fn memory(&self) -> usize {
        self.pending.capacity() * size_of::<Range>()
    }

    #[inline]
    fn array(&mut self, buffer: &[u8], begin: usize, limits: Limits, batch: &mut Batch) -> Result<Step, ProtocolError> {
        let mut at = begin + self.position;
        if self.missing == 0 {
            let Some((count, next)) = number_line(buffer, at + 1, "too big mbulk count string")? else {
                return Ok(Step::Incomplete);
            };
            let count = count.filter(|count| *count <= ARGS_MAX);
            let count = count.ok_or_else(|| ProtocolError::new("invalid multibulk length"))?;
            if count > UNAUTHENTICATED_ARGS_MAX && !limits.authenticated {
                return Err(ProtocolError::new("unauthenticated multibulk length"));
            }
            at = next;
            if count <= 0 {
                self.position = at - begin;
                return Ok(Step::Request);
            }
            self.missing = count as usize;
        }
        let resumed = !self.pending.is_empty();
        let first = batch.ranges.len();
        if resumed {
            batch.ranges.extend(self.pending.drain(..).map(|(offset, len)| (offset + begin as u32, len)));
            self.pending.shrink_to(RANGES_KEPT);
        } else {
            batch.ranges.reserve(self.missing.min(RESERVE_MAX));
        }
        let result = self.bulks(buffer, &mut at, limits, batch);
        self.position = at - begin;
        match result {
            Ok(true) => Ok(Step::Request),
            Ok(false) => {
                self.pending.extend(batch.ranges.drain(first..).map(|(offset, len)| (offset - begin as u32, len)));
                Ok(Step::Incomplete)
            }
            Err(error) => {
                batch.ranges.truncate(first);
                Err(error)
            }
        }
    }

    /// Reads bulk strings until none is missing (true) or the buffer ends (false).
    #[inline]
    fn bulks(
        &mut self,
        buffer: &[u8],
        at: &mut usize,
        limits: Limits,
        batch: &mut Batch,
    ) -> Result<bool, ProtocolError> {
        while self.missing > 0 {
            let len = match self.bulk {
                Some(len) => len,
                None => match bulk_header(buffer, *at, limits)? {
                    None => return Ok(false),
                    Some((len, next)) => {
                        *at = next;
                        self.bulk = Some(len);
                        len
                    }
                },
            };
            if buffer.len() < *at + len + 2 {
                return Ok(false);
            }
            batch.ranges.push((*at as u32, len as u32));
            *at += len + 2;
            self.bulk = None;
            self.missing -= 1;
        }
        Ok(true)
    }

    fn inline(&mut self, buffer: &mut [u8], begin: usize, batch: &mut Batch) -> Result<Step, ProtocolError> {
        let line = &buffer[begin..];
        let searched = self.position.min(line.len());
        let Some(end) = line[searched..].iter().position(|byte| *byte == b'\n').map(|found| searched + found) else {
            if line.len() > INLINE_MAX {
                return Err(ProtocolError::new("too big inline request"));
            }
            self.position = line.len();
            return Ok(Step::Incomplete);
        };
        let text = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
        let words = split_args(text).ok_or_else(|| ProtocolError::new("unbalanced quotes in request"))?;
        // Unquoted words are never longer than the line they came from: they replace it.
        let mut at = begin;
        for word in words {
            buffer[at..at + word.len()].copy_from_slice(&word);
            batch.ranges.push((at as u32, word.len() as u32));
            at += word.len();
        }
        self.position = end + 1;
        Ok(Step::Request)
    }
}

/// The header of a bulk string: its length and where its bytes begin.
#[inline]
fn bulk_header(buffer: &[u8], at: usize, limits: Limits) -> Result<Option<(usize, usize)>, ProtocolError> {
    if buffer.get(at) == Some(&b'\r') {
        return Err(ProtocolError("Protocol error: expected '$', got '\r'".into()));
    }
    let Some((len, next)) = number_line(buffer, at + 1, "too big bulk count string")? else {
        return Ok(None);
    };
    if buffer[at] != b'$' {
        let found = char::from(buffer[at]);
        return Err(ProtocolError(format!("Protocol error: expected '$', got '{found}'")));
    }
    let len = len.filter(|len| *len >= 0 && *len as u64 <= limits.bulk_len_max as u64);
    let len = len.ok_or_else(|| ProtocolError::new("invalid bulk length"))?;
    if len > UNAUTHENTICATED_BULK_MAX && !limits.authenticated {
        return Err(ProtocolError::new("unauthenticated bulk length"));
    }
    Ok(Some((len as usize, next)))
}

type NumberLine = (Option<i64>, usize);

/// A decimal number up to the line end: (the number if it is one, offset behind the line), or nothing while the line is cut.
#[inline]
fn number_line(buffer: &[u8], at: usize, too_big: &str) -> Result<Option<NumberLine>, ProtocolError> {
    let rest = buffer.get(at..).unwrap_or(&[]);
    let Some(end) = rest.iter().take(INLINE_MAX + 1).position(|byte| *byte == b'\r') else {
        if rest.len() > INLINE_MAX {
            return Err(ProtocolError::new(too_big));
        }
        return Ok(None);
    };
    if rest.len() < end + 2 {
        return Ok(None);
    }
    Ok(Some((parse_i64(&rest[..end]), at + end + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN: Limits = Limits { bulk_len_max: 512 << 20, authenticated: true };

    /// Feeds `input` in two pieces (and the rest after each parse, as a connection does).
    fn parse_pieces(input: &[u8], cuts: &[usize], limits: Limits) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let mut parser = RequestParser::default();
        let (mut buffer, mut requests, mut fed) = (Vec::new(), Vec::new(), 0);
        for cut in cuts.iter().copied().chain([input.len()]) {
            buffer.extend_from_slice(&input[fed.min(cut)..cut]);
            fed = fed.max(cut);
            loop {
                let mut batch = Batch::default();
                let rest = parser.parse(&mut buffer, 0, 3, limits, &mut batch).map_err(|(_, error)| error)?;
                for index in 0..batch.len() {
                    requests.push(batch.args(index, &buffer).iter().map(<[u8]>::to_vec).collect());
                }
                buffer.drain(..rest);
                if batch.is_empty() {
                    break;
                }
            }
        }
        Ok(requests)
    }

    #[test]
    fn any_split_gives_the_same_requests() {
        let input = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nhello\r\nworld\r\n*0\r\nPING \"a b\" '\\''\r\n\r\n*1\r\n$4\r\nPING\r\n*-1\r\nGET k\n";
        let whole = parse_pieces(input, &[], OPEN).expect("legal");
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[1], [b"PING".to_vec(), b"a b".to_vec(), b"'".to_vec()]);
        for first in 0..input.len() {
            assert_eq!(parse_pieces(input, &[first], OPEN).expect("legal"), whole, "cut at {first}");
        }
        let every: Vec<usize> = (0..input.len()).collect();
        assert_eq!(parse_pieces(input, &every, OPEN).expect("legal"), whole);
    }

    #[test]
    fn errors_are_redis_texts() {
        let fail = |input: &[u8], limits| parse_pieces(input, &[], limits).expect_err("illegal").0;
        assert_eq!(fail(b"*x\r\n", OPEN), "Protocol error: invalid multibulk length");
        assert_eq!(fail(b"*3000000000\r\n", OPEN), "Protocol error: invalid multibulk length");
        assert_eq!(fail(b"*1\r\nfoo\r\n", OPEN), "Protocol error: expected '$', got 'f'");
        assert_eq!(fail(b"*1\r\n$-1\r\n", OPEN), "Protocol error: invalid bulk length");
        assert_eq!(fail(b"*1\r\n$536870913\r\n", OPEN), "Protocol error: invalid bulk length");
        assert_eq!(fail(b"SET \"k\r\n", OPEN), "Protocol error: unbalanced quotes in request");
        assert_eq!(fail(&vec![b'a'; INLINE_MAX + 1], OPEN), "Protocol error: too big inline request");
        assert_eq!(
            fail(&[b"*", vec![b'1'; INLINE_MAX + 1].as_slice()].concat(), OPEN),
            "Protocol error: too big mbulk count string"
        );
        assert_eq!(
            fail(&[b"*1\r\n$", vec![b'1'; INLINE_MAX + 1].as_slice()].concat(), OPEN),
            "Protocol error: too big bulk count string"
        );
        let closed = Limits { authenticated: false, ..OPEN };
        assert_eq!(fail(b"*11\r\n", closed), "Protocol error: unauthenticated multibulk length");
        assert_eq!(fail(b"*1\r\n$16385\r\n", closed), "Protocol error: unauthenticated bulk length");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn arrays_round_trip(
            requests in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6), 0..20),
            mut cuts in prop::collection::vec(0..4000usize, 0..8),
        ) {
            let mut input = Vec::new();
            for request in &requests {
                input.extend(format!("*{}\r\n", request.len()).bytes());
                for arg in request {
                    input.extend(format!("${}\r\n", arg.len()).bytes());
                    input.extend(arg);
                    input.extend(b"\r\n");
                }
            }
            cuts.retain(|cut| *cut < input.len());
            cuts.sort_unstable();
            prop_assert_eq!(parse_pieces(&input, &cuts, OPEN), Ok(requests));
        }

        #[test]
        fn garbage_never_panics(input in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"*$\r\n0123456789-\"'".to_vec())], 0..300)) {
            let _ = parse_pieces(&input, &[input.len() / 2], OPEN);
        }
    }
}
