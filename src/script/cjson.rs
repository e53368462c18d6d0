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
                [_] => return Err(raise("bad argument #1 to 'decode' (string expected)")),
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

fn integer(args: &[Value], index: usize) -> Option<i64> {
    match args.get(index) {
        Some(Value::Integer(value)) => Some(*value),
        Some(Value::Number(value)) => Some(*value as i64),
        _ => None,
    }
}

fn bounded(args: &[Value], index: usize, bounds: std::ops::RangeInclusive<i64>) -> Result<Option<i64>> {
    match args.get(index) {
        None | Some(Value::Nil) => Ok(None),
        Some(_) => match integer(args, index) {
            Some(value) if bounds.contains(&value) => Ok(Some(value)),
            _ => Err(raise(&format!(
                "bad argument #{} (expected integer between {} and {})",
                index + 1,
                bounds.start(),
                bounds.end()
            ))),
        },
    }
}

fn switch(value: Option<&Value>) -> Option<bool> {
    match value {
        Some(Value::Boolean(on)) => Some(*on),
        Some(Value::String(word)) => Some(word.as_bytes() == b"on".as_slice()),
        _ => None,
    }
}

fn install_options(lua: &Lua, table: &Table, options: &Shared) -> Result<()> {
    let set = |name: &str, change: fn(&mut Options, &[Value]) -> Result<MultiValue>| -> Result<()> {
        let shared = Rc::clone(options);
        let function =
            lua.create_function(move |_, args: MultiValue| change(&mut shared.borrow_mut(), &args.into_vec()))?;
        table.raw_set(name, function)
    };
    set("encode_sparse_array", |options, args| {
        options.sparse_convert = switch(args.first()).unwrap_or(options.sparse_convert);
        options.sparse_ratio = bounded(args, 1, 0..=i64::from(i32::MAX))?.unwrap_or(options.sparse_ratio);
        options.sparse_safe = bounded(args, 2, 0..=i64::from(i32::MAX))?.unwrap_or(options.sparse_safe);
        Ok(MultiValue::from_vec(vec![
            Value::Boolean(options.sparse_convert),
            Value::Integer(options.sparse_ratio),
            Value::Integer(options.sparse_safe),
        ]))
    })?;
    set("encode_max_depth", |options, args| {
        options.encode_depth =
            bounded(args, 0, 1..=i64::from(i32::MAX))?.map_or(options.encode_depth, |depth| depth as usize);
        Ok(one(Value::Integer(options.encode_depth as i64)))
    })?;
    set("decode_max_depth", |options, args| {
        options.decode_depth =
            bounded(args, 0, 1..=i64::from(i32::MAX))?.map_or(options.decode_depth, |depth| depth as usize);
        Ok(one(Value::Integer(options.decode_depth as i64)))
    })?;
    set("encode_number_precision", |options, args| {
        options.precision = bounded(args, 0, 1..=14)?.map_or(options.precision, |digits| digits as usize);
        Ok(one(Value::Integer(options.precision as i64)))
    })?;
    set("encode_keep_buffer", |options, args| {
        options.keep_buffer = switch(args.first()).unwrap_or(options.keep_buffer);
        Ok(one(Value::Boolean(options.keep_buffer)))
    })?;
    set("encode_invalid_numbers", |options, args| {
        options.encode_invalid = match args.first() {
            Some(Value::String(word)) if word.as_bytes() == b"null".as_slice() => Invalid::Null,
            other => match switch(other) {
                Some(true) => Invalid::Allow,
                Some(false) => Invalid::Refuse,
                None => options.encode_invalid,
            },
        };
        Ok(one(Value::Boolean(options.encode_invalid != Invalid::Refuse)))
    })?;
    set("decode_invalid_numbers", |options, args| {
        options.decode_invalid = switch(args.first()).unwrap_or(options.decode_invalid);
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
                _ => return Err(raise("Cannot serialise table: table key must be a number or string")),
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
            b'"' => self.string(),
            b'-' | b'+' | b'0'..=b'9' | b'i' | b'I' | b'n' | b'N' => Ok(self.number()),
            _ => {
                self.at += 1;
                Ok(Token::Error("invalid token"))
            }
        }
    }

    fn number(&mut self) -> Token {
        let start = self.at;
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let end = self.text[start..].iter().position(|byte| !is_part(byte)).map_or(self.text.len(), |len| start + len);
        let text = String::from_utf8_lossy(&self.text[start..end]).to_lowercase();
        let unsigned = text.trim_start_matches('-');
        let is_plain = unsigned.starts_with(|c: char| c.is_ascii_digit())
            && (unsigned == "0"
                || !unsigned.starts_with('0')
                || unsigned.starts_with("0.")
                || unsigned.starts_with("0e"))
            && !unsigned.starts_with("0x");
        if !is_plain && !self.options.decode_invalid {
            self.at = start + 1;
            return Token::Error("invalid number");
        }
        let value = match unsigned.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16)
                .ok()
                .map(|value| value as f64 * if text.starts_with('-') { -1.0 } else { 1.0 }),
            None => text.parse::<f64>().ok(),
        };
        match value {
            Some(value) => {
                self.at = end;
                Token::Number(value)
            }
            None => {
                self.at = start + 1;
                Token::Error("invalid token")
            }
        }
    }

    fn string(&mut self) -> Result<Token> {
        let mut text = Vec::new();
        let mut at = self.at + 1;
        loop {
            let Some(byte) = self.text.get(at).copied() else {
                self.at = self.text.len() + 1;
                return Ok(Token::Error("unexpected end of string"));
            };
            at += 1;
            match byte {
                b'"' => break,
                0..=31 => {
                    self.at = at;
                    return Ok(Token::Error("invalid token"));
                }
                b'\\' => match self.escape(&mut at, &mut text) {
                    Ok(()) => {}
                    Err(what) => {
                        self.at = at;
                        return Ok(Token::Error(what));
                    }
                },
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
