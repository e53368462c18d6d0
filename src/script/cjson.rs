//! `cjson`: JSON for scripts, with the options, limits and error texts of lua-cjson 2.1.

use super::api::{guard_all, library_fault as raise};
use mlua::{LightUserData, Lua, MultiValue, Result, Table, Value};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;

#[derive(Clone)]
struct Options {
    sparse_convert: bool,
    sparse_ratio: i64,
    sparse_safe: i64,
    encode_depth: usize,
    decode_depth: usize,
    precision: usize,
    keep_buffer: bool,
    encode_invalid: Invalid,
    decode_invalid: bool,
}

/// What encoding NaN and infinities does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invalid {
    Refuse,
    Allow,
    Null,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth: 1000,
            decode_depth: 1000,
            precision: 14,
            keep_buffer: true,
            encode_invalid: Invalid::Refuse,
            decode_invalid: true,
        }
    }
}

type Shared = Rc<RefCell<Options>>;

pub fn table(lua: &Lua) -> Result<Table> {
    let options = Shared::default();
    let table = lua.create_table()?;
    let shared = Rc::clone(&options);
    table.raw_set(
        "encode",
        lua.create_function(move |lua, args: MultiValue| {
            let [value] =
                args.into_vec().try_into().map_err(|_| raise("bad argument #1 to 'encode' (expected 1 argument)"))?;
            let mut text = String::new();
            let mut bytes = Vec::new();
            Encoder { options: &shared.borrow(), scratch: &mut text }.value(&mut bytes, &value, 0)?;
            lua.create_string(bytes)
        })?,
    )?;
    let shared = Rc::clone(&options);
    table.raw_set(
        "decode",
        lua.create_function(move |lua, args: MultiValue| {
            let text = match args.into_vec().as_slice() {
                [Value::String(text)] => text.as_bytes().to_vec(),
                [Value::Integer(value)] => value.to_string().into_bytes(),
                [Value::Number(value)] => value.to_string().into_bytes(),
                [other] => {
                    let text = format!("bad argument #1 to 'decode' (string expected, got {})", kind_name(Some(other)));
                    return Err(raise(&text));
                }
                _ => return Err(raise("bad argument #1 to 'decode' (expected 1 argument)")),
            };
            decode(lua, &text, &shared.borrow())
        })?,
    )?;
    install_options(lua, &table, &options)?;
    table.raw_set("new", lua.create_function(|lua, ()| self::table(lua))?)?;
    guard_all(lua, &table)?;
    table.raw_set("null", Value::LightUserData(NULL))?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    Ok(table)
}

const NULL: LightUserData = LightUserData(std::ptr::null_mut());

/// What Lua calls the kind of an argument.
pub fn kind_name(value: Option<&Value>) -> &'static str {
    match value {
        None => "no value",
        Some(Value::Integer(_)) => "number",
        Some(Value::LightUserData(_)) => "userdata",
        Some(value) => value.type_name(),
    }
}

/// The arguments of a setting.
struct Given<'a> {
    function: &'a str,
    args: &'a [Value],
}

