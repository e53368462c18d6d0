//! Bits of a byte string: counting, finding, combining, and integers of any width at any offset.
//!
//! ```text
//!   byte      0        1
//!   bit       01234567 89…          bit 0 is the highest one of byte 0
//! ```

use std::ops::Range;

/// How many bits are set among those in the range, which must lie within the bytes.
pub fn count(bytes: &[u8], range: Range<usize>) -> usize {
    if range.start >= range.end {
        return 0;
    }
    let (first, last) = (range.start / 8, (range.end - 1) / 8);
    let head = 0xff_u8 >> (range.start % 8);
    let tail = 0xff_u8 << (7 - (range.end - 1) % 8);
    if first == last {
        return (bytes[first] & head & tail).count_ones() as usize;
    }
    let edges = (bytes[first] & head).count_ones() + (bytes[last] & tail).count_ones();
    edges as usize + count_all(&bytes[first + 1..last])
}

fn count_all(bytes: &[u8]) -> usize {
    // Four independent sums keep the processor's counting units busy.
    let mut sums = [0u64; 4];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum += u64::from(u64::from_ne_bytes(*word).count_ones());
        }
    }
    let rest: u32 = rest.iter().map(|byte| byte.count_ones()).sum();
    (sums.iter().sum::<u64>() + u64::from(rest)) as usize
}

/// The first bit of this value in the range, which must lie within the bytes.
pub fn find(bytes: &[u8], value: bool, range: Range<usize>) -> Option<usize> {
    if range.start >= range.end {
        return None;
    }
    // Looking for zeros is looking for ones in the complement.
    let flip = if value { 0 } else { 0xff_u8 };
    let (first, last) = (range.start / 8, (range.end - 1) / 8);
    let in_byte = |index: usize, mask: u8| {
        let found = (bytes[index] ^ flip) & mask;
        (found != 0).then(|| index * 8 + found.leading_zeros() as usize)
    };
    let head = 0xff_u8 >> (range.start % 8);
    let tail = 0xff_u8 << (7 - (range.end - 1) % 8);
    if first == last {
        return in_byte(first, head & tail);
    }
    in_byte(first, head)
        .or_else(|| {
            let skip = u64::from_ne_bytes([flip; 8]);
            let inner = &bytes[first + 1..last];
            let words = inner.as_chunks::<8>().0.iter().take_while(|word| u64::from_ne_bytes(**word) == skip).count();
            (first + 1 + 8 * words..last).find_map(|index| in_byte(index, 0xff))
        })
        .or_else(|| in_byte(last, tail))
}

/// A bit; beyond the end all are zero.
pub fn get(bytes: &[u8], offset: usize) -> bool {
    bytes.get(offset / 8).is_some_and(|byte| byte & 0x80 >> (offset % 8) != 0)
}

/// Sets a bit that lies within the bytes; its old value.
pub fn set(bytes: &mut [u8], offset: usize, value: bool) -> bool {
    let mask = 0x80_u8 >> (offset % 8);
    let byte = &mut bytes[offset / 8];
    let old = *byte & mask != 0;
    *byte = if value { *byte | mask } else { *byte & !mask };
    old
}

/// An unsigned integer of up to 64 bits; beyond the end all bits are zero.
pub fn field(bytes: &[u8], offset: usize, width: u32) -> u64 {
    let start = offset / 8;
    let mut window = [0; 16];
    let present = bytes.get(start..).unwrap_or(&[]);
    let len = present.len().min(9);
    window[..len].copy_from_slice(&present[..len]);
    let shifted = u128::from_be_bytes(window) << (offset % 8);
    (shifted >> (128 - width)) as u64
}

/// Writes the low `width` bits of a value at an offset; all of them lie within the bytes.
pub fn set_field(bytes: &mut [u8], offset: usize, width: u32, value: u64) {
    let start = offset / 8;
    let len = bytes.len().saturating_sub(start).min(9);
    let mut window = [0; 16];
    window[..len].copy_from_slice(&bytes[start..start + len]);
    let shift = 128 - width - (offset % 8) as u32;
    let mask = (u128::MAX >> (128 - width)) << shift;
    let merged = u128::from_be_bytes(window) & !mask | u128::from(value) << shift & mask;
    bytes[start..start + len].copy_from_slice(&merged.to_be_bytes()[..len]);
}

/// How BITOP combines its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    And,
    Or,
    Xor,
    Not,
    /// In the first and in no other.
    Diff,
    /// In some other and not in the first.
    Diff1,
    /// In the first and in some other.
    AndOr,
    /// In exactly one.
    One,
}

/// A combination that takes its sources one after the other; shorter ones end in zeros.
pub struct Combination {
    operation: Operation,
    sources: usize,
    /// The result so far; of `Diff` and its kin the first source; of `One` the bits seen at least once.
    main: Vec<u8>,
    /// Of `Diff` and its kin the union of the other sources; of `One` the bits seen at least twice.
    other: Vec<u8>,
}

