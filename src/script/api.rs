//! The `redis` table, and the functions of the base library that scripts get from us instead of Lua.
//!
//! They are native functions: an error that they raise is located where the script called them.

use crate::base::number::text_g17;
use crate::commands::error;
use crate::engine::lua::{self, Builtin, Kind, Outcome, Question, Stack};
use crate::server::config::REDIS_VERSION;
use crate::server::journal::Audience;
use mlua::{Lua, Result, Table};
use sha1::{Digest, Sha1};

const LOG_DEBUG: i64 = 0;
const LOG_WARNING: i64 = 3;
pub const READONLY: &str = "Attempt to modify a readonly table";
/// Bits of redis.set_repl.
pub const REPL_ALL: i64 = 3;
const REPL_AOF: i64 = 1;
const REPL_REPLICA: i64 = 2;

/// Who alone gets what a script writes, by the bits of redis.set_repl.
pub fn audience(bits: i64) -> Option<Audience> {
    match bits {
        REPL_AOF => Some(Audience::File),
        REPL_REPLICA => Some(Audience::Replicas),
        _ => None,
    }
}

/// What scripts and functions may ask of the server.
const RUNNING: &[(&str, Builtin)] = &[
    ("call", |stack| in_a_run(stack, |host, stack| host.call(stack, true))),
    ("pcall", |stack| in_a_run(stack, |host, stack| host.call(stack, false))),
    ("setresp", |stack| ask(stack, Question::SetResp, "redis.setresp")),
    ("set_repl", |stack| ask(stack, Question::SetRepl, "redis.set_repl")),
    ("acl_check_cmd", |stack| ask(stack, Question::MayCall, "redis.acl_check_cmd")),
    ("sha1hex", sha1hex),
    ("error_reply", error_reply),
    ("status_reply", status_reply),
];

/// Of EVAL alone. Effects are always what is replicated.
const EVAL_ONLY: &[(&str, Builtin)] = &[
    ("replicate_commands", |stack| {
        stack.push_boolean(true);
        Outcome::Return(1)
    }),
    ("breakpoint", |stack| {
        lua::ask_host(|host| host.ask(Question::Breakpoint, stack)).unwrap_or_else(|| {
            stack.push_boolean(false);
            Outcome::Return(1)
        })
    }),
    ("debug", |stack| lua::ask_host(|host| host.ask(Question::Debug, stack)).unwrap_or(Outcome::Return(0))),
];

const CONSTANTS: &[(&str, i64)] = &[
    ("REPL_NONE", 0),
    ("REPL_AOF", REPL_AOF),
    ("REPL_SLAVE", REPL_REPLICA),
    ("REPL_REPLICA", REPL_REPLICA),
    ("REPL_ALL", REPL_ALL),
];

/// The table `redis` of running scripts.
pub fn table(lua: &Lua, is_eval: bool) -> Result<Table> {
    let api = loading_table(lua)?;
    api.raw_set("register_function", mlua::Value::Nil)?;
    let extra = if is_eval { EVAL_ONLY } else { &[] };
    for (name, builtin) in RUNNING.iter().chain(extra) {
        api.raw_set(*name, lua::function(lua, *builtin)?)?;
    }
    for (name, value) in CONSTANTS {
        api.raw_set(*name, *value)?;
    }
    Ok(api)
}

/// The table `redis` of a library that is being loaded.
pub fn loading_table(lua: &Lua) -> Result<Table> {
    let api = lua.create_table()?;
    let register: Builtin = |stack| ask(stack, Question::Register, "redis.register_function");
    api.raw_set("register_function", lua::function(lua, register)?)?;
    api.raw_set("log", lua::function(lua, log)?)?;
    for (level, name) in ["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"].into_iter().enumerate() {
        api.raw_set(name, level)?;
    }
    api.raw_set("REDIS_VERSION", REDIS_VERSION)?;
    api.raw_set("REDIS_VERSION_NUM", version_number())?;
    Ok(api)
}

