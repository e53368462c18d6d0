//! What the fuzz targets share: a generator that can be repeated, ways to damage bytes, a campaign of bounded time, a limit of memory.
//!
//! `FUZZ_SECONDS=3600` runs longer; a failure names its run, and `FUZZ_FROM` begins with that one.

use nix::sys::resource::{Resource, setrlimit};
use std::fs;
use std::sync::Once;
use std::time::{Duration, Instant};

/// A small generator, so that a failure can be repeated from its seed.
pub struct Noise(u64);

impl Noise {
    pub fn of_run(run: u64) -> Self {
        Noise(run.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub fn pick<'a, T: AsRef<[u8]>>(&mut self, among: &'a [T]) -> &'a [u8] {
        among[self.below(among.len())].as_ref()
    }
}

/// Damages bytes in a few places, each in one of the ways in which lengths, types and counts go wrong; `words` are put in now and
/// then, where a format has some.
pub fn damage(sound: &[u8], others: &[Vec<u8>], words: &[&[u8]], noise: &mut Noise) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    for _ in 0..=noise.below(4) {
        if bytes.is_empty() {
            bytes.push(b'R');
        }
        let at = noise.below(bytes.len());
        match noise.below(if words.is_empty() { 8 } else { 10 }) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << noise.below(8),
            2 => bytes[at] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xc0, 0xc3, 0xfe, 0xff][noise.below(11)],
            3 => bytes[at] = noise.next() as u8,
            4 => drop(bytes.drain(at..(at + noise.below(9)).min(bytes.len()))),
            5 => {
                let piece: Vec<u8> = (0..noise.below(9)).map(|_| noise.next() as u8).collect();
                bytes.splice(at..at, piece);
            }
            6 => {
                let other = noise.pick(others);
                let from = noise.below(other.len());
                let piece = &other[from..(from + noise.below(64)).min(other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            7 => {
                // A length of eight bytes, huge.
                let len = [0x81, 0, 0, 0, 1, 0, 0, 0, 0];
                bytes.splice(at..at, len);
            }
            8 => {
                let word = noise.pick(words);
                bytes.splice(at..at, word.iter().copied());
            }
            _ => {
                let word = noise.pick(words);
                bytes.splice(at..(at + word.len()).min(bytes.len()), word.iter().copied());
            }
        }
    }
    bytes
}

/// Runs `one` with the noise of run after run until time is up; a run that panics is named. At least `least` must have been done.
pub fn campaign(name: &str, least: u64, mut one: impl FnMut(u64, &mut Noise)) {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let end = Instant::now() + Duration::from_secs(variable("FUZZ_SECONDS").unwrap_or(4));
    let first = variable("FUZZ_FROM").unwrap_or(1);
    let mut run = first;
    while Instant::now() < end {
        for _ in 0..20 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(run, &mut Noise::of_run(run))));
            assert!(result.is_ok(), "{name}: run {run}");
            run += 1;
            if (run - first).is_multiple_of(1000) {
                eprintln!("{name}: {} runs, {} KB in use", run - first, resident_kb());
            }
        }
    }
    assert!(run - first >= least, "{name}: only {} runs", run - first);
    eprintln!("{name}: {} runs", run - first);
}

/// Memory of this process as the kernel counts it.
pub fn resident_kb() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a size");
    pages * 4
}

/// From here on the process may have two gigabytes of address space more, no further: no allocation that the bytes do not justify.
pub fn limit_memory() {
    static LIMIT: Once = Once::new();
    LIMIT.call_once(|| {
        let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
        let pages: u64 = statm.split(' ').next().and_then(|text| text.parse().ok()).expect("a size");
        let limit = pages * 4096 + (2 << 30);
        setrlimit(Resource::RLIMIT_AS, limit, limit).expect("a limit below the present one");
    });
}