impl Combination {
    pub fn new(operation: Operation) -> Self {
        Combination { operation, sources: 0, main: Vec::new(), other: Vec::new() }
    }

    pub fn add(&mut self, source: &[u8]) {
        let is_first = self.sources == 0;
        self.sources += 1;
        let Combination { operation, main, other, .. } = self;
        match operation {
            Operation::Not => main.extend(source.iter().map(|byte| !byte)),
            Operation::One => {
                lengthen(main, source.len());
                lengthen(other, source.len());
                for ((once, twice), byte) in main.iter_mut().zip(other.iter_mut()).zip(source) {
                    *twice |= *once & byte;
                    *once |= byte;
                }
            }
            _ if is_first => main.extend_from_slice(source),
            Operation::And => {
                lengthen(main, source.len());
                merge(main, source, |a, b| a & b);
                main[source.len()..].fill(0);
            }
            Operation::Or => {
                lengthen(main, source.len());
                merge(main, source, |a, b| a | b);
            }
            Operation::Xor => {
                lengthen(main, source.len());
                merge(main, source, |a, b| a ^ b);
            }
            Operation::Diff | Operation::Diff1 | Operation::AndOr => {
                lengthen(other, source.len());
                merge(other, source, |a, b| a | b);
            }
        }
    }

    pub fn finish(mut self) -> Vec<u8> {
        lengthen(&mut self.main, self.other.len());
        lengthen(&mut self.other, self.main.len());
        let Combination { operation, mut main, other, .. } = self;
        match operation {
            Operation::Diff | Operation::One => merge(&mut main, &other, |a, b| a & !b),
            Operation::Diff1 => merge(&mut main, &other, |a, b| !a & b),
            Operation::AndOr => merge(&mut main, &other, |a, b| a & b),
            Operation::And | Operation::Or | Operation::Xor | Operation::Not => {}
        }
        main
    }
}

fn lengthen(bytes: &mut Vec<u8>, len: usize) {
    if bytes.len() < len {
        bytes.resize(len, 0);
    }
}

/// The compiler turns this loop into vector instructions.
#[inline(always)]
fn merge(target: &mut [u8], source: &[u8], combine: impl Fn(u8, u8) -> u8) {
    for (a, b) in target.iter_mut().zip(source) {
        *a = combine(*a, *b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_agree_with_single_bits(bytes: Vec<u8>, a: usize, b: usize, value: bool) {
            let bits = bytes.len() * 8;
            let (a, b) = if bits == 0 { (0, 0) } else { (a % (bits + 1), b % (bits + 1)) };
            let range = a.min(b)..a.max(b);
            prop_assert_eq!(count(&bytes, range.clone()), range.clone().filter(|at| get(&bytes, *at)).count());
            prop_assert_eq!(find(&bytes, value, range.clone()), range.clone().find(|at| get(&bytes, *at) == value));
        }

        #[test]
        fn fields_agree_with_single_bits(mut bytes in prop::collection::vec(any::<u8>(), 9..30), offset: usize, width in 1u32..=64, value: u64) {
            let offset = offset % (bytes.len() * 8 - width as usize);
            let mut model = bytes.clone();
            for bit in 0..width {
                set(&mut model, offset + bit as usize, value >> (width - 1 - bit) & 1 == 1);
            }
            set_field(&mut bytes, offset, width, value);
            prop_assert_eq!(&bytes, &model);
            prop_assert_eq!(field(&bytes, offset, width), value & (u64::MAX >> (64 - width)));
        }

        #[test]
        fn combinations_agree_with_single_bits(sources in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..if cfg!(miri) { 6 } else { 40 }), 2..5)) {
            let longest = sources.iter().map(Vec::len).max().unwrap_or(0);
            for operation in [Operation::And, Operation::Or, Operation::Xor, Operation::Diff, Operation::Diff1, Operation::AndOr, Operation::One] {
                let mut combination = Combination::new(operation);
                sources.iter().for_each(|source| combination.add(source));
                let result = combination.finish();
                prop_assert_eq!(result.len(), longest);
                for at in 0..longest * 8 {
                    let first = get(&sources[0], at);
                    let others = sources[1..].iter().filter(|source| get(source, at)).count();
                    let all = others + usize::from(first);
                    let expected = match operation {
                        Operation::And => all == sources.len(),
                        Operation::Or => all > 0,
                        Operation::Xor => all % 2 == 1,
                        Operation::Not => false,
                        Operation::Diff => first && others == 0,
                        Operation::Diff1 => !first && others > 0,
                        Operation::AndOr => first && others > 0,
                        Operation::One => all == 1,
                    };
                    prop_assert_eq!(get(&result, at), expected);
                }
            }
        }
    }
}
