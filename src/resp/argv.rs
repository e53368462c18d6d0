//! The arguments of a command: on loan from a read buffer, or owned (queued by MULTI, blocked, produced by a script).

use std::ops::Index;

/// Offset and length of an argument in its buffer. A buffer is limited to 4 GB.
pub type Range = (u32, u32);

/// Arguments on loan. `[0]` is the command's name.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buffer: &'a [u8],
    ranges: &'a [Range],
}

impl<'a> Args<'a> {
    #[inline]
    pub fn new(buffer: &'a [u8], ranges: &'a [Range]) -> Self {
        Args { buffer, ranges }
    }

    /// Number of arguments, the name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let (start, len) = *self.ranges.get(index)?;
        Some(&self.buffer[start as usize..][..len as usize])
    }

    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator + Clone + use<'a> {
        let buffer = self.buffer;
        self.ranges.iter().map(move |(start, len)| &buffer[*start as usize..][..*len as usize])
    }

    /// The arguments from `index` on (none if there are fewer).
    #[inline]
    pub fn from(&self, index: usize) -> Args<'a> {
        Args { buffer: self.buffer, ranges: self.ranges.get(index..).unwrap_or(&[]) }
    }

    /// The first `count` arguments (all if there are fewer).
    pub fn first(&self, count: usize) -> Args<'a> {
        Args { buffer: self.buffer, ranges: self.ranges.get(..count).unwrap_or(self.ranges) }
    }

    /// Whether an argument is this word, case ignored.
    #[inline]
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    pub fn to_owned(&self) -> OwnedArgs {
        let mut buffer = Vec::with_capacity(self.byte_len());
        let mut ranges = Vec::with_capacity(self.len());
        for arg in self.iter() {
            ranges.push((buffer.len() as u32, arg.len() as u32));
            buffer.extend_from_slice(arg);
        }
        OwnedArgs { buffer: buffer.into(), ranges: ranges.into() }
    }

    /// Bytes of all arguments.
    pub fn byte_len(&self) -> usize {
        self.ranges.iter().map(|(_, len)| *len as usize).sum()
    }
}

/// An argument that the arity check has promised; `get` is for those that may be missing.
impl Index<usize> for Args<'_> {
    type Output = [u8];

    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        let (start, len) = self.ranges[index];
        &self.buffer[start as usize..][..len as usize]
    }
}

/// Arguments in a buffer of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedArgs {
    buffer: Box<[u8]>,
    ranges: Box<[Range]>,
}

impl OwnedArgs {
    pub fn new<'a>(args: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut buffer = Vec::new();
        let mut ranges = Vec::new();
        for arg in args {
            ranges.push((buffer.len() as u32, arg.len() as u32));
            buffer.extend_from_slice(arg);
        }
        OwnedArgs { buffer: buffer.into(), ranges: ranges.into() }
    }

    #[inline]
    pub fn as_args(&self) -> Args<'_> {
        Args { buffer: &self.buffer, ranges: &self.ranges }
    }

    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        self.buffer.len() + size_of_val(&*self.ranges)
    }
}