/// What the prelude needs of us, and replaces Lua's own by.
pub const BASE: &[(&str, Builtin)] = &[
    ("pcall", pcall),
    ("unpack", unpack),
    ("insert", insert),
    ("locate", locate),
    ("refuse", refuse),
    ("absent", absent),
];

/// Raises `{err = "ERR text"}`, as the functions of `redis` do.
pub fn raise(stack: &mut Stack, text: &str) -> Outcome {
    lua::ask_host(|host| host.note_error(text.as_bytes()));
    stack.push_error(text.as_bytes());
    Outcome::Raise
}

/// Raises a text with the place of the script in front, as Lua's own functions do.
pub fn fault(stack: &mut Stack, text: impl AsRef<[u8]>) -> Outcome {
    stack.push_fault(text.as_ref());
    Outcome::Raise
}

/// An error of a function that goes through mlua (see `engine::lua::guarded`).
pub fn library_fault(text: &str) -> mlua::Error {
    lua::note_fault(text.as_bytes());
    mlua::Error::RuntimeError(text.to_owned())
}

/// Puts `engine::lua::guarded` around every function of a table.
pub fn guard_all(lua: &Lua, table: &Table) -> Result<()> {
    for pair in table.clone().pairs::<mlua::Value, mlua::Value>().collect::<Result<Vec<_>>>()? {
        if let (key, mlua::Value::Function(function)) = pair {
            table.raw_set(key, lua::guarded(lua, function)?)?;
        }
    }
    Ok(())
}

fn in_a_run(stack: &mut Stack, work: impl FnOnce(&mut dyn lua::Host, &mut Stack) -> Outcome) -> Outcome {
    lua::ask_host(|host| work(host, stack))
        .unwrap_or_else(|| raise(stack, "redis.call/pcall can only be called inside a script invocation"))
}

fn ask(stack: &mut Stack, question: Question, name: &str) -> Outcome {
    lua::ask_host(|host| host.ask(question, stack))
        .unwrap_or_else(|| raise(stack, &format!("{name} can only be called inside a script invocation")))
}

pub fn sha1_hex(bytes: &[u8]) -> [u8; 40] {
    let mut hex = [0; 40];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(Sha1::digest(bytes)) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    hex
}

/// Appends a string or a number as an argument of a command; false for anything else.
#[inline]
pub fn append_argument(stack: &Stack, index: usize, bytes: &mut Vec<u8>) -> bool {
    if let Some(text) = stack.string(index) {
        bytes.extend_from_slice(text);
        return true;
    }
    if stack.kind(index) != Kind::Number {
        return false;
    }
    let value = stack.number(index).unwrap_or_default();
    // Integers, which most numbers are, need no general formatting.
    if value.fract() == 0.0 && value.abs() < 1e15 && !(value == 0.0 && value.is_sign_negative()) {
        bytes.extend_from_slice(&crate::base::number::IntText::new(value as i64));
    } else {
        bytes.extend_from_slice(text_g17(value).as_bytes());
    }
    true
}

fn text_at(stack: &Stack, index: usize) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    append_argument(stack, index, &mut text).then_some(text)
}

/// The error handler of every run: turns whatever was raised into a table with `err`, and notes where.
fn locate(stack: &mut Stack) -> Outcome {
    stack.truncate(1);
    // As Redis looks: who raised, or who called the native function that did.
    let raiser = stack.caller(1);
    let first = if raiser.as_ref().is_some_and(|place| place.is_native) { 2 } else { 1 };
    let mut place = raiser;
    for level in first..8 {
        place = stack.caller(level);
        if place.as_ref().is_none_or(|place| place.source != b"=prelude") {
            break;
        }
    }
    if stack.kind(1) != Kind::Table {
        stack.push_text(1);
        let text = stack.string(2).unwrap_or_default().to_vec();
        stack.push_error(&text);
        stack.insert(1);
    }
    stack.truncate(1);
    // A table with a metatable is one of those that scripts must not write to.
    if let Some(place) = place.filter(|_| !stack.has_metatable(1)) {
        stack.push_string(b"source");
        stack.push_string(&place.source);
        stack.set_pair(1);
        stack.push_string(b"line");
        stack.push_number(place.line as f64);
        stack.set_pair(1);
    }
    Outcome::Return(1)
}

