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

use super::api;
use crate::base::number::parse_i64;
use crate::commands::error::{self, CommandError};
use crate::engine::lua::{Kind, Stack};
use crate::resp::Reply;

/// Nesting that a returned table may have: our own stack is finite, too.
const DEPTH_MAX: usize = 1000;
/// Places on Lua's stack that one level of a returned table takes.
const PLACES: usize = 6;

/// Pushes one reply; `at` moves behind it. Replies come from our own writer, so anything else is a bug: nil.
pub fn push_reply(stack: &mut Stack, bytes: &[u8], at: &mut usize, is_resp3: bool) {
    let rest = bytes.get(*at..).unwrap_or_default();
    // Headers are short: no general search pays here.
    let Some(end) = rest.iter().position(|byte| *byte == b'\r') else { return stack.push_nil() };
    let (kind, line) = (rest[0], &rest[1..end]);
    *at += end + 2;
    let number = || parse_i64(line).unwrap_or(-1);
    match kind {
        b':' => stack.push_number(number() as f64),
        b'+' => {
            stack.push_table(0, 1);
            let table = stack.top();
            stack.push_string(b"ok");
            stack.push_string(line);
            stack.set_pair(table);
        }
        b'-' => push_error(stack, line),
        b'$' if number() >= 0 => push_string(stack, bytes, at, number() as usize),
        b'*' if number() >= 0 => push_array(stack, bytes, at, number() as usize, is_resp3),
        b'$' | b'*' if is_resp3 => stack.push_nil(),
        b'$' | b'*' => stack.push_boolean(false),
        b'_' => stack.push_nil(),
        // Scripts do not get to see attributes.
        b'|' => {
            let below = stack.top();
            for _ in 0..number().max(0) * 2 {
                push_reply(stack, bytes, at, is_resp3);
                stack.truncate(below);
            }
            push_reply(stack, bytes, at, is_resp3);
        }
        b'#' => stack.push_boolean(line == b"t"),
        b',' => {
            let text = String::from_utf8_lossy(line);
            push_tagged(stack, b"double", |stack| stack.push_number(text.parse().unwrap_or(f64::NAN)));
        }
        b'(' => push_tagged(stack, b"big_number", |stack| stack.push_string(line)),
        b'%' => push_tagged(stack, b"map", |stack| {
            stack.push_table(0, number().max(0) as usize);
            let map = stack.top();
            for _ in 0..number().max(0) {
                push_reply(stack, bytes, at, is_resp3);
                push_reply(stack, bytes, at, is_resp3);
                stack.set_pair(map);
            }
        }),
        b'~' => push_tagged(stack, b"set", |stack| {
            stack.push_table(0, number().max(0) as usize);
            let set = stack.top();
            for _ in 0..number().max(0) {
                push_reply(stack, bytes, at, is_resp3);
                stack.push_boolean(true);
                stack.set_pair(set);
            }
        }),
        b'=' => {
            let len = number().max(0) as usize;
            let text = bytes.get(*at..*at + len).unwrap_or_default();
            *at += len + 2;
            push_tagged(stack, b"verbatim_string", |stack| {
                stack.push_table(0, 2);
                let verbatim = stack.top();
                for (name, part) in [(b"format".as_slice(), text.get(..3)), (b"string", text.get(4..))] {
                    stack.push_string(name);
                    stack.push_string(part.unwrap_or_default());
                    stack.set_pair(verbatim);
                }
            });
        }
        _ => stack.push_nil(),
    }
}

/// Pushes the error of a command, marked as counted already.
pub fn push_error(stack: &mut Stack, text: &[u8]) {
    api::push_error_reply(stack, text);
    mark_counted(stack);
}

/// Marks the error table on top: the statistics know it.
pub fn mark_counted(stack: &mut Stack) {
    let table = stack.top();
    stack.push_string(b"ignore_error_stats_update");
    stack.push_boolean(true);
    stack.set_pair(table);
}

fn push_string(stack: &mut Stack, bytes: &[u8], at: &mut usize, len: usize) {
    stack.push_string(bytes.get(*at..*at + len).unwrap_or_default());
    *at += len + 2;
}

fn push_array(stack: &mut Stack, bytes: &[u8], at: &mut usize, len: usize, is_resp3: bool) {
    stack.push_table(len, 0);
    let table = stack.top();
    for item in 1..=len {
        push_reply(stack, bytes, at, is_resp3);
        stack.set_item(table, item);
    }
}

fn push_tagged(stack: &mut Stack, name: &[u8], push: impl FnOnce(&mut Stack)) {
    stack.push_table(0, 1);
    let table = stack.top();
    stack.push_string(name);
    push(stack);
    stack.set_pair(table);
}

