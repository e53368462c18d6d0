//! LZF, the compression of RDB strings and of quicklist nodes. Any LZF stream is valid input for a stock server.
//!
//! ```text
//! 000LLLLL  L+1 bytes                      literal run, 1..32 bytes
//! LLLooooo oooooooo                        copy L+2 bytes (L in 1..=6) from o+1 bytes back
//! 111ooooo LLLLLLLL oooooooo               copy L+9 bytes from o+1 bytes back
//! ```
//!
//! The crate `lzf` writes the same format, but clears a table of half a megabyte for each call; a quicklist compresses
//! nodes of 8 KB. The table here is 16 KB on the stack.

const TABLE_BITS: u32 = 12;
const MAX_OFFSET: usize = 1 << 13;
const MAX_COPY: usize = 264;
const MAX_LITERAL: usize = 32;

/// The compressed form, if it is at most `limit` bytes long.
pub fn compress(data: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut table = [0u32; 1 << TABLE_BITS];
    let mut out = Vec::with_capacity(limit.min(data.len()));
    let (mut at, mut literal) = (0, 0);
    while at + 2 < data.len() {
        let slot = &mut table[hash(&data[at..at + 3])];
        // Positions are stored plus one, so that zero means "none".
        let candidate = std::mem::replace(slot, at as u32 + 1) as usize;
        let len = match candidate.checked_sub(1) {
            Some(from) if at - from <= MAX_OFFSET => common(data, from, at),
            _ => 0,
        };
        if len < 3 {
            at += 1;
            continue;
        }
        put_literals(&mut out, &data[literal..at]);
        put_copy(&mut out, at + 1 - candidate, len);
        if out.len() > limit {
            return None;
        }
        for inside in at + 1..(at + len).min(data.len() - 2) {
            table[hash(&data[inside..inside + 3])] = inside as u32 + 1;
        }
        at += len;
        literal = at;
    }
    put_literals(&mut out, &data[literal..]);
    (out.len() <= limit).then_some(out)
}

/// The original of `len` bytes; `None` if the stream is damaged or yields another length.
pub fn decompress(mut data: &[u8], len: usize) -> Option<Vec<u8>> {
    // One compressed byte yields at most 88: a length from outside cannot reserve more than the input justifies.
    if len / 88 > data.len() {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    while let Some((control, rest)) = data.split_first() {
        data = rest;
        let control = usize::from(*control);
        if control < MAX_LITERAL {
            let (run, rest) = data.split_at_checked(control + 1)?;
            out.extend_from_slice(run);
            data = rest;
            continue;
        }
        let mut copy = (control >> 5) + 2;
        if copy == 9 {
            let (more, rest) = data.split_first()?;
            copy += usize::from(*more);
            data = rest;
        }
        let (low, rest) = data.split_first()?;
        data = rest;
        let from = out.len().checked_sub(((control & 31) << 8 | usize::from(*low)) + 1)?;
        if out.len() + copy > len {
            return None;
        }
        if from + copy <= out.len() {
            out.extend_from_within(from..from + copy);
        } else {
            // The copy overlaps what it writes: a repeating pattern.
            for i in from..from + copy {
                out.push(out[i]);
            }
        }
    }
    (out.len() == len).then_some(out)
}

fn hash(three: &[u8]) -> usize {
    let word = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
    (word.wrapping_mul(0x9e37_79b1) >> (32 - TABLE_BITS)) as usize
}

fn common(data: &[u8], from: usize, at: usize) -> usize {
    let max = MAX_COPY.min(data.len() - at);
    data[from..].iter().zip(&data[at..at + max]).take_while(|(a, b)| a == b).count()
}

fn put_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(MAX_LITERAL) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn put_copy(out: &mut Vec<u8>, distance: usize, len: usize) {
    let offset = distance - 1;
    let coded = len - 2;
    if coded < 7 {
        out.push((coded << 5 | offset >> 8) as u8);
    } else {
        out.push((7 << 5 | offset >> 8) as u8);
        out.push((coded - 7) as u8);
    }
    out.push(offset as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trip(words in proptest::collection::vec(proptest::collection::vec(0u8..4, 0..200), 0..60)) {
            let data = words.concat();
            let packed = compress(&data, data.len() * 2 + 16).unwrap();
            prop_assert_eq!(decompress(&packed, data.len()).unwrap(), data.clone());
            prop_assert_eq!(decompress(&packed, data.len() + 1), None);
        }

        #[test]
        fn damaged_streams_are_refused(data in proptest::collection::vec(any::<u8>(), 0..200), len in 0usize..2000) {
            if let Some(out) = decompress(&data, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }

    #[test]
    fn format_is_that_of_liblzf() {
        // What liblzf makes of 40 a's: a literal, then one long copy from one byte back.
        assert_eq!(decompress(b"\x00a\xe0\x1e\x00", 40), Some(vec![b'a'; 40]));
        let zeros = vec![0; 100_000];
        let packed = compress(&zeros, 2000).unwrap();
        assert_eq!(decompress(&packed, zeros.len()), Some(zeros));
        assert_eq!(compress(b"abcdefgh", 7), None);
    }
}
