//! JSON as values of Lua: tokens, then what they make up.

use super::super::api::library_fault as raise;
use super::{NULL, Options};
use mlua::{Lua, Result, Value};

pub fn decode(lua: &Lua, text: &[u8], options: &Options) -> Result<Value> {
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(raise("JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut decoder = Decoder { lua, text, at: 0, begun: 0, options };
    let value = decoder.value(0)?;
    match decoder.token()? {
        Token::End => Ok(value),
        other => Err(decoder.unexpected("the end", &other)),
    }
}

#[derive(Debug)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(text) => text,
        }
    }
}

struct Decoder<'a> {
    lua: &'a Lua,
    text: &'a [u8],
    at: usize,
    /// Where the last token began.
    begun: usize,
    options: &'a Options,
}

impl Decoder<'_> {
    fn unexpected(&self, wanted: &str, found: &Token) -> mlua::Error {
        raise(&format!("Expected {wanted} but found {} at character {}", found.name(), self.begun + 1))
    }

    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn token(&mut self) -> Result<Token> {
        self.skip_space();
        self.begun = self.at;
        let Some(byte) = self.text.get(self.at).copied() else {
            self.at = self.text.len() + 1;
            return Ok(Token::End);
        };
        let single = match byte {
            b'{' => Some(Token::ObjectBegin),
            b'}' => Some(Token::ObjectEnd),
            b'[' => Some(Token::ArrayBegin),
            b']' => Some(Token::ArrayEnd),
            b':' => Some(Token::Colon),
            b',' => Some(Token::Comma),
            _ => None,
        };
        if let Some(token) = single {
            self.at += 1;
            return Ok(token);
        }
        for (word, token) in [("true", Token::Boolean(true)), ("false", Token::Boolean(false)), ("null", Token::Null)] {
            if self.text[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(token);
            }
        }
        match byte {
            // The reference reads texts of C.
            0 => Ok(Token::End),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' if !self.options.decode_invalid && self.is_invalid_number() => {
                Ok(Token::Error("invalid number"))
            }
            b'-' | b'0'..=b'9' => Ok(self.number()),
            _ if self.options.decode_invalid && self.is_invalid_number() => Ok(self.number()),
            _ => {
                self.at += 1;
                Ok(Token::Error("invalid token"))
            }
        }
    }

    /// Numbers that JSON does not have: signed with a plus, hexadecimal, with a zero in front, infinite, none.
    fn is_invalid_number(&self) -> bool {
        let rest = &self.text[self.at..];
        let rest = match rest.first() {
            Some(b'+') => return true,
            Some(b'-') => &rest[1..],
            _ => rest,
        };
        match rest {
            [b'0', next, ..] => next.is_ascii_digit() || next.eq_ignore_ascii_case(&b'x'),
            _ => begins_with(rest, b"inf") || begins_with(rest, b"nan"),
        }
    }

    /// As much of what follows as reads as a number to C's strtod.
    fn number(&mut self) -> Token {
        let rest = &self.text[self.at..];
        let sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
        let (len, value) = match unsigned_number(&rest[sign..]) {
            Some((len, value)) => (sign + len, value),
            None => return Token::Error("invalid number"),
        };
        let is_negative = rest[0] == b'-';
        self.at += len;
        Token::Number(if is_negative { -value } else { value })
    }

    fn string(&mut self) -> Result<Token> {
        let mut text = Vec::new();
        let mut at = self.at + 1;
        loop {
            let Some(byte) = self.text.get(at).copied() else {
                self.begun = at;
                return Ok(Token::Error("unexpected end of string"));
            };
            at += 1;
            match byte {
                b'"' => break,
                0 => {
                    self.begun = at - 1;
                    return Ok(Token::Error("unexpected end of string"));
                }
                b'\\' => {
                    // Errors are told of where the escape begins.
                    let begun = at - 1;
                    if let Err(what) = self.escape(&mut at, &mut text) {
                        self.begun = begun;
                        return Ok(Token::Error(what));
                    }
                }
                _ => text.push(byte),
            }
        }
        self.at = at;
        Ok(Token::String(text))
    }

    fn escape(&self, at: &mut usize, text: &mut Vec<u8>) -> std::result::Result<(), &'static str> {
        let code = self.text.get(*at).copied().unwrap_or(0);
        *at += 1;
        match code {
            b'"' | b'\\' | b'/' => text.push(code),
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'u' => {
                let high = self.hex(at).ok_or("invalid unicode escape code")?;
                let point = if (0xd800..0xdc00).contains(&high) {
                    if self.text.get(*at..*at + 2) != Some(b"\\u") {
                        return Err("invalid unicode escape code");
                    }
                    *at += 2;
                    let low = self
                        .hex(at)
                        .filter(|low| (0xdc00..0xe000).contains(low))
                        .ok_or("invalid unicode escape code")?;
                    0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    high
                };
                let character = char::from_u32(point).ok_or("invalid unicode escape code")?;
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return Err("invalid escape code"),
        }
        Ok(())
    }

    fn hex(&self, at: &mut usize) -> Option<u32> {
        let digits = std::str::from_utf8(self.text.get(*at..*at + 4)?).ok()?;
        *at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        let token = self.token()?;
        self.value_of(token, depth)
    }

    fn value_of(&mut self, token: Token, depth: usize) -> Result<Value> {
        match token {
            Token::String(text) => Ok(Value::String(self.lua.create_string(text)?)),
            Token::Number(value) => Ok(Value::Number(value)),
            Token::Boolean(value) => Ok(Value::Boolean(value)),
            Token::Null => Ok(Value::LightUserData(NULL)),
            Token::ObjectBegin => self.object(depth + 1),
            Token::ArrayBegin => self.array(depth + 1),
            other => Err(self.unexpected("value", &other)),
        }
    }

    fn check_depth(&self, depth: usize) -> Result<()> {
        if depth <= self.options.decode_depth {
            return Ok(());
        }
        Err(raise(&format!("Found too many nested data structures ({depth}) at character {}", self.at)))
    }

    fn object(&mut self, depth: usize) -> Result<Value> {
        self.check_depth(depth)?;
        let table = self.lua.create_table()?;
        let mut token = self.token()?;
        if matches!(token, Token::ObjectEnd) {
            return Ok(Value::Table(table));
        }
        loop {
            let Token::String(key) = token else { return Err(self.unexpected("object key string", &token)) };
            match self.token()? {
                Token::Colon => {}
                other => return Err(self.unexpected("colon", &other)),
            }
            let value = self.value(depth)?;
            table.raw_set(self.lua.create_string(key)?, value)?;
            match self.token()? {
                Token::ObjectEnd => return Ok(Value::Table(table)),
                Token::Comma => token = self.token()?,
                other => return Err(self.unexpected("comma or object end", &other)),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value> {
        self.check_depth(depth)?;
        let table = self.lua.create_table()?;
        let mut token = self.token()?;
        if matches!(token, Token::ArrayEnd) {
            return Ok(Value::Table(table));
        }
        for index in 1.. {
            let value = self.value_of(token, depth)?;
            table.raw_set(index, value)?;
            match self.token()? {
                Token::ArrayEnd => break,
                Token::Comma => token = self.token()?,
                other => return Err(self.unexpected("comma or array end", &other)),
            }
        }
        Ok(Value::Table(table))
    }
}

fn begins_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// The longest number without a sign that a text begins with, and its length.
fn unsigned_number(text: &[u8]) -> Option<(usize, f64)> {
    for (word, value) in [("infinity", f64::INFINITY), ("inf", f64::INFINITY), ("nan", f64::NAN)] {
        if begins_with(text, word.as_bytes()) {
            return Some((word.len(), value));
        }
    }
    let digits =
        |from: usize| text.get(from..).map_or(0, |rest| rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
    if begins_with(text, b"0x") {
        let hex = text[2..].iter().take_while(|byte| byte.is_ascii_hexdigit());
        let (len, value) = hex.fold((0, 0.0), |(len, value), digit| {
            (len + 1, value * 16.0 + f64::from(char::from(*digit).to_digit(16).unwrap_or(0)))
        });
        return Some(if len > 0 { (2 + len, value) } else { (1, 0.0) });
    }
    let whole = digits(0);
    let mut end = whole;
    if text.get(end) == Some(&b'.') {
        let decimals = digits(end + 1);
        if whole + decimals == 0 {
            return None;
        }
        end += 1 + decimals;
    }
    if end == 0 {
        return None;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let value = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
    Some((end, value))
}
