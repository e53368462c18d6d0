//! PFSELFTEST: registers keep what they are given, and the estimate stays within its promised error.

use super::{REGISTERS, add, cardinality, empty, is_sparse, make_dense, pack, unpack};
use crate::base::random::Random;
use crate::engine::string::StringBlock;

const CYCLES: usize = 1000;
const ELEMENTS: u64 = 10_000_000;

/// Runs all tests; the fault that was found, if any.
pub fn self_test(random: &mut Random, sparse_len_max: usize) -> Result<(), String> {
    for _ in 0..CYCLES {
        for group in 0..REGISTERS / 4 {
            let word = random.next_u64();
            let four = [word, word >> 8, word >> 16, word >> 24].map(|value| value as u8 & 63);
            let found = unpack(pack(four));
            if let Some(at) = (0..4).find(|at| four[*at] != found[*at]) {
                let index = group * 4 + at;
                return Err(format!("TESTFAILED Register {index} should be {} but is {}", four[at], found[at]));
            }
        }
    }
    let error = |_| "TESTFAILED corrupted registers".to_string();
    let mut dense = StringBlock::new(&empty());
    make_dense(&mut dense).map_err(error)?;
    let mut grown = StringBlock::new(&empty());
    let (seed, mut checkpoint) = (random.next_u64(), 1);
    for number in 1..=ELEMENTS {
        let element = (number ^ seed).to_le_bytes();
        add(&mut dense, &element, sparse_len_max).map_err(error)?;
        add(&mut grown, &element, sparse_len_max).map_err(error)?;
        if number == checkpoint {
            if (number as usize) < sparse_len_max / 2 && !is_sparse(grown.as_bytes()) {
                return Err("TESTFAILED sparse encoding not used".into());
            }
            let estimate = cardinality(dense.as_bytes()).map_err(error)?;
            if cardinality(grown.as_bytes()).map_err(error)? != estimate {
                return Err("TESTFAILED dense/sparse disagree".into());
            }
            check_error(number, estimate)?;
            checkpoint *= 10;
        }
    }
    Ok(())
}

/// Six standard errors are never seen in practice; among ten elements one collision may happen.
fn check_error(cardinality: u64, estimate: u64) -> Result<(), String> {
    let relative = 1.04 / (REGISTERS as f64).sqrt();
    let allowed = if cardinality == 10 { 1 } else { (relative * 6.0 * cardinality as f64).ceil() as u64 };
    let error = cardinality.abs_diff(estimate);
    if error > allowed {
        return Err(format!("TESTFAILED Too big error. card:{cardinality} abserr:{error}"));
    }
    Ok(())
}
