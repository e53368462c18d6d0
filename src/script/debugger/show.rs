//! What the debugger shows: values of Lua, and replies of the server, as texts of one line.

use crate::base::number::{parse_i64, write_general};
use crate::base::quoting::quote;
use crate::engine::lua::{Kind, Stack};

/// Tables within tables that are looked into.
const DEPTH_MAX: usize = 10;

/// Appends a value.
pub fn value(stack: &mut Stack, index: usize, out: &mut Vec<u8>) {
    value_at(stack, index, 0, out);
}

fn value_at(stack: &mut Stack, index: usize, depth: usize, out: &mut Vec<u8>) {
    if depth == DEPTH_MAX {
        out.extend_from_slice(b"<max recursion level reached! Nested table?>");
        return;
    }
    match stack.kind(index) {
        Kind::Nil => out.extend_from_slice(b"nil"),
        Kind::Boolean => out.extend_from_slice(if stack.truth(index) { b"true" } else { b"false" }),
        Kind::Number => {
            let mut text = String::new();
            write_general(&mut text, stack.number(index).unwrap_or_default(), 6);
            out.extend_from_slice(text.as_bytes());
        }
        Kind::String => out.extend(quote(stack.string(index).unwrap_or_default())),
        Kind::Table => table(stack, index, depth, out),
        Kind::Function | Kind::Other => {
            let (kind, address) = stack.identity(index);
            out.extend_from_slice(format!("\"{kind}@{address:#x}\"").as_bytes());
        }
    }
}

/// `{a; b}` for what counts from 1 without a gap, else `{[key]=value; …}`.
fn table(stack: &mut Stack, index: usize, depth: usize, out: &mut Vec<u8>) {
    let (mut plain, mut full): (Vec<u8>, Vec<u8>) = Default::default();
    let (mut is_list, mut expected) = (true, 1.0);
    stack.push_nil();
    let key = stack.top();
    while stack.next(index) {
        let counts_on = stack.kind(key) == Kind::Number && stack.number(key) == Some(expected);
        is_list &= counts_on;
        expected += 1.0;
        let mut shown = Vec::new();
        value_at(stack, key + 1, depth + 1, &mut shown);
        let separator: &[u8] = if full.is_empty() { b"" } else { b"; " };
        if is_list {
            plain.extend_from_slice(separator);
            plain.extend_from_slice(&shown);
        }
        full.extend_from_slice(separator);
        full.push(b'[');
        value_at(stack, key, depth + 1, &mut full);
        full.extend_from_slice(b"]=");
        full.extend_from_slice(&shown);
        stack.truncate(key);
    }
    out.push(b'{');
    out.extend_from_slice(if is_list { &plain } else { &full });
    out.push(b'}');
}

/// Appends a reply; returns what follows it.
pub fn reply<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return b"" };
    let (Some((kind, head)), mut rest) = (bytes[..end].split_first(), &bytes[end + 2..]) else {
        return rest_of(bytes, end);
    };
    let len = parse_i64(head).unwrap_or(-1);
    match kind {
        b':' => out.extend_from_slice(head),
        b'+' | b'-' => out.extend(quote(&bytes[..end])),
        b'_' => out.extend_from_slice(b"(null)"),
        b'#' => out.extend_from_slice(if head == b"t" { b"#true" } else { b"#false" }),
        b',' => {
            out.extend_from_slice(b"(double) ");
            out.extend_from_slice(head);
        }
        b'$' | b'*' if len < 0 => out.extend_from_slice(b"NULL"),
        // Text with its format is left out, as in the reference.
        b'$' | b'=' | b'!' => {
            let len = (len.max(0) as usize).min(rest.len());
            if *kind == b'$' {
                out.extend(quote(&rest[..len]));
            }
            rest = rest.get(len + 2..).unwrap_or_default();
        }
        b'*' => rest = items(rest, (b"[", b"]"), len, out),
        b'~' => rest = items(rest, (b"~(", b")"), len, out),
        b'%' => rest = pairs(rest, len, out),
        _ => {}
    }
    rest
}

fn rest_of(bytes: &[u8], end: usize) -> &[u8] {
    bytes.get(end + 2..).unwrap_or_default()
}

fn items<'a>(mut rest: &'a [u8], (open, close): (&[u8], &[u8]), count: i64, out: &mut Vec<u8>) -> &'a [u8] {
    out.extend_from_slice(open);
    for item in 0..count {
        if item > 0 {
            out.push(b',');
        }
        rest = reply(rest, out);
    }
    out.extend_from_slice(close);
    rest
}

fn pairs<'a>(mut rest: &'a [u8], count: i64, out: &mut Vec<u8>) -> &'a [u8] {
    out.push(b'{');
    for pair in 0..count {
        if pair > 0 {
            out.push(b',');
        }
        rest = reply(rest, out);
        out.extend_from_slice(b" => ");
        rest = reply(rest, out);
    }
    out.push(b'}');
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        assert!(reply(bytes, &mut out).is_empty());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn replies_are_shown_in_one_line() {
        assert_eq!(shown(b":12\r\n"), "12");
        assert_eq!(shown(b"+OK\r\n"), "\"+OK\"");
        assert_eq!(shown(b"-ERR no\r\n"), "\"-ERR no\"");
        assert_eq!(shown(b"$3\r\na\nb\r\n"), "\"a\\nb\"");
        assert_eq!(shown(b"$-1\r\n"), "NULL");
        assert_eq!(shown(b"*3\r\n:1\r\n*1\r\n$0\r\n\r\n*-1\r\n"), "[1,[\"\"],NULL]");
        assert_eq!(shown(b"~2\r\n:1\r\n#t\r\n"), "~(1,#true)");
        assert_eq!(shown(b"%1\r\n$1\r\nk\r\n,1.5\r\n"), "{\"k\" => (double) 1.5}");
        assert_eq!(shown(b"*2\r\n=5\r\ntxt:x\r\n_\r\n"), "[,(null)]");
        assert_eq!(shown(b"$9\r\nab"), "\"ab\"", "cut short");
    }
}
