//! `cmsgpack`: MessagePack for scripts, with the choices of lua-cmsgpack (msgpack.org, "MessagePack specification").

use super::api::{guard_all, library_fault as raise};
use mlua::{Lua, MultiValue, Result, Table, Value};

/// Deeper tables are packed as nil.
const DEPTH_MAX: usize = 16;

pub fn table(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set(
        "pack",
        lua.create_function(|lua, args: MultiValue| {
            if args.is_empty() {
                return Err(raise("bad argument #0 to 'pack' (MessagePack pack needs input.)"));
            }
            let mut bytes = Vec::new();
            for value in &args {
                pack(&mut bytes, value, 0)?;
            }
            lua.create_string(bytes)
        })?,
    )?;
    table.raw_set(
        "unpack",
        lua.create_function(|lua, data: mlua::LuaString| unpack_some(lua, &data, i64::MAX, 0, false))?,
    )?;
    table.raw_set(
        "unpack_one",
        lua.create_function(|lua, (data, offset): (mlua::LuaString, Option<i64>)| {
            unpack_some(lua, &data, 1, offset.unwrap_or(0), true)
        })?,
    )?;
    table.raw_set(
        "unpack_limit",
        lua.create_function(|lua, (data, limit, offset): (mlua::LuaString, i64, Option<i64>)| {
            unpack_some(lua, &data, limit, offset.unwrap_or(0), true)
        })?,
    )?;
    guard_all(lua, &table)?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    Ok(table)
}

