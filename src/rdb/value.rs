//! A raw value, framed before, becomes an engine value. Everything is checked: what comes out obeys the engine's invariants.

use super::fault::Fault;
use super::format::{Lineage, kind};
use super::source::{Result, Source};
use super::types::{hash, list, set, stream, zset};
use crate::engine::limits::Limits;
use crate::engine::record::Record;
use crate::engine::value::Value;
use std::borrow::Cow;

/// Strings are lent: a record copies them into its own block anyway.
pub enum Decoded<'a> {
    String(Cow<'a, [u8]>),
    Value(Value),
}

impl Decoded<'_> {
    pub fn into_record(self, key: &[u8], expiry: Option<i64>) -> Record {
        match self {
            Decoded::String(text) => Record::string(key, &text, expiry),
            Decoded::Value(value) => Record::with_value(key, value, expiry),
        }
    }

    pub fn into_value(self) -> Value {
        match self {
            Decoded::String(text) => Value::Bytes(text.into_owned()),
            Decoded::Value(value) => value,
        }
    }
}

/// Decodes the bytes of one value, all of them.
pub fn decode<'a>(kind: u8, lineage: Lineage, body: &'a [u8], limits: &Limits) -> Result<Decoded<'a>> {
    let mut source = Source::new(body);
    let decoded = decode_from(kind, lineage, &mut source, limits)?;
    match source.rest() {
        0 => Ok(decoded),
        _ => Err(Fault::fixed("bytes behind the end of a value")),
    }
}

fn decode_from<'a>(kind: u8, lineage: Lineage, source: &mut Source<'a>, limits: &Limits) -> Result<Decoded<'a>> {
    if kind == kind::STRING {
        return Ok(Decoded::String(source.string()?));
    }
    let value = match kind {
        kind::LIST | kind::LIST_ZIPLIST | kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2 => {
            Value::List(list::decode(kind, source, limits)?)
        }
        kind::SET | kind::SET_INTSET | kind::SET_LISTPACK => Value::Set(set::decode(kind, source, limits)?),
        kind::ZSET | kind::ZSET_2 | kind::ZSET_ZIPLIST | kind::ZSET_LISTPACK => {
            Value::ZSet(zset::decode(kind, source, limits)?)
        }
        kind::HASH | kind::HASH_ZIPMAP | kind::HASH_ZIPLIST | kind::HASH_LISTPACK => {
            Value::Hash(hash::decode(kind, source, limits)?)
        }
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => Value::Stream(stream::decode(kind, source)?),
        kind::STREAM_4 | kind::STREAM_5 if lineage == Lineage::Redis => Value::Stream(stream::decode(kind, source)?),
        kind::HASH_METADATA_PRE_GA if lineage == Lineage::Valkey => Value::Hash(hash::decode_valkey(source, limits)?),
        kind::HASH_METADATA_PRE_GA | kind::HASH_LISTPACK_EX_PRE_GA | kind::HASH_METADATA | kind::HASH_LISTPACK_EX
            if lineage == Lineage::Redis =>
        {
            Value::Hash(hash::decode_expiring(kind, source, limits)?)
        }
        _ => return Err(Fault::Damaged(format!("Unknown RDB encoding type {kind}").into())),
    };
    Ok(Decoded::Value(value))
}
