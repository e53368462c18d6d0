//! `cjson`: JSON for scripts, with the options, limits and error texts of lua-cjson 2.1.

mod decode;
mod encode;

use super::api::{guard_all, library_fault as raise};
use mlua::{LightUserData, Lua, MultiValue, Result, Table, Value};
use std::cell::RefCell;
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
            lua.create_string(encode::encode(&value, &shared.borrow())?)
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
            decode::decode(lua, &text, &shared.borrow())
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
