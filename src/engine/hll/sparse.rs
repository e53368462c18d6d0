//! Sparse registers: walking their runs and raising one in the midst of them.

use super::{Corrupt, HEADER, REGISTERS};
use crate::engine::string::StringBlock;
use std::ops::Range;

const VALUE_MAX: u8 = 32;
const VALUE_RUN_MAX: usize = 4;
const SHORT_ZEROS_MAX: usize = 64;
/// How many runs, from the one before the change, are looked at for neighbours that can be joined.
const JOIN_SCAN: usize = 5;

/// What became of an attempt to raise a register.
pub(super) enum Raised {
    Done(bool),
    /// The value is too high, or the string would grow too long: it must become dense first.
    TooLong,
}

/// One run of equal registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    value: u8,
    registers: usize,
    bytes: usize,
}

/// The run that begins at a position; nothing at the end, or if its second byte is missing.
fn run_at(bytes: &[u8], at: usize) -> Option<Run> {
    let first = *bytes.get(at)?;
    Some(match first >> 6 {
        0 => Run { value: 0, registers: usize::from(first & 0x3f) + 1, bytes: 1 },
        1 => {
            let second = *bytes.get(at + 1)?;
            Run { value: 0, registers: (usize::from(first & 0x3f) << 8 | usize::from(second)) + 1, bytes: 2 }
        }
        _ => Run { value: (first >> 2 & 0x1f) + 1, registers: usize::from(first & 3) + 1, bytes: 1 },
    })
}

pub(super) fn long_zeros(registers: usize) -> [u8; 2] {
    let len = registers - 1;
    [0x40 | (len >> 8) as u8, len as u8]
}

fn value_run(value: u8, registers: usize) -> u8 {
    0x80 | (value - 1) << 2 | (registers - 1) as u8
}

/// Up to five bytes of new runs.
#[derive(Default)]
struct Piece {
    bytes: [u8; 5],
    len: usize,
}

impl Piece {
    fn push(&mut self, value: u8, registers: usize) {
        if registers == 0 {
            return;
        }
        if value > 0 {
            self.push_byte(value_run(value, registers));
        } else if registers <= SHORT_ZEROS_MAX {
            self.push_byte((registers - 1) as u8);
        } else {
            long_zeros(registers).into_iter().for_each(|byte| self.push_byte(byte));
        }
    }

    fn push_byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }
}

/// Shows every run of registers that are not zero; an error unless the runs cover all registers exactly.
pub(super) fn visit_values(bytes: &[u8], mut visit: impl FnMut(Range<usize>, u8)) -> Result<(), Corrupt> {
    let (mut at, mut index) = (HEADER, 0);
    while at < bytes.len() {
        let run = run_at(bytes, at).ok_or(Corrupt)?;
        let end = index + run.registers;
        if end > REGISTERS {
            return Err(Corrupt);
        }
        if run.value > 0 {
            visit(index..end, run.value);
        }
        at += run.bytes;
        index = end;
    }
    if index == REGISTERS { Ok(()) } else { Err(Corrupt) }
}

/// The runs as text (PFDEBUG DECODE): `z:` and `Z:` zeros, `v:` value and length.
pub fn decode(bytes: &[u8]) -> String {
    let mut words = Vec::new();
    let mut at = HEADER;
    while let Some(run) = run_at(bytes, at) {
        words.push(match (run.value, run.bytes) {
            (0, 1) => format!("z:{}", run.registers),
            (0, _) => format!("Z:{}", run.registers),
            (value, _) => format!("v:{value},{}", run.registers),
        });
        at += run.bytes;
    }
    words.join(" ")
}

/// Raises a register to at least `count`. The same runs result as in Redis, down to the byte.
pub(super) fn raise(block: &mut StringBlock, index: usize, count: u8, len_max: usize) -> Result<Raised, Corrupt> {
    if count > VALUE_MAX {
        return Ok(Raised::TooLong);
    }
    // The run that holds the register, where it begins, and where the one before it does.
    let (mut at, mut before, mut first) = (HEADER, HEADER, 0);
    let run = loop {
        let run = run_at(block.as_bytes(), at).ok_or(Corrupt)?;
        if index < first + run.registers {
            break run;
        }
        before = at;
        at += run.bytes;
        first += run.registers;
    };
    if run.value >= count {
        return Ok(Raised::Done(false));
    }
    if run.registers == 1 && run.bytes == 1 {
        block.as_mut_bytes()[at] = value_run(count, 1);
    } else {
        let mut piece = Piece::default();
        piece.push(run.value, index - first);
        piece.push(count, 1);
        piece.push(run.value, first + run.registers - 1 - index);
        if piece.len > run.bytes && block.len() + piece.len - run.bytes > len_max {
            return Ok(Raised::TooLong);
        }
        splice(block, at..at + run.bytes, &piece.bytes[..piece.len]);
    }
    join_neighbours(block, before);
    super::invalidate_cache(block.as_mut_bytes());
    Ok(Raised::Done(true))
}

/// Puts a piece in place of a range of bytes.
fn splice(block: &mut StringBlock, range: Range<usize>, piece: &[u8]) {
    let (old_len, end) = (block.len(), range.start + piece.len());
    let new_len = old_len - range.len() + piece.len();
    block.extend_zeroed(new_len);
    block.as_mut_bytes().copy_within(range.end..old_len, end);
    block.as_mut_bytes()[range.start..end].copy_from_slice(piece);
    block.truncate(new_len);
}

/// Joins runs of the same value that stand side by side and fit into one.
fn join_neighbours(block: &mut StringBlock, mut at: usize) {
    for _ in 0..JOIN_SCAN {
        let Some(run) = run_at(block.as_bytes(), at) else { return };
        let next = run_at(block.as_bytes(), at + run.bytes);
        match next {
            Some(next)
                if run.value > 0 && next.value == run.value && run.registers + next.registers <= VALUE_RUN_MAX =>
            {
                // The joined run is looked at once more, with its new neighbour.
                splice(block, at..at + 2, &[value_run(run.value, run.registers + next.registers)]);
            }
            _ => at += run.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_split_and_join() {
        let mut block = StringBlock::new(&super::super::empty());
        let mut raise_to = |index, count| {
            raise(&mut block, index, count, 3000).ok();
            decode(block.as_bytes())
        };
        assert_eq!(raise_to(10, 3), "z:10 v:3,1 Z:16373");
        assert_eq!(raise_to(11, 3), "z:10 v:3,2 Z:16372");
        assert_eq!(raise_to(13, 3), "z:10 v:3,2 z:1 v:3,1 Z:16370");
        assert_eq!(raise_to(12, 3), "z:10 v:3,4 Z:16370");
        assert_eq!(raise_to(11, 9), "z:10 v:3,1 v:9,1 v:3,2 Z:16370");
        assert_eq!(raise_to(11, 2), "z:10 v:3,1 v:9,1 v:3,2 Z:16370");
        assert_eq!(raise_to(16383, 1), "z:10 v:3,1 v:9,1 v:3,2 Z:16369 v:1,1");
    }
}
