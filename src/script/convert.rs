//! Between RESP and Lua (redis.io, "Redis Lua API reference", data type conversion).
//!
//! ```text
//!   reply ─► Lua                                        Lua ─► reply
//!   integer      number                                 number       integer, truncated
//!   bulk string  string                                 string       bulk string
//!   null         false (RESP2), nil (RESP3)             false, nil   null
//!   status       {ok = …}                               true         1 (RESP2), true (RESP3)
//!   error        {err = …}                              {ok = …}, {err = …}, {double = …}, {map = …}, {set = …} …
//!   array        table                                  table        array up to the first nil
//! ```

use crate::base::number::parse_i64;
use crate::resp::Reply;
use mlua::{Lua, Result, Table, Value};

/// Nesting that a returned table may have: the C stack of the interpreter is finite.
const DEPTH_MAX: usize = 200;

/// Reads one reply; `at` moves behind it. Replies come from our own writer, so anything else is a bug: nil.
pub fn reply_to_lua(lua: &Lua, bytes: &[u8], at: &mut usize, is_resp3: bool) -> Result<Value> {
    let Some(end) = bytes[*at..].windows(2).position(|pair| pair == b"\r\n").map(|found| *at + found) else {
        return Ok(Value::Nil);
    };
    let (kind, line) = (bytes[*at], &bytes[*at + 1..end]);
    *at = end + 2;
    let number = || parse_i64(line).unwrap_or(-1);
    match kind {
        b':' => Ok(Value::Number(number() as f64)),
        b'+' => tagged(lua, "ok", Value::String(lua.create_string(line)?)),
        b'-' => tagged(lua, "err", Value::String(lua.create_string(line)?)),
        b'$' if number() >= 0 => string(lua, bytes, at, number() as usize),
        b'*' if number() >= 0 => array(lua, bytes, at, number() as usize, is_resp3),
        b'$' | b'*' | b'_' => Ok(if is_resp3 { Value::Nil } else { Value::Boolean(false) }),
        b'#' => Ok(Value::Boolean(line == b"t")),
        b',' => {
            let text = String::from_utf8_lossy(line);
            tagged(lua, "double", Value::Number(text.parse().unwrap_or(f64::NAN)))
        }
        b'(' => tagged(lua, "big_number", Value::String(lua.create_string(line)?)),
        b'%' => {
            let map = lua.create_table()?;
            for _ in 0..number().max(0) {
                let key = reply_to_lua(lua, bytes, at, is_resp3)?;
                let value = reply_to_lua(lua, bytes, at, is_resp3)?;
                map.raw_set(key, value)?;
            }
            tagged(lua, "map", Value::Table(map))
        }
        b'~' => {
            let set = lua.create_table()?;
            for _ in 0..number().max(0) {
                set.raw_set(reply_to_lua(lua, bytes, at, is_resp3)?, true)?;
            }
            tagged(lua, "set", Value::Table(set))
        }
        b'=' => {
            let Value::String(text) = string(lua, bytes, at, number().max(0) as usize)? else { return Ok(Value::Nil) };
            let text = text.as_bytes();
            let verbatim = lua.create_table()?;
            verbatim.raw_set("format", lua.create_string(text.get(..3).unwrap_or_default())?)?;
            verbatim.raw_set("string", lua.create_string(text.get(4..).unwrap_or_default())?)?;
            tagged(lua, "verbatim_string", Value::Table(verbatim))
        }
        _ => Ok(Value::Nil),
    }
}

fn string(lua: &Lua, bytes: &[u8], at: &mut usize, len: usize) -> Result<Value> {
    let text = bytes.get(*at..*at + len).unwrap_or_default();
    *at += len + 2;
    Ok(Value::String(lua.create_string(text)?))
}

fn array(lua: &Lua, bytes: &[u8], at: &mut usize, len: usize, is_resp3: bool) -> Result<Value> {
    let table = lua.create_table_with_capacity(len, 0)?;
    for index in 1..=len {
        table.raw_set(index, reply_to_lua(lua, bytes, at, is_resp3)?)?;
    }
    Ok(Value::Table(table))
}

