//! HyperLogLog: a string that estimates how many different elements it was given, byte for byte as Redis keeps it, so that
//! dumped values and those of other servers merge.
//!
//! ```text
//! 0      4          5       8               16
//! | HYLL | encoding | 0 0 0 | cardinality   | registers …
//!                             u64, little-endian; highest bit set: must be computed anew
//!
//! dense (0)   16384 registers of 6 bits, from the lowest bit of each byte upwards: 12288 bytes
//! sparse (1)  runs of registers:  00rrrrrr            1-64 zeros
//!                                 01rrrrrr rrrrrrrr   1-16384 zeros
//!                                 1vvvvvrr            1-4 registers of value 1-32
//! ```
//!
//! A register holds the longest run of zeros, plus one, among the hashes that fell to it. The estimate is Ertl's ("New
//! cardinality estimation algorithms for HyperLogLog sketches", arXiv:1702.01284).

mod self_test;
mod sparse;

use super::string::StringBlock;
pub use self_test::self_test;
pub use sparse::decode;

pub const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// Hash bits that a register counts zeros in.
const COUNTED_BITS: usize = 64 - INDEX_BITS as usize;
const HEADER: usize = 16;
const DENSE_LEN: usize = HEADER + REGISTERS * 6 / 8;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const HASH_SEED: u64 = 0xadc8_3b19;
/// 1 / (2 ln 2)
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// The string begins like one of ours, but its registers make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// All registers, one per byte.
pub type Registers = [u8; REGISTERS];

/// A new one without elements.
pub fn empty() -> [u8; HEADER + 2] {
    let mut bytes = [0; HEADER + 2];
    bytes[..5].copy_from_slice(b"HYLL\x01");
    bytes[HEADER..].copy_from_slice(&sparse::long_zeros(REGISTERS));
    bytes
}

/// Whether a string begins like a HyperLogLog and has the length of one.
pub fn is_valid(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER
        && bytes.starts_with(b"HYLL")
        && match bytes[4] {
            DENSE => bytes.len() == DENSE_LEN,
            SPARSE => true,
            _ => false,
        }
}

pub fn is_sparse(bytes: &[u8]) -> bool {
    bytes.get(4) == Some(&SPARSE)
}

/// The cardinality as it was computed last, if nothing has changed since.
pub fn cached_cardinality(bytes: &[u8]) -> Option<u64> {
    let card = u64::from_le_bytes(*bytes.get(8..HEADER)?.first_chunk()?);
    (card >> 63 == 0).then_some(card)
}

pub fn cache_cardinality(bytes: &mut [u8], cardinality: u64) {
    bytes[8..HEADER].copy_from_slice(&cardinality.to_le_bytes());
}

pub fn invalidate_cache(bytes: &mut [u8]) {
    bytes[HEADER - 1] |= 0x80;
}

/// Adds an element; whether a register has changed.
pub fn add(block: &mut StringBlock, element: &[u8], sparse_len_max: usize) -> Result<bool, Corrupt> {
    let (index, count) = place(element);
    raise(block, index, count, sparse_len_max)
}

/// Raises a register to at least `count`; whether it was lower. The string becomes dense when it gets too long.
pub fn raise(block: &mut StringBlock, index: usize, count: u8, sparse_len_max: usize) -> Result<bool, Corrupt> {
    if is_sparse(block.as_bytes()) {
        match sparse::raise(block, index, count, sparse_len_max)? {
            sparse::Raised::Done(changed) => return Ok(changed),
            sparse::Raised::TooLong => {
                make_dense(block)?;
            }
        }
    }
    Ok(raise_dense(&mut block.as_mut_bytes()[HEADER..], index, count))
}

/// Raises `registers` to at least those of a HyperLogLog.
pub fn merge(registers: &mut Registers, bytes: &[u8]) -> Result<(), Corrupt> {
    if is_sparse(bytes) {
        return sparse::visit_values(bytes, |range, value| {
            registers[range].iter_mut().for_each(|register| *register = (*register).max(value));
        });
    }
    let (groups, _) = bytes.get(HEADER..).unwrap_or(&[]).as_chunks::<3>();
    let (fours, _) = registers.as_chunks_mut::<4>();
    for (group, four) in groups.iter().zip(fours) {
        for (register, value) in four.iter_mut().zip(unpack(*group)) {
            *register = (*register).max(value);
        }
    }
    Ok(())
}

/// All registers of one.
pub fn registers(bytes: &[u8]) -> Result<Box<Registers>, Corrupt> {
    let mut registers = Box::new([0; REGISTERS]);
    merge(&mut registers, bytes)?;
    Ok(registers)
}

/// Turns a sparse one into a dense one; whether it was sparse.
pub fn make_dense(block: &mut StringBlock) -> Result<bool, Corrupt> {
    if !is_sparse(block.as_bytes()) {
        return Ok(false);
    }
    let registers = registers(block.as_bytes())?;
    let mut dense = StringBlock::with_capacity(DENSE_LEN);
    dense.append(&block.as_bytes()[..HEADER]);
    for four in registers.as_chunks::<4>().0 {
        dense.append(&pack(*four));
    }
    dense.as_mut_bytes()[4] = DENSE;
    *block = dense;
    Ok(true)
}

