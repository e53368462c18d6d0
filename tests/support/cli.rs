//! redis-cli's two faces: how it splits a line into words, and how it prints a reply on a terminal.

use super::Reply;

/// Splits a line as redis-cli does: words, `"…"` with escapes, `'…'` with `\'` alone. `None` for unbalanced quotes.
pub fn split(line: &str) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start().as_bytes();
    while !rest.is_empty() {
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after.trim_ascii_start();
    }
    Some(words)
}

fn word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] | [b' ' | b'\t' | b'\r' | b'\n', ..] => return Some((word, rest)),
            [b'"', after @ ..] => rest = double_quoted(after, &mut word)?,
            [b'\'', after @ ..] => rest = single_quoted(after, &mut word)?,
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
                continue;
            }
        }
        // A closing quote must end the word.
        return matches!(rest, [] | [b' ' | b'\t' | b'\r' | b'\n', ..]).then_some((word, rest));
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(0) as u8;
                (digit(high) << 4 | digit(low), after)
            }
            [b'\\', escaped, after @ ..] => (unescape(*escaped), after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        word.push(byte);
        rest = after;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        word.push(byte);
        rest = after;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

/// The reply as redis-cli prints it on a terminal, without the last line end.
pub fn print(reply: &Reply) -> String {
    let mut text = String::new();
    print_into(&mut text, reply, "");
    text.pop();
    text
}

fn print_into(text: &mut String, reply: &Reply, prefix: &str) {
    match reply {
        Reply::Error(message) => line(text, &format!("(error) {message}")),
        Reply::Status(status) | Reply::BigNumber(status) => line(text, status),
        Reply::Integer(number) => line(text, &format!("(integer) {number}")),
        Reply::Double(number) => line(text, &format!("(double) {number}")),
        Reply::Boolean(yes) => line(text, if *yes { "(true)" } else { "(false)" }),
        Reply::Nil => line(text, "(nil)"),
        Reply::Bulk(bytes) => line(text, &quote(bytes)),
        Reply::Verbatim(_, bytes) => line(text, &String::from_utf8_lossy(bytes)),
        Reply::Array(items) => print_items(text, items, prefix, ')', "(empty array)"),
        Reply::Push(items) => print_items(text, items, prefix, ')', "(empty push)"),
        Reply::Set(items) => print_items(text, items, prefix, '~', "(empty set)"),
        Reply::Map(pairs) => print_pairs(text, pairs, prefix),
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn print_items(text: &mut String, items: &[Reply], prefix: &str, mark: char, empty: &str) {
    if items.is_empty() {
        return line(text, empty);
    }
    let width = items.len().to_string().len();
    let deeper = format!("{prefix}{}", " ".repeat(width + 2));
    for (index, item) in items.iter().enumerate() {
        // The parent has already printed its own index in front of the first item.
        let lead = if index == 0 { "" } else { prefix };
        text.push_str(&format!("{lead}{:width$}{mark} ", index + 1));
        print_into(text, item, &deeper);
    }
}

fn print_pairs(text: &mut String, pairs: &[(Reply, Reply)], prefix: &str) {
    if pairs.is_empty() {
        return line(text, "(empty hash)");
    }
    let width = pairs.len().to_string().len();
    let deeper = format!("{prefix}{}", " ".repeat(width + 2));
    for (index, (key, value)) in pairs.iter().enumerate() {
        let lead = if index == 0 { "" } else { prefix };
        text.push_str(&format!("{lead}{:width$}# ", index + 1));
        print_into(text, key, &deeper);
        text.pop();
        text.push_str(" => ");
        if is_multiline(value) {
            text.push('\n');
            text.push_str(&deeper);
        }
        print_into(text, value, &deeper);
    }
}

fn is_multiline(reply: &Reply) -> bool {
    match reply {
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => match items.as_slice() {
            [] => false,
            [item] => is_multiline(item),
            _ => true,
        },
        Reply::Map(pairs) => match pairs.as_slice() {
            [] => false,
            [(_, value)] => is_multiline(value),
            _ => true,
        },
        _ => false,
    }
}

/// A string between double quotes, with redis-cli's escapes.
pub fn quote(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in bytes {
        match byte {
            b'\\' | b'"' => text.extend(['\\', char::from(*byte)]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            7 => text.push_str("\\a"),
            8 => text.push_str("\\b"),
            0x20..0x7f => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}
