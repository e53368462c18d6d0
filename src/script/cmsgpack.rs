//! `cmsgpack`: MessagePack for scripts, with the choices of lua-cmsgpack (msgpack.org, "MessagePack specification").
//!
//! Values stay on Lua's stack: a table may have a million of them.

use super::api::{bad_argument, fault};
use crate::engine::lua::{self, Builtin, Kind, Outcome, Stack};
use mlua::{Lua, Result, Table};

/// Deeper tables are packed as nil.
const DEPTH_MAX: usize = 16;
/// Deeper arrays and maps are not unpacked: every level takes a part of our own stack.
const UNPACK_DEPTH_MAX: usize = 1000;
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
/// Places on Lua's stack that one level takes.
const PLACES: usize = 8;

const FUNCTIONS: &[(&str, Builtin)] =
    &[("pack", pack_all), ("unpack", unpack), ("unpack_one", unpack_one), ("unpack_limit", unpack_limit)];

pub fn table(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    for (name, builtin) in FUNCTIONS {
        table.raw_set(*name, lua::function(lua, *builtin)?)?;
    }
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    table.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(table)
}

fn pack_all(stack: &mut Stack) -> Outcome {
    let args = stack.top();
    if args == 0 {
        return fault(stack, "bad argument #0 to 'pack' (MessagePack pack needs input.)");
    }
    let mut bytes = Vec::new();
    for index in 1..=args {
        if !pack(stack, index, &mut bytes, 0) {
            return fault(stack, "in function pack: out of stack");
        }
    }
    stack.truncate(0);
    stack.push_string(&bytes);
    Outcome::Return(1)
}

/// Appends the value at a place; false if Lua's stack is full.
fn pack(stack: &mut Stack, index: usize, out: &mut Vec<u8>, depth: usize) -> bool {
    match stack.kind(index) {
        Kind::Boolean => out.push(if stack.truth(index) { 0xc3 } else { 0xc2 }),
        Kind::Number => pack_number(out, stack.number(index).unwrap_or_default()),
        Kind::String => pack_string(out, stack.string(index).unwrap_or_default()),
        Kind::Table if depth < DEPTH_MAX => return pack_table(stack, index, out, depth + 1),
        _ => out.push(0xc0),
    }
    true
}