fn pack(out: &mut Vec<u8>, value: &Value, depth: usize) -> Result<()> {
    match value {
        Value::Boolean(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        Value::Integer(value) => pack_integer(out, *value),
        Value::Number(value) if value.fract() == 0.0 && value.abs() < 9.2e18 => pack_integer(out, *value as i64),
        Value::Number(value) => pack_double(out, *value),
        Value::String(text) => pack_string(out, &text.as_bytes()),
        Value::Table(_) if depth >= DEPTH_MAX => out.push(0xc0),
        Value::Table(table) => pack_table(out, table, depth)?,
        _ => out.push(0xc0),
    }
    Ok(())
}

fn pack_integer(out: &mut Vec<u8>, value: i64) {
    match value {
        0..=127 => out.push(value as u8),
        128..=0xff => out.extend([0xcc, value as u8]),
        0x100..=0xffff => tagged(out, 0xcd, &(value as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => tagged(out, 0xce, &(value as u32).to_be_bytes()),
        0x1_0000_0000.. => tagged(out, 0xcf, &(value as u64).to_be_bytes()),
        -32..=-1 => out.push(value as u8),
        -128..=-33 => out.extend([0xd0, value as u8]),
        -32768..=-129 => tagged(out, 0xd1, &(value as i16).to_be_bytes()),
        -2_147_483_648..=-32769 => tagged(out, 0xd2, &(value as i32).to_be_bytes()),
        _ => tagged(out, 0xd3, &value.to_be_bytes()),
    }
}

fn pack_double(out: &mut Vec<u8>, value: f64) {
    let single = value as f32;
    if f64::from(single) == value {
        tagged(out, 0xca, &single.to_be_bytes())
    } else {
        tagged(out, 0xcb, &value.to_be_bytes())
    }
}

fn pack_string(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend([0xd9, len as u8]),
        len @ 0x100..=0xffff => tagged(out, 0xda, &(len as u16).to_be_bytes()),
        len => tagged(out, 0xdb, &(len as u32).to_be_bytes()),
    }
    out.extend_from_slice(text);
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn header(out: &mut Vec<u8>, len: usize, fix: u8, tag16: u8) {
    match len {
        0..=15 => out.push(fix | len as u8),
        16..=0xffff => tagged(out, tag16, &(len as u16).to_be_bytes()),
        _ => tagged(out, tag16 + 1, &(len as u32).to_be_bytes()),
    }
}

fn pack_table(out: &mut Vec<u8>, table: &Table, depth: usize) -> Result<()> {
    if let Some(len) = array_len(table)? {
        header(out, len, 0x90, 0xdc);
        for index in 1..=len {
            pack(out, &table.raw_get(index)?, depth + 1)?;
        }
        return Ok(());
    }
    let pairs: Vec<(Value, Value)> = table.pairs().collect::<Result<_>>()?;
    header(out, pairs.len(), 0x80, 0xde);
    for (key, value) in &pairs {
        pack(out, key, depth + 1)?;
        pack(out, value, depth + 1)?;
    }
    Ok(())
}

/// The length, if the keys are exactly 1 to n.
fn array_len(table: &Table) -> Result<Option<usize>> {
    let (mut max, mut items) = (0, 0);
    for pair in table.pairs::<Value, Value>() {
        let key = match pair?.0 {
            Value::Integer(key) if key > 0 => key as usize,
            Value::Number(key) if key > 0.0 && key.fract() == 0.0 => key as usize,
            _ => return Ok(None),
        };
        max = max.max(key);
        items += 1;
    }
    Ok((items > 0 && max == items).then_some(items))
}

/// Up to `limit` values from `offset` on; before them the offset that follows (−1 at the end) where that was asked for.
fn unpack_some(lua: &Lua, data: &mlua::LuaString, limit: i64, offset: i64, with_offset: bool) -> Result<MultiValue> {
    let data = data.as_bytes();
    if limit < 0 || offset < 0 {
        return Err(raise(&format!("Invalid request to unpack with offset of {offset} and limit of {}.", data.len())));
    }
    if offset as usize > data.len() {
        return Err(raise(&format!("Start offset {offset} greater than input length {}.", data.len())));
    }
    let limit = if limit == 0 { i64::MAX } else { limit };
    let mut cursor = Cursor { data: &data, at: offset as usize };
    let mut values = Vec::new();
    while cursor.at < data.len() && (values.len() as i64) < limit {
        values.push(cursor.value(lua, 0)?);
    }
    if with_offset {
        let next = if cursor.at == data.len() { -1 } else { cursor.at as i64 };
        values.insert(0, Value::Number(next as f64));
    }
    Ok(MultiValue::from_vec(values))
}

struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.data.len());
        let end = end.ok_or_else(|| raise("Missing bytes in input."))?;
        let part = &self.data[self.at..end];
        self.at = end;
        Ok(part)
    }

    fn unsigned(&mut self, size: usize) -> Result<u64> {
        Ok(self.take(size)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn signed(&mut self, size: usize) -> Result<i64> {
        let unused = 64 - 8 * size as u32;
        Ok((self.unsigned(size)? << unused) as i64 >> unused)
    }

    fn value(&mut self, lua: &Lua, depth: usize) -> Result<Value> {
        if depth > 1000 {
            return Err(raise("Bad data format in input."));
        }
        let tag = self.take(1)?[0];
        Ok(match tag {
            0x00..=0x7f => Value::Number(f64::from(tag)),
            0xe0..=0xff => Value::Number(f64::from(tag as i8)),
            0x80..=0x8f => self.map(lua, usize::from(tag & 15), depth)?,
            0x90..=0x9f => self.array(lua, usize::from(tag & 15), depth)?,
            0xa0..=0xbf => self.string(lua, usize::from(tag & 31))?,
            0xc0 => Value::Nil,
            0xc2 | 0xc3 => Value::Boolean(tag == 0xc3),
            0xca => Value::Number(f64::from(f32::from_bits(self.unsigned(4)? as u32))),
            0xcb => Value::Number(f64::from_bits(self.unsigned(8)?)),
            0xcc..=0xcf => Value::Number(self.unsigned(1 << (tag - 0xcc))? as f64),
            0xd0..=0xd3 => Value::Number(self.signed(1 << (tag - 0xd0))? as f64),
            0xc4 | 0xd9 => self.sized(1, |cursor, len| cursor.string(lua, len))?,
            0xc5 | 0xda => self.sized(2, |cursor, len| cursor.string(lua, len))?,
            0xc6 | 0xdb => self.sized(4, |cursor, len| cursor.string(lua, len))?,
            0xdc => self.sized(2, |cursor, len| cursor.array(lua, len, depth))?,
            0xdd => self.sized(4, |cursor, len| cursor.array(lua, len, depth))?,
            0xde => self.sized(2, |cursor, len| cursor.map(lua, len, depth))?,
            0xdf => self.sized(4, |cursor, len| cursor.map(lua, len, depth))?,
            _ => return Err(raise("Bad data format in input.")),
        })
    }

    fn sized(&mut self, size: usize, read: impl FnOnce(&mut Self, usize) -> Result<Value>) -> Result<Value> {
        let len = self.unsigned(size)? as usize;
        read(self, len)
    }

    fn string(&mut self, lua: &Lua, len: usize) -> Result<Value> {
        Ok(Value::String(lua.create_string(self.take(len)?)?))
    }

    fn array(&mut self, lua: &Lua, len: usize, depth: usize) -> Result<Value> {
        let table = lua.create_table()?;
        for index in 1..=len {
            table.raw_set(index, self.value(lua, depth + 1)?)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, lua: &Lua, len: usize, depth: usize) -> Result<Value> {
        let table = lua.create_table()?;
        for _ in 0..len {
            let key = self.value(lua, depth + 1)?;
            let value = self.value(lua, depth + 1)?;
            if !key.is_nil() {
                table.raw_set(key, value)?;
            }
        }
        Ok(Value::Table(table))
    }
}
