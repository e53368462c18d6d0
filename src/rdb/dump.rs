//! One value as DUMP and MIGRATE send it, and all libraries as FUNCTION DUMP does.
//!
//! ```text
//! type u8 | value …      | version u16 LE | CRC-64 of all before u64 LE
//! (245 | code as string) … | version | CRC-64
//! ```

use super::checksum;
use super::encode;
use super::fault::Fault;
use super::format::{self, Lineage, opcode};
use super::source::Source;
use crate::engine::record::Record;

const FOOTER: usize = 10;

/// `compress` as for files (rdbcompression).
pub fn payload(record: &Record, compress: bool) -> Vec<u8> {
    let mut out = Vec::new();
    encode::value(&mut out, record, compress);
    close(&mut out, encode::version_for(&record.value()));
    out
}

/// Appends the footer.
fn close(out: &mut Vec<u8>, version: u32) {
    out.extend_from_slice(&(version as u16).to_le_bytes());
    let checksum = checksum::of(out);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// The payload of libraries with these codes.
pub fn libraries<'a>(codes: impl Iterator<Item = &'a [u8]>, compress: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for code in codes {
        out.push(opcode::FUNCTION2);
        encode::string(&mut out, code, compress);
    }
    close(&mut out, format::VERSION_PLAIN);
    out
}

/// The codes of a payload of libraries.
pub fn open_libraries(payload: &[u8], verify: Verify) -> Result<Vec<Vec<u8>>, Fault> {
    let (rest, _) = checked(payload, verify)?;
    let mut source = Source::new(rest);
    let mut codes = Vec::new();
    while source.rest() > 0 {
        match source.byte()? {
            opcode::FUNCTION2 => codes.push(source.string()?.into_owned()),
            opcode::FUNCTION_PRE_GA => return Err(Fault::fixed("Pre-GA function format not supported")),
            _ => return Err(Fault::fixed("given type is not a function")),
        }
    }
    Ok(codes)
}

/// Whether the checksum of a payload is compared (DEBUG SET-SKIP-CHECKSUM-VALIDATION says no, for tests of what comes after).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    Yes,
    No,
}

/// The type, lineage and value of a payload; an error if its version is too new or its checksum wrong.
pub fn open(payload: &[u8], verify: Verify) -> Result<(u8, Lineage, &[u8]), Fault> {
    let (rest, lineage) = checked(payload, verify)?;
    let (kind, body) = rest.split_first().ok_or(Fault::fixed("a payload without a value"))?;
    Ok((*kind, lineage, body))
}

/// What stands before the footer, and the lineage of its version.
fn checked(payload: &[u8], verify: Verify) -> Result<(&[u8], Lineage), Fault> {
    const WRONG: Fault = Fault::fixed("DUMP payload version or checksum are wrong");
    let (rest, footer) = payload.len().checked_sub(FOOTER).map(|at| payload.split_at(at)).ok_or(WRONG)?;
    let (version, stored) = footer.split_first_chunk::<2>().ok_or(WRONG)?;
    let lineage = format::lineage(u32::from(u16::from_le_bytes(*version))).ok_or(WRONG)?;
    if verify == Verify::Yes && checksum::of(&payload[..payload.len() - 8]).to_le_bytes() != stored {
        return Err(WRONG);
    }
    Ok((rest, lineage))
}