impl Given<'_> {
    fn wrong(&self, number: usize, text: &str) -> mlua::Error {
        raise(&format!("bad argument #{number} to '{}' ({text})", self.function))
    }

    fn at_most(&self, count: usize) -> Result<()> {
        if self.args.len() > count { Err(self.wrong(count + 1, "found too many arguments")) } else { Ok(()) }
    }

    fn bounded(&self, index: usize, bounds: std::ops::RangeInclusive<i64>) -> Result<Option<i64>> {
        let value = match self.args.get(index) {
            None | Some(Value::Nil) => return Ok(None),
            Some(Value::Integer(value)) => Some(*value),
            Some(Value::Number(value)) => Some(*value as i64),
            Some(Value::String(text)) => text.to_string_lossy().trim().parse::<f64>().ok().map(|value| value as i64),
            Some(_) => None,
        };
        let Some(value) = value else {
            let got = kind_name(self.args.get(index));
            return Err(self.wrong(index + 1, &format!("number expected, got {got}")));
        };
        if bounds.contains(&value) {
            return Ok(Some(value));
        }
        // The reference blames the first one, whichever it is.
        Err(self.wrong(1, &format!("expected integer between {} and {}", bounds.start(), bounds.end())))
    }

    /// One of the words, of which "off" and "on" may also be given as a boolean.
    fn word(&self, words: &[&'static str]) -> Result<Option<&'static str>> {
        let text = match self.args.first() {
            None | Some(Value::Nil) => return Ok(None),
            Some(Value::Boolean(on)) => return Ok(Some(if *on { "on" } else { "off" })),
            Some(Value::String(text)) => text.to_string_lossy(),
            Some(Value::Integer(value)) => value.to_string(),
            Some(Value::Number(value)) => value.to_string(),
            other => return Err(self.wrong(1, &format!("string expected, got {}", kind_name(other)))),
        };
        let found = words.iter().find(|word| **word == text);
        found.copied().map(Some).ok_or_else(|| self.wrong(1, &format!("invalid option '{text}'")))
    }

    fn switch(&self) -> Result<Option<bool>> {
        Ok(self.word(&["off", "on"])?.map(|word| word == "on"))
    }
}

fn install_options(lua: &Lua, table: &Table, options: &Shared) -> Result<()> {
    let set =
        |name: &'static str, most: usize, change: fn(&mut Options, &Given<'_>) -> Result<MultiValue>| -> Result<()> {
            let shared = Rc::clone(options);
            let function = lua.create_function(move |_, args: MultiValue| {
                let given = Given { function: name, args: &args.into_vec() };
                given.at_most(most)?;
                change(&mut shared.borrow_mut(), &given)
            })?;
            table.raw_set(name, function)
        };
    set("encode_sparse_array", 3, |options, args| {
        options.sparse_convert = args.switch()?.unwrap_or(options.sparse_convert);
        options.sparse_ratio = args.bounded(1, 0..=i64::from(i32::MAX))?.unwrap_or(options.sparse_ratio);
        options.sparse_safe = args.bounded(2, 0..=i64::from(i32::MAX))?.unwrap_or(options.sparse_safe);
        Ok(MultiValue::from_vec(vec![
            Value::Boolean(options.sparse_convert),
            Value::Integer(options.sparse_ratio),
            Value::Integer(options.sparse_safe),
        ]))
    })?;
    set("encode_max_depth", 1, |options, args| {
        options.encode_depth =
            args.bounded(0, 1..=i64::from(i32::MAX))?.map_or(options.encode_depth, |depth| depth as usize);
        Ok(one(Value::Integer(options.encode_depth as i64)))
    })?;
    set("decode_max_depth", 1, |options, args| {
        options.decode_depth =
            args.bounded(0, 1..=i64::from(i32::MAX))?.map_or(options.decode_depth, |depth| depth as usize);
        Ok(one(Value::Integer(options.decode_depth as i64)))
    })?;
    set("encode_number_precision", 1, |options, args| {
        options.precision = args.bounded(0, 1..=14)?.map_or(options.precision, |digits| digits as usize);
        Ok(one(Value::Integer(options.precision as i64)))
    })?;
    set("encode_keep_buffer", 1, |options, args| {
        options.keep_buffer = args.switch()?.unwrap_or(options.keep_buffer);
        Ok(one(Value::Boolean(options.keep_buffer)))
    })?;
    set("encode_invalid_numbers", 1, |options, args| {
        options.encode_invalid = match args.word(&["off", "on", "null"])? {
            Some("null") => Invalid::Null,
            Some("on") => Invalid::Allow,
            Some(_) => Invalid::Refuse,
            None => options.encode_invalid,
        };
        Ok(one(Value::Boolean(options.encode_invalid != Invalid::Refuse)))
    })?;
    set("decode_invalid_numbers", 1, |options, args| {
        options.decode_invalid = args.switch()?.unwrap_or(options.decode_invalid);
        Ok(one(Value::Boolean(options.decode_invalid)))
    })
}

fn one(value: Value) -> MultiValue {
    MultiValue::from_vec(vec![value])
}