fn tagged(lua: &Lua, name: &str, value: Value) -> Result<Value> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(name, value)?;
    Ok(Value::Table(table))
}

/// Writes what a script returned. `is_resp3` is what the script asked for with redis.setresp; what the client gets depends
/// on its own protocol version as well.
pub fn lua_to_reply(reply: &mut Reply, value: &Value, is_resp3: bool) -> Result<()> {
    write(reply, value, is_resp3, 0)
}

fn write(reply: &mut Reply, value: &Value, is_resp3: bool, depth: usize) -> Result<()> {
    match value {
        Value::Integer(value) => reply.integer(*value),
        Value::Number(value) => reply.integer(truncated(*value)),
        Value::String(text) => reply.bulk(&text.as_bytes()),
        Value::Boolean(value) if is_resp3 && reply.is_resp3() => reply.boolean(*value),
        Value::Boolean(true) => reply.integer(1),
        Value::Table(_) if depth >= DEPTH_MAX => reply.error("ERR reached lua stack limit"),
        Value::Table(table) => write_table(reply, table, is_resp3, depth)?,
        _ => reply.null(),
    }
    Ok(())
}

fn write_table(reply: &mut Reply, table: &Table, is_resp3: bool, depth: usize) -> Result<()> {
    if let Value::String(text) = table.raw_get("err")? {
        reply.error_bytes(&text.as_bytes());
        return Ok(());
    }
    if let Value::String(text) = table.raw_get("ok")? {
        reply.simple(&text.to_string_lossy().replace(['\r', '\n'], " "));
        return Ok(());
    }
    let double = match table.raw_get::<Value>("double")? {
        Value::Number(value) => Some(value),
        Value::Integer(value) => Some(value as f64),
        _ => None,
    };
    if let Some(value) = double {
        reply.double(value);
        return Ok(());
    }
    if let Value::Table(map) = table.raw_get("map")? {
        return write_pairs(reply, &map, is_resp3, depth);
    }
    if let Value::Table(set) = table.raw_get("set")? {
        let mark = reply.begin();
        let mut len = 0;
        for pair in set.pairs::<Value, Value>() {
            write(reply, &pair?.0, is_resp3, depth + 1)?;
            len += 1;
        }
        reply.end_set(mark, len);
        return Ok(());
    }
    if let Value::String(digits) = table.raw_get("big_number")? {
        let digits: Vec<u8> =
            digits.as_bytes().iter().map(|byte| if byte.is_ascii_control() { b' ' } else { *byte }).collect();
        reply.big_number(&digits);
        return Ok(());
    }
    if let Value::Table(verbatim) = table.raw_get("verbatim_string")?
        && let (Value::String(format), Value::String(text)) = (verbatim.raw_get("format")?, verbatim.raw_get("string")?)
    {
        reply.verbatim(&format.to_string_lossy(), &text.as_bytes());
        return Ok(());
    }
    write_array(reply, table, is_resp3, depth)
}

fn write_pairs(reply: &mut Reply, map: &Table, is_resp3: bool, depth: usize) -> Result<()> {
    let mark = reply.begin();
    let mut len = 0;
    for pair in map.pairs::<Value, Value>() {
        let (key, value) = pair?;
        write(reply, &key, is_resp3, depth + 1)?;
        write(reply, &value, is_resp3, depth + 1)?;
        len += 1;
    }
    reply.end_map(mark, len);
    Ok(())
}

fn write_array(reply: &mut Reply, table: &Table, is_resp3: bool, depth: usize) -> Result<()> {
    let mark = reply.begin();
    let mut len = 0;
    loop {
        let item: Value = table.raw_get(len + 1)?;
        if item.is_nil() {
            break;
        }
        write(reply, &item, is_resp3, depth + 1)?;
        len += 1;
    }
    reply.end_array(mark, len);
    Ok(())
}

/// As a C cast does it, but saturating instead of undefined.
fn truncated(value: f64) -> i64 {
    if value.is_nan() { i64::MIN } else { value as i64 }
}
