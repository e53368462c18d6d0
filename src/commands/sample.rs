//! Random samples of a collection: SRANDMEMBER, HRANDFIELD and their kin.

use super::args;
use super::error::{CommandError, CommandResult};
use crate::base::random::Random;
use crate::resp::Reply;

/// A wish for random elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// Up to so many different ones.
    Distinct(usize),
    /// Exactly so many, each drawn from all.
    Repeating(usize),
}

/// Redis would send samples until the memory is gone; we refuse what could never be meant, unless the output limit ends it.
const REPEATING_MAX: u64 = 1 << 24;
const TOO_MANY: CommandError = CommandError::fixed("ERR value is out of range");
const OUT_OF_BOUNDS: CommandError =
    CommandError::fixed("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807");

impl Sample {
    /// The count of SRANDMEMBER: a negative one asks for repetitions.
    pub fn parse(text: &[u8], reply: &Reply) -> CommandResult<Self> {
        let count = args::integer(text)?;
        if count == i64::MIN {
            return Err(OUT_OF_BOUNDS);
        }
        if count >= 0 {
            return Ok(Sample::Distinct(count as usize));
        }
        if count.unsigned_abs() > REPEATING_MAX && !reply.is_limited() {
            return Err(TOO_MANY);
        }
        Ok(Sample::Repeating(count.unsigned_abs() as usize))
    }

    /// The same where each element brings its value or score: Redis bounds the count by half.
    pub fn parse_with_values(text: &[u8], reply: &Reply) -> CommandResult<Self> {
        let sample = Self::parse(text, reply)?;
        match sample {
            Sample::Distinct(count) if count > i64::MAX as usize / 2 => Err(TOO_MANY),
            sample => Ok(sample),
        }
    }
}

/// Chooses `count` of `len` elements while they pass by, every subset being equally likely (Knuth's algorithm S). It takes one
/// walk and no memory, so it serves whenever the sample is no small part of the whole.
pub struct Choice<'a> {
    random: &'a mut Random,
    wanted: u64,
    left: u64,
}

impl<'a> Choice<'a> {
    pub fn new(random: &'a mut Random, count: usize, len: usize) -> Self {
        Choice { random, wanted: count as u64, left: len as u64 }
    }

    /// Whether the next element is one of the chosen.
    #[inline]
    pub fn takes_next(&mut self) -> bool {
        if self.wanted == 0 || self.left == 0 {
            return false;
        }
        let takes = self.random.below(self.left) < self.wanted;
        self.left -= 1;
        self.wanted -= u64::from(takes);
        takes
    }
}

/// Whether drawing `count` different ones of `len` one by one would repeat itself too often: then choose while walking.
pub fn is_large_part(count: usize, len: usize) -> bool {
    count.saturating_mul(3) > len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_bounded() {
        let reply = &Reply::new(false);
        assert_eq!(Sample::parse(b"5", reply), Ok(Sample::Distinct(5)));
        assert_eq!(Sample::parse(b"-5", reply), Ok(Sample::Repeating(5)));
        assert_eq!(Sample::parse(b"9223372036854775807", reply), Ok(Sample::Distinct(i64::MAX as usize)));
        assert_eq!(Sample::parse(b"-9223372036854775808", reply), Err(OUT_OF_BOUNDS));
        assert_eq!(Sample::parse(b"-9223372036854775807", reply), Err(TOO_MANY));
        assert!(Sample::parse(b"x", reply).is_err());
        assert_eq!(Sample::parse_with_values(b"9223372036854770000", reply), Err(TOO_MANY));
    }

    #[test]
    fn every_element_is_equally_likely() {
        let mut random = Random::seeded(7);
        let mut taken = [0u32; 10];
        for _ in 0..10_000 {
            let mut choice = Choice::new(&mut random, 3, taken.len());
            let chosen: Vec<usize> = (0..taken.len()).filter(|_| choice.takes_next()).collect();
            assert_eq!(chosen.len(), 3);
            chosen.into_iter().for_each(|index| taken[index] += 1);
        }
        assert!(taken.iter().all(|times| (2700..3300).contains(times)), "{taken:?}");
    }
}