/// pcall, whose second result is a text even where redis.call has raised a table.
fn pcall(stack: &mut Stack) -> Outcome {
    if stack.top() == 0 {
        return fault(stack, "bad argument #1 to 'pcall' (value expected)");
    }
    let args = stack.top() - 1;
    let ok = stack.call_all(args);
    if !ok && stack.kind(1) == Kind::Table {
        stack.push_field(1, b"err");
        if matches!(stack.kind(2), Kind::String | Kind::Number) {
            stack.insert(1);
        }
        stack.truncate(1);
    }
    stack.push_boolean(ok);
    stack.insert(1);
    Outcome::Return(stack.top())
}

/// unpack with a count that cannot overflow.
fn unpack(stack: &mut Stack) -> Outcome {
    if stack.top() == 0 || stack.kind(1) != Kind::Table {
        return bad_argument(stack, 1, "unpack", "table");
    }
    let bound = |index: usize, default: i64| match index <= stack.top() && stack.kind(index) != Kind::Nil {
        true => stack.number(index).map(|value| value as i64).map(|value| value.clamp(-(1 << 52), 1 << 52)),
        false => Some(default),
    };
    let Some(first) = bound(2, 1) else { return bad_argument(stack, 2, "unpack", "number") };
    let Some(last) = bound(3, stack.raw_len(1) as i64) else { return bad_argument(stack, 3, "unpack", "number") };
    if first > last {
        return Outcome::Return(0);
    }
    let count = last - first + 1;
    if count >= 8000 || !stack.reserve(count as usize) {
        return fault(stack, "too many results to unpack");
    }
    for item in first..=last {
        if let Ok(item) = usize::try_from(item) {
            stack.push_item(1, item);
        } else {
            stack.push_nil();
        }
    }
    Outcome::Return(count as usize)
}

/// table.insert, which must not write into what is protected.
fn insert(stack: &mut Stack) -> Outcome {
    if stack.top() == 0 || stack.kind(1) != Kind::Table {
        return bad_argument(stack, 1, "insert", "table");
    }
    if is_protected(stack, 1) {
        stack.push_string(READONLY.as_bytes());
        return Outcome::Raise;
    }
    let end = stack.raw_len(1) + 1;
    match stack.top() {
        2 => stack.set_item(1, end),
        3 => {
            let Some(at) = stack.number(2) else { return bad_argument(stack, 2, "insert", "number") };
            let at = at as i64;
            let mut item = end.max(usize::try_from(at).unwrap_or(0).min(i32::MAX as usize));
            while item as i64 > at && item > 1 {
                stack.push_item(1, item - 1);
                stack.set_item(1, item);
                item -= 1;
            }
            if at >= 1 {
                stack.set_item(1, item);
            } else {
                // A position below 1 is a field like any other.
                stack.push_number(at as f64);
                stack.insert(3);
                stack.set_pair(1);
            }
        }
        _ => return fault(stack, "wrong number of arguments to 'insert'"),
    }
    Outcome::Return(0)
}

/// Whether a table is one of those that the prelude shows to scripts but keeps from their writes.
fn is_protected(stack: &mut Stack, index: usize) -> bool {
    let top = stack.top();
    if !stack.push_metatable(index) {
        return false;
    }
    stack.push_field(top + 1, b"__metatable");
    let is_marked = stack.kind(top + 2) == Kind::Boolean;
    stack.truncate(top);
    is_marked
}

/// A write to what is protected.
fn refuse(stack: &mut Stack) -> Outcome {
    fault(stack, READONLY)
}