struct Encoder<'a> {
    options: &'a Options,
    scratch: &'a mut String,
}

impl Encoder<'_> {
    fn value(&mut self, out: &mut Vec<u8>, value: &Value, depth: usize) -> Result<()> {
        match value {
            Value::Nil => out.extend_from_slice(b"null"),
            Value::LightUserData(pointer) if *pointer == NULL => out.extend_from_slice(b"null"),
            Value::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Integer(value) => self.number(out, *value as f64)?,
            Value::Number(value) => self.number(out, *value)?,
            Value::String(text) => string(out, &text.as_bytes()),
            Value::Table(table) => self.table(out, table, depth + 1)?,
            other => return Err(raise(&format!("Cannot serialise {}: type not supported", other.type_name()))),
        }
        Ok(())
    }

    fn number(&mut self, out: &mut Vec<u8>, value: f64) -> Result<()> {
        if !value.is_finite() {
            let text: &[u8] = match self.options.encode_invalid {
                Invalid::Refuse => return Err(raise("Cannot serialise number: must not be NaN or Inf")),
                Invalid::Null => b"null",
                Invalid::Allow if value.is_nan() => b"nan",
                Invalid::Allow if value > 0.0 => b"inf",
                Invalid::Allow => b"-inf",
            };
            out.extend_from_slice(text);
            return Ok(());
        }
        self.scratch.clear();
        crate::base::number::write_general(self.scratch, value, self.options.precision);
        out.extend_from_slice(self.scratch.as_bytes());
        Ok(())
    }

    fn table(&mut self, out: &mut Vec<u8>, table: &Table, depth: usize) -> Result<()> {
        if depth > self.options.encode_depth {
            return Err(raise(&format!("Cannot serialise, excessive nesting ({depth})")));
        }
        match self.array_len(table)? {
            Some(len) => {
                out.push(b'[');
                for index in 1..=len {
                    if index > 1 {
                        out.push(b',');
                    }
                    self.value(out, &table.raw_get(index)?, depth)?;
                }
                out.push(b']');
            }
            None => self.object(out, table, depth)?,
        }
        Ok(())
    }

    fn object(&mut self, out: &mut Vec<u8>, table: &Table, depth: usize) -> Result<()> {
        out.push(b'{');
        let mut is_first = true;
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            match &key {
                Value::String(text) => string(out, &text.as_bytes()),
                Value::Integer(_) | Value::Number(_) => {
                    out.push(b'"');
                    self.value(out, &key, depth)?;
                    out.push(b'"');
                }
                _ => {
                    return Err(raise(&format!(
                        "Cannot serialise {}: table key must be a number or string",
                        kind_name(Some(&key))
                    )));
                }
            }
            out.push(b':');
            self.value(out, &value, depth)?;
        }
        out.push(b'}');
        Ok(())
    }

    /// The length, if the table is an array: only positive whole keys, and not too many holes.
    fn array_len(&self, table: &Table) -> Result<Option<i64>> {
        let (mut max, mut items) = (0, 0);
        for pair in table.pairs::<Value, Value>() {
            let key = match pair?.0 {
                Value::Integer(key) if key > 0 => key,
                Value::Number(key) if key > 0.0 && key.fract() == 0.0 => key as i64,
                _ => return Ok(None),
            };
            max = max.max(key);
            items += 1;
        }
        if items == 0 {
            return Ok(None);
        }
        let options = self.options;
        let is_sparse = options.sparse_ratio > 0 && max > items * options.sparse_ratio && max > options.sparse_safe;
        match (is_sparse, options.sparse_convert) {
            (false, _) => Ok(Some(max)),
            (true, true) => Ok(None),
            (true, false) => Err(raise("Cannot serialise table: excessively sparse array")),
        }
    }
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'/' => out.extend_from_slice(b"\\/"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=31 | 127 => {
                let mut escape = String::new();
                // Writing to a string cannot fail.
                let _ = write!(escape, "\\u{byte:04x}");
                out.extend_from_slice(escape.as_bytes());
            }
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
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

fn decode(lua: &Lua, text: &[u8], options: &Options) -> Result<Value> {
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
