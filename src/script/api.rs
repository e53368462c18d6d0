//! The `redis` table: what scripts can ask of the server besides redis.call, which each run provides (`run.rs`).

use crate::base::number::text_g17;
use crate::server::config::REDIS_VERSION;
use mlua::{Lua, MultiValue, Result, Table, Value};
use sha1::{Digest, Sha1};
use std::cell::Cell;
use std::rc::Rc;

const LOG_DEBUG: i64 = 0;
const LOG_WARNING: i64 = 3;

pub fn table(lua: &Lua, resp3: &Rc<Cell<bool>>) -> Result<Table> {
    let api = lua.create_table()?;
    for (name, level) in [("LOG_DEBUG", LOG_DEBUG), ("LOG_VERBOSE", 1), ("LOG_NOTICE", 2), ("LOG_WARNING", LOG_WARNING)]
    {
        api.raw_set(name, level)?;
    }
    for (name, bits) in [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)] {
        api.raw_set(name, bits)?;
    }
    api.raw_set("REDIS_VERSION", REDIS_VERSION)?;
    api.raw_set("REDIS_VERSION_NUM", version_number())?;
    api.raw_set(
        "sha1hex",
        lua.create_function(|lua, args: MultiValue| match args.into_vec().as_slice() {
            [value] => lua.create_string(sha1_hex(&bytes_of(value).unwrap_or_default())),
            _ => Err(raise("wrong number of arguments")),
        })?,
    )?;
    api.raw_set("error_reply", lua.create_function(|lua, args: MultiValue| single_field(lua, args, "err"))?)?;
    api.raw_set("status_reply", lua.create_function(|lua, args: MultiValue| single_field(lua, args, "ok"))?)?;
    api.raw_set("log", lua.create_function(|_, args: MultiValue| log(&args.into_vec()))?)?;
    let asked = Rc::clone(resp3);
    api.raw_set("setresp", lua.create_function(move |_, args: MultiValue| set_resp(&asked, &args.into_vec()))?)?;
    // Effects are always what is replicated; the call stays for the scripts that make it.
    api.raw_set("replicate_commands", lua.create_function(|_, ()| Ok(true))?)?;
    api.raw_set("set_repl", lua.create_function(|_, args: MultiValue| set_repl(&args.into_vec()))?)?;
    // There is no debugger to break into.
    api.raw_set("breakpoint", lua.create_function(|_, ()| Ok(false))?)?;
    api.raw_set("debug", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
    Ok(api)
}

/// redis.call outside of a run: while a library is being loaded.
pub fn outside_a_script() -> Result<()> {
    Err(raise("Script attempted to access nonexistent global variable 'call'"))
}

/// An error with this text, raised where the script called us.
pub fn raise(text: &str) -> mlua::Error {
    mlua::Error::RuntimeError(text.to_owned())
}

pub fn sha1_hex(bytes: &[u8]) -> [u8; 40] {
    let mut hex = [0; 40];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(Sha1::digest(bytes)) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    hex
}

/// Text of a string or number, as an argument of a command.
pub fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Integer(value) => Some(value.to_string().into_bytes()),
        Value::Number(value) => Some(text_g17(*value).into_bytes()),
        _ => None,
    }
}

/// The error handler of every run: turns whatever was raised into a table with `err`, and notes where.
pub fn locate_error(lua: &Lua, error: Value) -> Result<Table> {
    let table = match error {
        Value::Table(table) => table,
        other => {
            let text = match &other {
                Value::String(text) => text.as_bytes().to_vec(),
                Value::Error(error) => innermost(error).into_bytes(),
                value => value.to_string()?.into_bytes(),
            };
            let table = lua.create_table()?;
            table.raw_set("err", lua.create_string([b"ERR ", text.as_slice()].concat())?)?;
            table
        }
    };
    if table.raw_get::<Value>("source")?.is_nil() {
        let place = (1..8).find_map(|level| {
            lua.inspect_stack(level, |debug| {
                let source = debug.source().source.map(|source| source.into_owned())?;
                let line = debug.current_line()?;
                source.starts_with("@user").then_some((source, line))
            })
            .flatten()
        });
        if let Some((source, line)) = place {
            table.raw_set("source", source)?;
            table.raw_set("line", line)?;
        }
    }
    Ok(table)
}

/// The text of an error that went through Rust, without the wrapping.
fn innermost(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { cause, .. } => innermost(cause),
        mlua::Error::RuntimeError(text) => text.clone(),
        other => other.to_string(),
    }
}

fn single_field(lua: &Lua, args: MultiValue, field: &str) -> Result<Table> {
    let table = lua.create_table()?;
    let text = match args.into_vec().as_slice() {
        [Value::String(text)] => text.as_bytes().to_vec(),
        _ => {
            table.raw_set("err", "ERR wrong number or type of arguments")?;
            return Ok(table);
        }
    };
    // An error reply has a code; one that begins with `-` says it itself.
    let text = match (field, text.split_first()) {
        ("err", Some((b'-', rest))) => rest.to_vec(),
        ("err", _) if !text.contains(&b' ') => [b"ERR ", text.as_slice()].concat(),
        _ => text,
    };
    table.raw_set(field, lua.create_string(text)?)?;
    Ok(table)
}

fn number(value: Option<&Value>) -> Option<i64> {
    match value {
        Some(Value::Integer(value)) => Some(*value),
        Some(Value::Number(value)) => Some(*value as i64),
        _ => None,
    }
}

fn log(args: &[Value]) -> Result<()> {
    if args.len() < 2 {
        return Err(raise("redis.log() requires two arguments or more."));
    }
    let Some(level) = number(args.first()) else { return Err(raise("First argument must be a number (log level).")) };
    if !(LOG_DEBUG..=LOG_WARNING).contains(&level) {
        return Err(raise("Invalid log level."));
    }
    let words: Vec<String> =
        args[1..].iter().filter_map(bytes_of).map(|text| String::from_utf8_lossy(&text).into_owned()).collect();
    let text = words.join(" ");
    match level {
        0 => tracing::trace!("{text}"),
        1 => tracing::debug!("{text}"),
        2 => tracing::info!("{text}"),
        _ => tracing::warn!("{text}"),
    }
    Ok(())
}

fn set_resp(asked: &Cell<bool>, args: &[Value]) -> Result<()> {
    if args.len() != 1 {
        return Err(raise("redis.setresp() requires one argument."));
    }
    match number(args.first()) {
        Some(2) => asked.set(false),
        Some(3) => asked.set(true),
        _ => return Err(raise("RESP version must be 2 or 3.")),
    }
    Ok(())
}

fn set_repl(args: &[Value]) -> Result<()> {
    if args.len() != 1 {
        return Err(raise("redis.set_repl() requires one argument."));
    }
    match number(args.first()) {
        Some(0..=3) => Ok(()),
        _ => Err(raise("Invalid replication flags. Please use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")),
    }
}

/// 0x00MMmmpp.
fn version_number() -> i64 {
    REDIS_VERSION.split('.').fold(0, |number, part| number << 8 | part.parse::<i64>().unwrap_or(0))
}
