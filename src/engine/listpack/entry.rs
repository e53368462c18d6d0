//! One entry of a listpack: how its first byte tells its kind, and what it holds.
//!
//! ```text
//! 0vvvvvvv                                unsigned 7-bit integer
//! 10llllll  data                          string, length < 64
//! 110vvvvv vvvvvvvv                       signed 13-bit integer
//! 1110llll llllllll  data                 string, length < 4096
//! 11110000 length u32 LE  data            string
//! 11110001 · 10 · 11 · 0100  LE bytes     signed 16, 24, 32, 64-bit integer
//! 11111111                                end of the listpack
//! ```
//!
//! Each entry is followed by its back-length: the size of the above in groups of seven bits, the most significant first; all
//! but the first byte carry the high bit, so that it can be read from right to left.

use crate::base::number::{IntText, parse_i64};

/// The end mark.
pub(super) const END: u8 = 0xff;

/// What an entry holds: an integer is stored for every text that is one in canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

#[allow(clippy::len_without_is_empty)]
impl Element<'_> {
    /// Lends the text of the element, which an integer has only on the stack.
    #[inline]
    pub fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Element::Int(value) => f(&IntText::new(*value)),
            Element::Bytes(bytes) => f(bytes),
        }
    }

    pub fn to_vec(&self) -> Vec<u8> {
        self.with_bytes(<[u8]>::to_vec)
    }

    #[inline]
    pub fn eq_bytes(&self, other: &[u8]) -> bool {
        match self {
            Element::Int(value) => other.len() <= 20 && *IntText::new(*value) == *other,
            Element::Bytes(bytes) => *bytes == other,
        }
    }

    /// The integer it holds, or that its text spells strictly.
    #[inline]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Element::Int(value) => Some(*value),
            Element::Bytes(bytes) => parse_i64(bytes),
        }
    }

    /// Length of the text.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Element::Int(value) => IntText::new(*value).len(),
            Element::Bytes(bytes) => bytes.len(),
        }
    }
}

/// Sizes of the head and of the data of the entry at `at`; `None` at the end mark, at an unknown kind and past the end.
#[inline]
pub(super) fn measure(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let first = *bytes.get(at)?;
    Some(match first {
        0..=0x7f => (1, 0),
        0x80..=0xbf => (1, usize::from(first & 0x3f)),
        0xc0..=0xdf => (2, 0),
        0xe0..=0xef => (2, usize::from(first & 0x0f) << 8 | usize::from(*bytes.get(at + 1)?)),
        0xf0 => (5, u32::from_le_bytes(bytes.get(at + 1..at + 5)?.try_into().ok()?) as usize),
        0xf1 => (3, 0),
        0xf2 => (4, 0),
        0xf3 => (5, 0),
        0xf4 => (9, 0),
        _ => return None,
    })
}

/// The element at `at`, where an entry must begin.
#[inline]
pub(super) fn element(bytes: &[u8], at: usize) -> Element<'_> {
    let first = bytes[at];
    if first & 0xc0 == 0x80 {
        return Element::Bytes(&bytes[at + 1..at + 1 + usize::from(first & 0x3f)]);
    }
    if first < 0x80 {
        return Element::Int(i64::from(first));
    }
    let Some((head, data)) = measure(bytes, at) else { panic!("no listpack entry at {at}") };
    match first {
        0xc0..=0xdf => {
            let value = i16::from(first & 0x1f) << 8 | i16::from(bytes[at + 1]);
            // Shifting the 13 bits to the top and back extends the sign.
            Element::Int(i64::from(value << 3 >> 3))
        }
        0xf1..=0xf4 => {
            let mut word = [0; 8];
            word[9 - head..].copy_from_slice(&bytes[at + 1..at + head]);
            Element::Int(i64::from_le_bytes(word) >> (8 * (9 - head)))
        }
        _ => Element::Bytes(&bytes[at + head..at + head + data]),
    }
}

/// Size of the back-length of an entry of `size` bytes. The bounds are the ones Redis writes: a two-byte group ends at 16382.
#[inline]
pub(super) fn back_size(size: usize) -> usize {
    match size {
        0..=127 => 1,
        128..=16382 => 2,
        16383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// Size of the entry that ends before `end`, without its back-length; `None` if the groups do not end.
#[inline]
pub(super) fn read_back(bytes: &[u8], end: usize) -> Option<usize> {
    let last = *bytes.get(end.checked_sub(1)?)?;
    if last < 0x80 {
        return Some(usize::from(last));
    }
    let mut size = 0usize;
    for group in 0..5 {
        let byte = *bytes.get(end.checked_sub(group + 1)?)?;
        size |= usize::from(byte & 0x7f) << (7 * group);
        if byte & 0x80 == 0 {
            return Some(size);
        }
    }
    None
}

/// An element made ready to be written.
pub(super) struct Draft<'a> {
    head: [u8; 9],
    head_len: usize,
    data: &'a [u8],
}

impl<'a> Draft<'a> {
    #[inline]
    pub(super) fn new(text: &'a [u8]) -> Self {
        if text.len() <= 20
            && let Some(value) = parse_i64(text)
        {
            return Self::int(value);
        }
        let mut head = [0; 9];
        let len = text.len();
        let head_len = match len {
            0..64 => {
                head[0] = 0x80 | len as u8;
                1
            }
            64..4096 => {
                head[0] = 0xe0 | (len >> 8) as u8;
                head[1] = len as u8;
                2
            }
            _ => {
                head[0] = 0xf0;
                head[1..5].copy_from_slice(&u32::try_from(len).expect("a listpack holds less than 4 GB").to_le_bytes());
                5
            }
        };
        Draft { head, head_len, data: text }
    }

    #[inline]
    pub(super) fn int(value: i64) -> Self {
        let mut head = [0; 9];
        let head_len = match value {
            0..=127 => {
                head[0] = value as u8;
                1
            }
            -4096..=4095 => {
                head[0] = 0xc0 | (value >> 8) as u8 & 0x1f;
                head[1] = value as u8;
                2
            }
            _ => {
                let (kind, size) = match value {
                    -0x8000..=0x7fff => (0xf1, 2),
                    -0x80_0000..=0x7f_ffff => (0xf2, 3),
                    -0x8000_0000..=0x7fff_ffff => (0xf3, 4),
                    _ => (0xf4, 8),
                };
                head[0] = kind;
                head[1..=size].copy_from_slice(&value.to_le_bytes()[..size]);
                1 + size
            }
        };
        Draft { head, head_len, data: &[] }
    }

    /// Size without the back-length.
    #[inline]
    fn size(&self) -> usize {
        self.head_len + self.data.len()
    }

    /// Size with everything.
    #[inline]
    pub(super) fn total(&self) -> usize {
        self.size() + back_size(self.size())
    }

    /// Writes the entry into `place`, which is `total` bytes long.
    #[inline]
    pub(super) fn write(&self, place: &mut [u8]) {
        let size = self.size();
        let (entry, back) = place.split_at_mut(size);
        let (head, data) = entry.split_at_mut(self.head_len);
        head.copy_from_slice(&self.head[..self.head_len]);
        data.copy_from_slice(self.data);
        let mut rest = size;
        for byte in back.iter_mut().rev() {
            *byte = (rest & 0x7f) as u8 | 0x80;
            rest >>= 7;
        }
        back[0] &= 0x7f;
    }
}