fn pack_number(out: &mut Vec<u8>, value: f64) {
    if value.fract() == 0.0 && (-TWO_TO_63..TWO_TO_63).contains(&value) {
        return pack_integer(out, value as i64);
    }
    let single = value as f32;
    if f64::from(single) == value {
        tagged(out, 0xca, &single.to_be_bytes())
    } else {
        tagged(out, 0xcb, &value.to_be_bytes())
    }
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

fn pack_table(stack: &mut Stack, table: usize, out: &mut Vec<u8>, depth: usize) -> bool {
    if !stack.reserve(PLACES) {
        return false;
    }
    let top = stack.top();
    let (is_array, len) = shape(stack, table);
    if is_array {
        header(out, len, 0x90, 0xdc);
        for item in 1..=len {
            stack.push_item(table, item);
            if !pack(stack, top + 1, out, depth) {
                return false;
            }
            stack.truncate(top);
        }
        return true;
    }
    header(out, len, 0x80, 0xde);
    stack.push_nil();
    while stack.next(table) {
        if !pack(stack, top + 1, out, depth) || !pack(stack, top + 2, out, depth) {
            return false;
        }
        stack.truncate(top + 1);
    }
    true
}

/// Whether the keys of a table are exactly 1 to n, and how many it has.
fn shape(stack: &mut Stack, table: usize) -> (bool, usize) {
    let key = stack.top() + 1;
    let (mut max, mut items, mut is_array) = (0.0, 0, true);
    stack.push_nil();
    while stack.next(table) {
        items += 1;
        match stack.number(key).filter(|_| stack.kind(key) == Kind::Number) {
            Some(number) if number > 0.0 && number.fract() == 0.0 => max = f64::max(max, number),
            _ => is_array = false,
        }
        stack.truncate(key);
    }
    (is_array && max == items as f64, items)
}

fn unpack(stack: &mut Stack) -> Outcome {
    unpack_some(stack, "unpack", 0, 0)
}

fn unpack_one(stack: &mut Stack) -> Outcome {
    let Some(offset) = integer_or(stack, 2, Some(0)) else { return bad_argument(stack, 2, "unpack_one", "number") };
    unpack_some(stack, "unpack_one", 1, offset)
}

fn unpack_limit(stack: &mut Stack) -> Outcome {
    let Some(limit) = integer_or(stack, 2, None) else { return bad_argument(stack, 2, "unpack_limit", "number") };
    let Some(offset) = integer_or(stack, 3, Some(0)) else { return bad_argument(stack, 3, "unpack_limit", "number") };
    unpack_some(stack, "unpack_limit", limit, offset)
}

fn integer_or(stack: &Stack, index: usize, default: Option<i64>) -> Option<i64> {
    if index > stack.top() || stack.kind(index) == Kind::Nil {
        return default;
    }
    stack.number(index).map(|value| value as i64)
}

/// Up to `limit` values from `offset` on, and before them the offset that follows (−1 at the end). Without either, all values and no
/// offset.
fn unpack_some(stack: &mut Stack, name: &str, limit: i64, offset: i64) -> Outcome {
    let takes_all = limit == 0 && offset == 0;
    if stack.top() > 0 && stack.kind(1) == Kind::Number {
        stack.push_text(1);
        stack.replace(1);
    }
    let data = if stack.top() == 0 { None } else { stack.string(1).map(<[u8]>::to_vec) };
    let Some(data) = data else { return bad_argument(stack, 1, name, "string") };
    if limit < 0 || offset < 0 {
        let text = format!("Invalid request to unpack with offset of {offset} and limit of {}.", data.len());
        return fault(stack, &text);
    }
    if offset as usize > data.len() {
        return fault(stack, format!("Start offset {offset} greater than input length {}.", data.len()));
    }
    stack.truncate(0);
    if !takes_all {
        // Its place is in front; the value comes when it is known.
        stack.push_nil();
    }
    let first = stack.top();
    let mut cursor = Cursor { data: &data, at: offset as usize };
    while cursor.at < data.len() && (takes_all || ((stack.top() - first) as i64) < limit) {
        match cursor.push_value(stack, 0) {
            Ok(()) => {}
            Err(text @ (NIL_KEY | NAN_KEY)) => {
                stack.push_string(text.as_bytes());
                return Outcome::Raise;
            }
            Err(text) => return fault(stack, text),
        }
    }
    if !takes_all {
        stack.push_number(if cursor.at == data.len() { -1.0 } else { cursor.at as f64 });
        stack.replace(1);
    }
    Outcome::Return(stack.top())
}

const SHORT: &str = "Missing bytes in input.";
const BAD: &str = "Bad data format in input.";
/// Lua itself says these, without a place.
const NIL_KEY: &str = "table index is nil";
const NAN_KEY: &str = "table index is NaN";

type Read<T> = std::result::Result<T, &'static str>;

struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.data.len()).ok_or(SHORT)?;
        let part = &self.data[self.at..end];
        self.at = end;
        Ok(part)
    }

    fn unsigned(&mut self, size: usize) -> Read<u64> {
        Ok(self.take(size)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn signed(&mut self, size: usize) -> Read<i64> {
        let unused = 64 - 8 * size as u32;
        Ok((self.unsigned(size)? << unused) as i64 >> unused)
    }

    fn len(&mut self, size: usize) -> Read<usize> {
        Ok(self.unsigned(size)? as usize)
    }

    fn push_value(&mut self, stack: &mut Stack, depth: usize) -> Read<()> {
        if depth > UNPACK_DEPTH_MAX || !stack.reserve(PLACES) {
            return Err(BAD);
        }
        let tag = self.take(1)?[0];
        match tag {
            0x00..=0x7f => stack.push_number(f64::from(tag)),
            0xe0..=0xff => stack.push_number(f64::from(tag as i8)),
            0x80..=0x8f => self.push_map(stack, usize::from(tag & 15), depth)?,
            0x90..=0x9f => self.push_array(stack, usize::from(tag & 15), depth)?,
            0xa0..=0xbf => stack.push_string(self.take(usize::from(tag & 31))?),
            0xc0 => stack.push_nil(),
            0xc2 | 0xc3 => stack.push_boolean(tag == 0xc3),
            0xca => stack.push_number(f64::from(f32::from_bits(self.unsigned(4)? as u32))),
            0xcb => stack.push_number(f64::from_bits(self.unsigned(8)?)),
            // Beyond 2^63 a number turns negative, as it does in Redis.
            0xcf => stack.push_number(self.signed(8)? as f64),
            0xcc..=0xce => stack.push_number(self.unsigned(1 << (tag - 0xcc))? as f64),
            0xd0..=0xd3 => stack.push_number(self.signed(1 << (tag - 0xd0))? as f64),
            0xd9..=0xdb => self.push_string(stack, 1 << (tag - 0xd9))?,
            0xdc | 0xdd => {
                let len = self.len(if tag == 0xdc { 2 } else { 4 })?;
                self.push_array(stack, len, depth)?;
            }
            0xde | 0xdf => {
                let len = self.len(if tag == 0xde { 2 } else { 4 })?;
                self.push_map(stack, len, depth)?;
            }
            _ => return Err(BAD),
        }
        Ok(())
    }

    fn push_string(&mut self, stack: &mut Stack, size: usize) -> Read<()> {
        let len = self.len(size)?;
        stack.push_string(self.take(len)?);
        Ok(())
    }

    fn push_array(&mut self, stack: &mut Stack, len: usize, depth: usize) -> Read<()> {
        stack.push_table(len.min(self.data.len() - self.at), 0);
        let table = stack.top();
        for item in 1..=len {
            self.push_value(stack, depth + 1)?;
            stack.set_item(table, item);
        }
        Ok(())
    }

    fn push_map(&mut self, stack: &mut Stack, len: usize, depth: usize) -> Read<()> {
        stack.push_table(0, len.min(self.data.len() - self.at));
        let table = stack.top();
        for _ in 0..len {
            self.push_value(stack, depth + 1)?;
            self.push_value(stack, depth + 1)?;
            let is_nil = stack.kind(table + 1) == Kind::Nil;
            if !stack.set_pair(table) {
                return Err(if is_nil { NIL_KEY } else { NAN_KEY });
            }
        }
        Ok(())
    }
}
