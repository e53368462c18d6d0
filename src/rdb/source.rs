//! A cursor over bytes from outside: every step is checked, nothing is allocated beyond what the bytes themselves justify.

use super::fault::Fault;
use super::format::encoding;
use crate::base::lzf;
use crate::base::number::IntText;
use std::borrow::Cow;

pub type Result<T> = std::result::Result<T, Fault>;

/// What stands where a length may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Plain(u64),
    /// The encoding of a string.
    Encoded(u8),
}

#[derive(Clone)]
pub struct Source<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Source { bytes, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn rest(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Goes to a place where the source has been before.
    pub fn go_to(&mut self, at: usize) -> Result<()> {
        if at > self.bytes.len() {
            return Err(Fault::Truncated(at - self.bytes.len()));
        }
        self.at = at;
        Ok(())
    }

    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        match rest.split_at_checked(len) {
            Some((taken, _)) => {
                self.at += len;
                Ok(taken)
            }
            None => Err(Fault::Truncated(len - rest.len())),
        }
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| Fault::Truncated(N))
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// Little-endian, as times and new-style scores are stored.
    pub fn i64_le(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    #[inline]
    pub fn length(&mut self) -> Result<Length> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Length::Plain(u64::from(first)),
            1 => Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            3 => Length::Encoded(first & 0x3f),
            _ => match first {
                0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
                0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
                _ => return Err(Fault::fixed("Unknown length encoding in rdbLoadLen()")),
            },
        })
    }

    /// A number; a string's encoding is an error here.
    #[inline]
    pub fn number(&mut self) -> Result<u64> {
        match self.length()? {
            Length::Plain(number) => Ok(number),
            Length::Encoded(_) => Err(Fault::fixed("a string encoding where a number was expected")),
        }
    }

    /// A number of things to come; more of them than there are bytes cannot be in a finished value, so a loop over them
    /// ends early.
    pub fn count(&mut self) -> Result<usize> {
        usize::try_from(self.number()?).map_err(|_| Fault::fixed("a count beyond all memory"))
    }

    /// A string, lent from the bytes where they hold it as it is.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>> {
        match self.length()? {
            Length::Plain(len) => Ok(Cow::Borrowed(self.take(size(len)?)?)),
            Length::Encoded(encoding::LZF) => {
                let (packed, len) = (size(self.number()?)?, size(self.number()?)?);
                let packed = self.take(packed)?;
                lzf::decompress(packed, len).map(Cow::Owned).ok_or(Fault::fixed("Invalid LZF compressed string"))
            }
            Length::Encoded(encoding) => Ok(Cow::Owned(IntText::new(self.integer(encoding)?).to_vec())),
        }
    }

    /// The number of a string that is encoded as one.
    fn integer(&mut self, encoding: u8) -> Result<i64> {
        Ok(match encoding {
            encoding::INT8 => i64::from(i8::from_le_bytes(self.array()?)),
            encoding::INT16 => i64::from(i16::from_le_bytes(self.array()?)),
            encoding::INT32 => i64::from(i32::from_le_bytes(self.array()?)),
            _ => return Err(Fault::fixed("Unknown RDB string encoding type")),
        })
    }

    pub fn skip_string(&mut self) -> Result<()> {
        match self.length()? {
            Length::Plain(len) => self.take(size(len)?).map(drop),
            Length::Encoded(encoding::LZF) => {
                let packed = size(self.number()?)?;
                self.number()?;
                self.take(packed).map(drop)
            }
            Length::Encoded(encoding) => self.integer(encoding).map(drop),
        }
    }

    /// A score in the textual form of before 4.0: a length byte, of which three values name the infinities and NaN.
    pub fn score_text(&mut self) -> Result<f64> {
        let score = match self.byte()? {
            255 => f64::NEG_INFINITY,
            254 => f64::INFINITY,
            253 => f64::NAN,
            len => {
                let text = self.take(usize::from(len))?;
                std::str::from_utf8(text)
                    .ok()
                    .and_then(|text| text.trim_start().parse().ok())
                    .ok_or(Fault::fixed("a score that is no number"))?
            }
        };
        not_nan(score)
    }

    pub fn score(&mut self) -> Result<f64> {
        not_nan(f64::from_le_bytes(self.array()?))
    }
}

fn not_nan(score: f64) -> Result<f64> {
    if score.is_nan() { Err(Fault::fixed("Zset with NAN score detected")) } else { Ok(score) }
}

/// A length that can be one: the file is bounded by what a disk holds, so more is damage and must not be waited for.
fn size(len: u64) -> Result<usize> {
    if len > 1 << 40 {
        return Err(Fault::fixed("a string beyond all memory"));
    }
    Ok(len as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_strings() {
        let mut source = Source::new(b"\x05hello\x41\x00\x80\0\0\0\x02ab\xc0\xfe\xc1\x00\x01\xc2\xff\xff\xff\xff");
        assert_eq!(source.string().expect("plain").as_ref(), b"hello");
        assert_eq!(source.number(), Ok(256));
        assert_eq!(source.string().expect("32 bits").as_ref(), b"ab");
        assert_eq!(source.string().expect("i8").as_ref(), b"-2");
        assert_eq!(source.string().expect("i16").as_ref(), b"256");
        assert_eq!(source.string().expect("i32").as_ref(), b"-1");
        assert_eq!(source.string(), Err(Fault::Truncated(1)));
        assert_eq!(Source::new(b"\x0aabc").string(), Err(Fault::Truncated(7)));
        assert!(matches!(Source::new(&[0x81, 255, 0, 0, 0, 0, 0, 0, 0]).string(), Err(Fault::Damaged(_))));
    }
}
