//! The id of a stream entry: milliseconds and a sequence number, compared as one number of 128 bits.

use std::ops::Deref;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

impl StreamId {
    pub const MIN: StreamId = StreamId::new(0, 0);
    pub const MAX: StreamId = StreamId::new(u64::MAX, u64::MAX);

    #[inline]
    pub const fn new(ms: u64, seq: u64) -> Self {
        StreamId { ms, seq }
    }

    pub fn is_zero(self) -> bool {
        self == StreamId::MIN
    }

    /// The id behind this one; none behind the last.
    #[inline]
    pub fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId::new(self.ms, seq)),
            None => Some(StreamId::new(self.ms.checked_add(1)?, 0)),
        }
    }

    pub fn prev(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId::new(self.ms, seq)),
            None => Some(StreamId::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }

    /// Big-endian, as RDB stores the ids of nodes and of pending entries.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(bytes);
        StreamId::new((number >> 64) as u64, number as u64)
    }

    /// What a node stores of an entry: the differences to its own id. A sequence number may lie below that of the node.
    #[inline]
    pub(super) fn delta(self, from: StreamId) -> (i64, i64) {
        (self.ms.wrapping_sub(from.ms) as i64, self.seq.wrapping_sub(from.seq) as i64)
    }

    #[inline]
    pub(super) fn plus(self, ms: i64, seq: i64) -> Self {
        StreamId::new(self.ms.wrapping_add(ms as u64), self.seq.wrapping_add(seq as u64))
    }

    /// `ms-seq` on the stack.
    pub fn text(self) -> IdText {
        let mut text = IdText { bytes: [0; ID_TEXT_MAX], start: ID_TEXT_MAX as u8 };
        text.push(self.seq);
        text.start -= 1;
        text.bytes[usize::from(text.start)] = b'-';
        text.push(self.ms);
        text
    }
}

/// Two numbers of twenty digits and the dash.
const ID_TEXT_MAX: usize = 41;

pub struct IdText {
    bytes: [u8; ID_TEXT_MAX],
    start: u8,
}

impl IdText {
    /// Writes a number in front of what is there.
    #[inline]
    fn push(&mut self, mut value: u64) {
        let mut at = usize::from(self.start);
        while value >= 100 {
            let pair = 2 * (value % 100) as usize;
            value /= 100;
            at -= 2;
            self.bytes[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        }
        if value >= 10 {
            at -= 1;
            self.bytes[at] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        at -= 1;
        self.bytes[at] = b'0' + value as u8;
        self.start = at as u8;
    }
}

/// 00, 01, … 99: half the divisions of one digit at a time.
static PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut n = 0;
    while n < 100 {
        (pairs[2 * n], pairs[2 * n + 1]) = (b'0' + n as u8 / 10, b'0' + n as u8 % 10);
        n += 1;
    }
    pairs
};

impl Deref for IdText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_text_and_bytes() {
        let id = StreamId::new(7, u64::MAX);
        assert_eq!((id.next(), StreamId::new(8, 0).prev()), (Some(StreamId::new(8, 0)), Some(id)));
        assert_eq!((StreamId::MAX.next(), StreamId::MIN.prev()), (None, None));
        for (id, text) in [
            (StreamId::MIN, "0-0"),
            (StreamId::new(1526919030474, 55), "1526919030474-55"),
            (StreamId::new(9, 10), "9-10"),
            (StreamId::new(99, 100), "99-100"),
            (StreamId::MAX, "18446744073709551615-18446744073709551615"),
        ] {
            assert_eq!(&*id.text(), text.as_bytes());
            assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
        }
        let (low, high) = (StreamId::new(5, 100), StreamId::new(6, 0));
        let (ms, seq) = high.delta(low);
        assert_eq!(((ms, seq), low.plus(ms, seq)), ((1, -100), high));
    }
}