/// A global that does not exist.
fn absent(stack: &mut Stack) -> Outcome {
    if stack.top() != 2 || !matches!(stack.kind(2), Kind::String | Kind::Number) {
        return fault(stack, "Second argument to luaProtectedTableError must be a string or number");
    }
    stack.push_text(2);
    let name = error::shown(stack.string(3).unwrap_or_default(), usize::MAX);
    let text = [b"Script attempted to access nonexistent global variable '", name, b"'"].concat();
    fault(stack, text)
}

pub fn bad_argument(stack: &mut Stack, index: usize, function: &str, expected: &str) -> Outcome {
    let got = if index > stack.top() { "no value" } else { kind_name(stack.kind(index)) };
    fault(stack, format!("bad argument #{index} to '{function}' ({expected} expected, got {got})"))
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Nil => "nil",
        Kind::Boolean => "boolean",
        Kind::Number => "number",
        Kind::String => "string",
        Kind::Table => "table",
        Kind::Function => "function",
        Kind::Other => "userdata",
    }
}

fn sha1hex(stack: &mut Stack) -> Outcome {
    if stack.top() != 1 {
        return raise(stack, "wrong number of arguments");
    }
    let digest = sha1_hex(&text_at(stack, 1).unwrap_or_default());
    stack.push_string(&digest);
    Outcome::Return(1)
}

fn error_reply(stack: &mut Stack) -> Outcome {
    let text = match (stack.top(), stack.top() == 1) {
        (1, _) => stack.string(1).map(<[u8]>::to_vec),
        _ => None,
    };
    let Some(text) = text else {
        stack.push_error(b"wrong number or type of arguments");
        return Outcome::Return(1);
    };
    let text = error::shown(text.strip_prefix(b"-").unwrap_or(&text), usize::MAX);
    lua::ask_host(|host| host.note_error(&[b"-", text].concat()));
    push_error_reply(stack, text);
    Outcome::Return(1)
}

/// Pushes `{err = "CODE text"}` for what follows the `-` of an error; one without a code gets ERR.
pub fn push_error_reply(stack: &mut Stack, text: &[u8]) {
    let (code, rest) = match text.iter().position(|byte| *byte == b' ') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (b"ERR".as_slice(), text),
    };
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = rest.iter().position(|byte| !is_end(byte)).unwrap_or(rest.len());
    let end = rest.iter().rposition(|byte| !is_end(byte)).map_or(start, |last| last + 1);
    stack.push_table(0, 2);
    let table = stack.top();
    stack.push_string(b"err");
    stack.push_string(&[code, b" ", &rest[start..end]].concat());
    stack.set_pair(table);
}

fn status_reply(stack: &mut Stack) -> Outcome {
    if stack.top() != 1 || stack.kind(1) != Kind::String {
        stack.push_error(b"wrong number or type of arguments");
        return Outcome::Return(1);
    }
    stack.push_table(0, 1);
    stack.push_string(b"ok");
    stack.push_copy(1);
    stack.set_pair(2);
    Outcome::Return(1)
}

fn log(stack: &mut Stack) -> Outcome {
    if stack.top() < 2 {
        return raise(stack, "redis.log() requires two arguments or more.");
    }
    let Some(level) = stack.number(1) else { return raise(stack, "First argument must be a number (log level).") };
    let level = level as i64;
    if !(LOG_DEBUG..=LOG_WARNING).contains(&level) {
        return raise(stack, "Invalid debug level.");
    }
    let words: Vec<String> = (2..=stack.top())
        .filter_map(|index| text_at(stack, index))
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .collect();
    let text = words.join(" ");
    match level {
        0 => tracing::trace!("{text}"),
        1 => tracing::debug!("{text}"),
        2 => tracing::info!("{text}"),
        _ => tracing::warn!("{text}"),
    }
    Outcome::Return(0)
}

/// 0x00MMmmpp.
fn version_number() -> i64 {
    REDIS_VERSION.split('.').fold(0, |number, part| number << 8 | part.parse::<i64>().unwrap_or(0))
}
