//! CRC-64/REDIS (Jones): reflected, from 0, no final xor. Its check value is e9c6d914c4b8d9ca.

use crc_fast::{CrcAlgorithm, Digest};

pub struct Checksum(Digest);

impl Checksum {
    pub fn new() -> Self {
        Checksum(Digest::new(CrcAlgorithm::Crc64Redis))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn value(&self) -> u64 {
        self.0.finalize()
    }
}

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}

/// Of one piece.
pub fn of(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Redis, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_redis_s() {
        assert_eq!(of(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        let mut checksum = Checksum::new();
        for byte in b"123456789" {
            checksum.update(&[*byte]);
        }
        assert_eq!(checksum.value(), 0xe9c6_d914_c4b8_d9ca);
        let long: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let mut pieces = Checksum::new();
        for piece in long.chunks(777) {
            pieces.update(piece);
        }
        assert_eq!(pieces.value(), of(&long));
    }
}
