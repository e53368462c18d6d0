//! One value as DUMP and MIGRATE send it.
//!
//! ```text
//! type u8 | value … | version u16 LE | CRC-64 of all before u64 LE
//! ```

use super::checksum;
use super::encode;
use super::fault::Fault;
use super::format::{self, Lineage};
use crate::engine::record::Record;

const FOOTER: usize = 10;

pub fn payload(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    encode::value(&mut out, record);
    let version = encode::version_for(&record.value()) as u16;
    out.extend_from_slice(&version.to_le_bytes());
    let checksum = checksum::of(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// Whether the checksum of a payload is compared (DEBUG SET-SKIP-CHECKSUM-VALIDATION says no, for tests of what comes after).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    Yes,
    No,
}

/// The type, lineage and value of a payload; an error if its version is too new or its checksum wrong.
pub fn open(payload: &[u8], verify: Verify) -> Result<(u8, Lineage, &[u8]), Fault> {
    const WRONG: Fault = Fault::fixed("DUMP payload version or checksum are wrong");
    let (rest, footer) = payload.len().checked_sub(FOOTER).map(|at| payload.split_at(at)).ok_or(WRONG)?;
    let (version, stored) = footer.split_first_chunk::<2>().ok_or(WRONG)?;
    let lineage = format::lineage(u32::from(u16::from_le_bytes(*version))).ok_or(WRONG)?;
    if verify == Verify::Yes && checksum::of(&payload[..payload.len() - 8]).to_le_bytes() != stored {
        return Err(WRONG);
    }
    let (kind, body) = rest.split_first().ok_or(Fault::fixed("a payload without a value"))?;
    Ok((*kind, lineage, body))
}