/// Pops what a script returned and writes it. `is_resp3` is what the script asked for with redis.setresp; what the client gets
/// depends on its own protocol version as well.
/// The caller has seen that it is no error.
pub fn write_result(stack: &mut Stack, reply: &mut Reply, is_resp3: bool) {
    let index = stack.top();
    if stack.kind(index) != Kind::Table {
        return write(stack, reply, is_resp3, 0);
    }
    write_value_table(stack, index, reply, is_resp3, 1);
    stack.truncate(index - 1);
}

/// Writes and pops the value on top.
fn write(stack: &mut Stack, reply: &mut Reply, is_resp3: bool, depth: usize) {
    let index = stack.top();
    match stack.kind(index) {
        Kind::Number => reply.integer(truncated(stack.number(index).unwrap_or_default())),
        Kind::String => reply.bulk(stack.string(index).unwrap_or_default()),
        Kind::Boolean if is_resp3 => reply.boolean(stack.truth(index)),
        Kind::Boolean if stack.truth(index) => reply.integer(1),
        Kind::Table if depth >= DEPTH_MAX || !stack.reserve(PLACES) => reply.error("ERR reached lua stack limit"),
        Kind::Table => write_table(stack, index, reply, is_resp3, depth + 1),
        _ => reply.null(),
    }
    stack.truncate(index - 1);
}

/// The first field that says what a table stands for decides.
fn write_table(stack: &mut Stack, table: usize, reply: &mut Reply, is_resp3: bool, depth: usize) {
    stack.push_field(table, b"err");
    if stack.kind(table + 1) == Kind::String {
        let text = stack.string(table + 1).unwrap_or_default();
        return reply.error_bytes(CommandError::joined(&[text]).bytes());
    }
    stack.truncate(table);
    write_value_table(stack, table, reply, is_resp3, depth);
}

/// The same for a table that is no error.
fn write_value_table(stack: &mut Stack, table: usize, reply: &mut Reply, is_resp3: bool, depth: usize) {
    let value = table + 1;
    let has = |stack: &mut Stack, name: &[u8], kind: Kind| {
        stack.truncate(table);
        stack.push_field(table, name);
        stack.kind(value) == kind
    };
    if has(stack, b"ok", Kind::String) {
        reply.simple_bytes(error::shown(stack.string(value).unwrap_or_default(), usize::MAX));
    } else if has(stack, b"double", Kind::Number) {
        reply.double(stack.number(value).unwrap_or_default());
    } else if has(stack, b"big_number", Kind::String) {
        let mut digits = stack.string(value).unwrap_or_default().to_vec();
        digits.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
        reply.big_number(&digits);
    } else if has(stack, b"verbatim_string", Kind::Table) && write_verbatim(stack, value, reply) {
    } else if has(stack, b"map", Kind::Table) {
        let mark = reply.begin();
        let mut len = 0;
        stack.push_nil();
        while stack.next(value) {
            // The key stays below, for `next`.
            stack.push_copy(value + 1);
            write(stack, reply, is_resp3, depth);
            write(stack, reply, is_resp3, depth);
            len += 1;
        }
        reply.end_map(mark, len);
    } else if has(stack, b"set", Kind::Table) {
        let mark = reply.begin();
        let mut len = 0;
        stack.push_nil();
        while stack.next(value) {
            stack.truncate(value + 1);
            stack.push_copy(value + 1);
            write(stack, reply, is_resp3, depth);
            len += 1;
        }
        reply.end_set(mark, len);
    } else {
        stack.truncate(table);
        write_array(stack, table, reply, is_resp3, depth);
    }
}

fn write_verbatim(stack: &mut Stack, table: usize, reply: &mut Reply) -> bool {
    stack.push_field(table, b"format");
    stack.push_field(table, b"string");
    let (Some(format), Some(text)) = (stack.string(table + 1), stack.string(table + 2)) else { return false };
    // The format has three letters, whatever the script says.
    let format: String = String::from_utf8_lossy(format).chars().chain("   ".chars()).take(3).collect();
    reply.verbatim(&format, text);
    true
}

fn write_array(stack: &mut Stack, table: usize, reply: &mut Reply, is_resp3: bool, depth: usize) {
    let mark = reply.begin();
    let mut len = 0;
    loop {
        stack.push_item(table, len + 1);
        if stack.kind(table + 1) == Kind::Nil {
            break;
        }
        write(stack, reply, is_resp3, depth);
        len += 1;
    }
    reply.end_array(mark, len);
}

/// As the processor does it for a C cast: what does not fit becomes the lowest number.
fn truncated(value: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&value) { value as i64 } else { i64::MIN }
}