/// The estimate, computed from the registers.
pub fn cardinality(bytes: &[u8]) -> Result<u64, Corrupt> {
    let mut histogram = [0; 64];
    if is_sparse(bytes) {
        let mut valued = 0;
        sparse::visit_values(bytes, |range, value| {
            histogram[usize::from(value)] += range.len() as u32;
            valued += range.len() as u32;
        })?;
        histogram[0] = REGISTERS as u32 - valued;
    } else {
        for group in bytes.get(HEADER..).unwrap_or(&[]).as_chunks::<3>().0 {
            unpack(*group).into_iter().for_each(|value| histogram[usize::from(value)] += 1);
        }
    }
    Ok(estimate(&histogram))
}

/// The estimate for a union of several.
pub fn cardinality_of_registers(registers: &Registers) -> u64 {
    let mut histogram = [0; 64];
    registers.iter().for_each(|value| histogram[usize::from(*value & 63)] += 1);
    estimate(&histogram)
}

/// From how many registers hold each value.
fn estimate(histogram: &[u32; 64]) -> u64 {
    let all = REGISTERS as f64;
    let mut sum = all * tau((all - f64::from(histogram[COUNTED_BITS + 1])) / all);
    for count in histogram[1..=COUNTED_BITS].iter().rev() {
        sum = (sum + f64::from(*count)) * 0.5;
    }
    sum += all * sigma(f64::from(histogram[0]) / all);
    (ALPHA * all * all / sum).round() as u64
}

/// Ertl's correction for registers that are still zero.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * y;
        y += y;
        if sum == before {
            return sum;
        }
    }
}

/// Ertl's correction for registers that can grow no more.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        y *= 0.5;
        sum -= (1.0 - x).powi(2) * y;
        if sum == before {
            return sum / 3.0;
        }
    }
}

/// The register of an element and the count that its hash stands for.
fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element, HASH_SEED);
    let index = hash as usize & (REGISTERS - 1);
    // A bit beyond the end bounds the count.
    let counted = hash >> INDEX_BITS | 1 << COUNTED_BITS;
    (index, counted.trailing_zeros() as u8 + 1)
}

/// MurmurHash64A (Austin Appleby, public domain), always reading little-endian.
fn murmur64a(data: &[u8], seed: u64) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = seed ^ (data.len() as u64).wrapping_mul(FACTOR);
    let (words, rest) = data.as_chunks::<8>();
    for word in words {
        let mut mixed = u64::from_le_bytes(*word).wrapping_mul(FACTOR);
        mixed = (mixed ^ mixed >> 47).wrapping_mul(FACTOR);
        hash = (hash ^ mixed).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(FACTOR);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(FACTOR);
    hash ^ hash >> 47
}

/// Four registers share three bytes.
fn unpack(group: [u8; 3]) -> [u8; 4] {
    let word = u32::from_le_bytes([group[0], group[1], group[2], 0]);
    [word & 63, word >> 6 & 63, word >> 12 & 63, word >> 18].map(|value| value as u8)
}

fn pack(four: [u8; 4]) -> [u8; 3] {
    let word = four.iter().rev().fold(0u32, |word, value| word << 6 | u32::from(*value & 63));
    let [a, b, c, _] = word.to_le_bytes();
    [a, b, c]
}

fn raise_dense(registers: &mut [u8], index: usize, count: u8) -> bool {
    let Some(group) = registers.as_chunks_mut::<3>().0.get_mut(index / 4) else { return false };
    let mut four = unpack(*group);
    let register = &mut four[index % 4];
    if *register >= count {
        return false;
    }
    *register = count;
    *group = pack(four);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[cfg_attr(miri, ignore)]
    fn estimates_within_a_few_percent() {
        let mut block = StringBlock::new(&empty());
        for number in 0..100_000u32 {
            add(&mut block, &number.to_le_bytes(), 3000).expect("sound");
        }
        assert!(!is_sparse(block.as_bytes()));
        let estimate = cardinality(block.as_bytes()).expect("sound");
        assert!((97_000..103_000).contains(&estimate), "{estimate}");
    }

    proptest! {
        #[test]
        #[cfg_attr(miri, ignore)]
        fn sparse_agrees_with_plain_registers(raises in prop::collection::vec((0..REGISTERS, 1u8..=32), 0..600)) {
            let mut model = Box::new([0u8; REGISTERS]);
            let mut block = StringBlock::new(&empty());
            let mut tight = StringBlock::new(&empty());
            for (index, count) in raises {
                // Neighbours make runs.
                let index = if index % 3 == 0 { index % 50 } else { index };
                let changed = raise(&mut block, index, count, usize::MAX).expect("sound");
                raise(&mut tight, index, count, 200).expect("sound");
                prop_assert_eq!(changed, model[index] < count);
                model[index] = model[index].max(count);
            }
            prop_assert!(is_sparse(block.as_bytes()));
            prop_assert_eq!(&*registers(block.as_bytes()).expect("sound"), &*model);
            prop_assert_eq!(&*registers(tight.as_bytes()).expect("sound"), &*model);
            let of_all = cardinality_of_registers(&model);
            prop_assert_eq!(cardinality(block.as_bytes()).expect("sound"), of_all);
            make_dense(&mut block).expect("sound");
            prop_assert_eq!(cardinality(block.as_bytes()).expect("sound"), of_all);
        }

        #[test]
        fn survives_any_bytes(tail: Vec<u8>, elements in prop::collection::vec(any::<u32>(), 0..20)) {
            let mut block = StringBlock::new(&[b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0".as_slice(), &tail].concat());
            for element in elements {
                let _ = add(&mut block, &element.to_le_bytes(), 3000);
            }
            let _ = cardinality(block.as_bytes());
            let _ = decode(block.as_bytes());
            let _ = make_dense(&mut block);
        }
    }
}
