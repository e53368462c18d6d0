//! Words of a line with Redis's quoting, in both directions: configuration lines, inline commands, logs of commands.
//!
//! ```text
//! plain    ends at a blank; a quote inside it opens a quoted part that also ends the word
//! "..."    \n \r \t \b \a, \xHH (two hex digits), \c = c for any other c
//! '...'    only \' is an escape
//! ```
//! A closing quote must be followed by a blank or the end. A NUL byte ends the line, since Redis keeps lines as C strings.

/// The words of a line; `None` if its quotes are unbalanced.
pub fn split_args(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.split(|byte| *byte == 0).next().unwrap_or_default();
    loop {
        let blanks = rest.iter().take_while(|byte| is_space(**byte)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Some(words);
        }
        let (word, used) = split_one(rest)?;
        words.push(word);
        rest = &rest[used..];
    }
}

/// The text in double quotes, with everything that is not printable ASCII escaped: `split_args` gives the bytes back.
pub fn quote(data: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(data.len() + 2);
    text.push(b'"');
    for byte in data {
        match byte {
            b'\\' | b'"' => text.extend([b'\\', *byte]),
            b'\n' => text.extend(b"\\n"),
            b'\r' => text.extend(b"\\r"),
            b'\t' => text.extend(b"\\t"),
            0x07 => text.extend(b"\\a"),
            0x08 => text.extend(b"\\b"),
            b' '..=b'~' => text.push(*byte),
            _ => text.extend([b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    text.push(b'"');
    text
}

/// One word from a text that begins with a non-blank, and the number of bytes it takes.
fn split_one(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut word = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        let inside = &text[at + 1..];
        let used = match byte {
            b' ' | b'\n' | b'\r' | b'\t' => return Some((word, at)),
            b'"' => read_double_quoted(inside, &mut word)?,
            b'\'' => read_single_quoted(inside, &mut word)?,
            plain => {
                word.push(*plain);
                continue;
            }
        };
        let end = at + 1 + used;
        let closed_well = text.get(end).is_none_or(|next| is_space(*next));
        return closed_well.then_some((word, end));
    }
    Some((word, text.len()))
}

/// Reads up to and including the closing `"`; the number of bytes read.
fn read_double_quoted(text: &[u8], word: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        match *text.get(at..)? {
            [b'"', ..] => return Some(at + 1),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex_value(high) << 4 | hex_value(low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            [plain, ..] => {
                word.push(plain);
                at += 1;
            }
            [] => return None,
        }
    }
}

/// Reads up to and including the closing `'`; the number of bytes read.
fn read_single_quoted(text: &[u8], word: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        match *text.get(at..)? {
            [b'\'', ..] => return Some(at + 1),
            [b'\\', b'\'', ..] => {
                word.push(b'\'');
                at += 2;
            }
            [plain, ..] => {
                word.push(plain);
                at += 1;
            }
            [] => return None,
        }
    }
}

/// The C locale's blanks: space, \t, \n, vertical tab, form feed, \r.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d)
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_and_quotes_as_redis_reads_them() {
        let split = |line: &str| {
            split_args(line.as_bytes())
                .map(|words| words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>())
        };
        for (line, expected) in [
            ("", vec![]),
            ("  \t ", vec![]),
            ("set foo  bar\r\n", vec!["set", "foo", "bar"]),
            (r#"save """#, vec!["save", ""]),
            (r#"a "x\ty\x41\"z" b"#, vec!["a", "x\tyA\"z", "b"]),
            (r#""\xzz \q""#, vec!["xzz q"]),
            (r"'it\'s \n' x", vec!["it's \\n", "x"]),
            (r#"foo"bar" baz"#, vec!["foobar", "baz"]),
            ("one two\0three", vec!["one", "two"]),
        ] {
            let expected: Vec<String> = expected.into_iter().map(String::from).collect();
            assert_eq!(split(line), Some(expected), "{line}");
        }
        for line in ["\"open", "'open", "\"a\"b", "'a'b", "\"a\\", "x \"a\"\"b\""] {
            assert_eq!(split(line), None, "{line}");
        }
    }

    #[test]
    fn quoting_escapes_all_but_printable_ascii() {
        assert_eq!(quote(b"a\"\\\n\r\t\x07\x08\x00\xff ~"), br#""a\"\\\n\r\t\a\b\x00\xff ~""#);
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5)) {
            let line = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(&b' ');
            prop_assert_eq!(split_args(&line), Some(words));
        }
    }
}
