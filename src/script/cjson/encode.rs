//! Values of Lua as JSON.

use super::super::api::library_fault as raise;
use super::{Invalid, NULL, Options, kind_name};
use mlua::{Result, Table, Value};
use std::fmt::Write as _;

pub fn encode(value: &Value, options: &Options) -> Result<Vec<u8>> {
    let (mut scratch, mut text) = (String::new(), Vec::new());
    Encoder { options, scratch: &mut scratch }.value(&mut text, value, 0)?;
    Ok(text)
}

struct Encoder<'a> {
    options: &'a Options,
    scratch: &'a mut String,
}

impl Encoder<'_> {
    fn value(&mut self, out: &mut Vec<u8>, value: &Value, depth: usize) -> Result<()> {
        match value {
            Value::Nil => out.extend_from_slice(b"null"),
            Value::LightUserData(pointer) if *pointer == NULL => out.extend_from_slice(b"null"),
            Value::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Integer(value) => self.number(out, *value as f64)?,
            Value::Number(value) => self.number(out, *value)?,
            Value::String(text) => string(out, &text.as_bytes()),
            Value::Table(table) => self.table(out, table, depth + 1)?,
            other => return Err(raise(&format!("Cannot serialise {}: type not supported", other.type_name()))),
        }
        Ok(())
    }

    fn number(&mut self, out: &mut Vec<u8>, value: f64) -> Result<()> {
        if !value.is_finite() {
            let text: &[u8] = match self.options.encode_invalid {
                Invalid::Refuse => return Err(raise("Cannot serialise number: must not be NaN or Inf")),
                Invalid::Null => b"null",
                Invalid::Allow if value.is_nan() => b"nan",
                Invalid::Allow if value > 0.0 => b"inf",
                Invalid::Allow => b"-inf",
            };
            out.extend_from_slice(text);
            return Ok(());
        }
        self.scratch.clear();
        crate::base::number::write_general(self.scratch, value, self.options.precision);
        out.extend_from_slice(self.scratch.as_bytes());
        Ok(())
    }

    fn table(&mut self, out: &mut Vec<u8>, table: &Table, depth: usize) -> Result<()> {
        if depth > self.options.encode_depth {
            return Err(raise(&format!("Cannot serialise, excessive nesting ({depth})")));
        }
        match self.array_len(table)? {
            Some(len) => {
                out.push(b'[');
                for index in 1..=len {
                    if index > 1 {
                        out.push(b',');
                    }
                    self.value(out, &table.raw_get(index)?, depth)?;
                }
                out.push(b']');
            }
            None => self.object(out, table, depth)?,
        }
        Ok(())
    }

    fn object(&mut self, out: &mut Vec<u8>, table: &Table, depth: usize) -> Result<()> {
        out.push(b'{');
        let mut is_first = true;
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            match &key {
                Value::String(text) => string(out, &text.as_bytes()),
                Value::Integer(_) | Value::Number(_) => {
                    out.push(b'"');
                    self.value(out, &key, depth)?;
                    out.push(b'"');
                }
                _ => {
                    return Err(raise(&format!(
                        "Cannot serialise {}: table key must be a number or string",
                        kind_name(Some(&key))
                    )));
                }
            }
            out.push(b':');
            self.value(out, &value, depth)?;
        }
        out.push(b'}');
        Ok(())
    }

    /// The length, if the table is an array: only positive whole keys, and not too many holes.
    fn array_len(&self, table: &Table) -> Result<Option<i64>> {
        let (mut max, mut items) = (0, 0);
        for pair in table.pairs::<Value, Value>() {
            let key = match pair?.0 {
                Value::Integer(key) if key > 0 => key,
                Value::Number(key) if key > 0.0 && key.fract() == 0.0 => key as i64,
                _ => return Ok(None),
            };
            max = max.max(key);
            items += 1;
        }
        if items == 0 {
            return Ok(None);
        }
        let options = self.options;
        let is_sparse = options.sparse_ratio > 0 && max > items * options.sparse_ratio && max > options.sparse_safe;
        match (is_sparse, options.sparse_convert) {
            (false, _) => Ok(Some(max)),
            (true, true) => Ok(None),
            (true, false) => Err(raise("Cannot serialise table: excessively sparse array")),
        }
    }
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'/' => out.extend_from_slice(b"\\/"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=31 | 127 => {
                let mut escape = String::new();
                // Writing to a string cannot fail.
                let _ = write!(escape, "\\u{byte:04x}");
                out.extend_from_slice(escape.as_bytes());
            }
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}
