//! Values and keys as bytes, appended to a buffer.

use super::format::{encoding, kind, opcode};
use super::types;
use crate::base::lzf;
use crate::base::number;
use crate::engine::listpack::Element;
use crate::engine::record::Record;
use crate::engine::table::Entry as _;
use crate::engine::value::{StringRef, ValueRef};

/// What is written about a key's last use, according to the eviction policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessData {
    #[default]
    None,
    Idle,
    Frequency,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// LZF for strings of more than 20 bytes.
    pub compress: bool,
    pub access: AccessData,
    /// For idle times; fields of hashes that have expired by then are not written where fields cannot expire.
    pub now_ms: i64,
    /// Readers of this version must understand every value: what it cannot hold is left out (see `types`).
    pub version: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { compress: true, access: AccessData::None, now_ms: 0, version: super::format::VERSION_MAX }
    }
}

/// A key with all that belongs to it.
pub fn record(out: &mut Vec<u8>, record: &Record, options: Options) {
    if types::leaves_nothing(&record.value(), options) {
        return;
    }
    head(out, record, options);
    types::put(out, &record.value(), options);
}

/// All that stands before a key's value.
pub fn head(out: &mut Vec<u8>, record: &Record, options: Options) {
    if let Some(at) = record.expiry() {
        out.push(opcode::EXPIRE_MS);
        out.extend_from_slice(&at.to_le_bytes());
    }
    match options.access {
        AccessData::None => {}
        AccessData::Idle => {
            let clock = (options.now_ms / 1000) as u32;
            out.push(opcode::IDLE);
            length(out, u64::from(clock.wrapping_sub(record.access()) & 0x00ff_ffff));
        }
        AccessData::Frequency => {
            out.push(opcode::FREQ);
            out.push(record.access() as u8);
        }
    }
    out.push(types::kind_of(&record.value(), options));
    string(out, record.key(), options.compress);
}

/// A value with its type byte in front, as DUMP has it.
pub fn value(out: &mut Vec<u8>, record: &Record, compress: bool) {
    let (value, options) = (record.value(), Options { compress, ..Options::default() });
    out.push(types::kind_of(&value, options));
    types::put(out, &value, options);
}

pub fn length(out: &mut Vec<u8>, len: u64) {
    match len {
        0..0x40 => out.push(len as u8),
        0x40..0x4000 => out.extend_from_slice(&(len as u16 | 0x4000).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// A string: short canonical numbers in their encoding, long texts compressed where that helps.
pub fn string(out: &mut Vec<u8>, text: &[u8], compress: bool) {
    if text.len() <= 11
        && let Some(value) = number::parse_i64(text)
        && small_integer(out, value)
    {
        return;
    }
    if compress
        && text.len() > 20
        && let Some(packed) = lzf::compress(text, text.len() - 4)
    {
        squeezed(out, &packed, text.len());
        return;
    }
    length(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// A string that is compressed already.
pub fn squeezed(out: &mut Vec<u8>, packed: &[u8], raw_len: usize) {
    out.push(0xc0 | encoding::LZF);
    length(out, packed.len() as u64);
    length(out, raw_len as u64);
    out.extend_from_slice(packed);
}

pub fn integer(out: &mut Vec<u8>, value: i64) {
    if !small_integer(out, value) {
        let text = number::IntText::new(value);
        length(out, text.len() as u64);
        out.extend_from_slice(&text);
    }
}

pub fn element(out: &mut Vec<u8>, element: Element<'_>, compress: bool) {
    match element {
        Element::Int(value) => integer(out, value),
        Element::Bytes(text) => string(out, text, compress),
    }
}

pub fn string_ref(out: &mut Vec<u8>, value: StringRef<'_>, compress: bool) {
    match value {
        StringRef::Int(value) => integer(out, value),
        StringRef::Bytes(text) => string(out, text, compress),
    }
}

fn small_integer(out: &mut Vec<u8>, value: i64) -> bool {
    if let Ok(value) = i8::try_from(value) {
        out.push(0xc0 | encoding::INT8);
        out.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = i16::try_from(value) {
        out.push(0xc0 | encoding::INT16);
        out.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(0xc0 | encoding::INT32);
        out.extend_from_slice(&value.to_le_bytes());
    } else {
        return false;
    }
    true
}

/// The lowest version of the format that can hold a value.
pub fn version_for(value: &ValueRef<'_>) -> u32 {
    match types::kind_of(value, Options::default()) {
        kind::HASH_METADATA | kind::HASH_LISTPACK_EX => super::format::VERSION_FIELD_EXPIRY,
        kind::STREAM_4 => super::format::VERSION_PRODUCERS,
        kind::STREAM_5 => super::format::VERSION_RELEASED,
        _ => super::format::VERSION_PLAIN,
    }
}
