//! `bit`, `struct` and the random numbers of `math`, as Redis's scripts know them.

use super::api::{bad_argument, fault, guard_all, library_fault as raise};
use super::cjson::kind_name;
use crate::engine::lua::{self, Outcome, Question, Stack};
use mlua::{Lua, MultiValue, Result, Table, Value};
use std::cell::Cell;

pub fn install(lua: &Lua, real: &Table) -> Result<()> {
    for (name, table) in [("bit", bit_table(lua)?), ("struct", struct_table(lua)?)] {
        guard_all(lua, &table)?;
        real.raw_set(name, table)?;
    }
    let math: Table = real.raw_get("math")?;
    math.raw_set("random", lua::function(lua, |stack| in_a_run(stack, Question::Random))?)?;
    math.raw_set("randomseed", lua::function(lua, |stack| in_a_run(stack, Question::RandomSeed))?)
}

fn in_a_run(stack: &mut Stack, question: Question) -> Outcome {
    let name = if question == Question::Random { "random" } else { "randomseed" };
    lua::ask_host(|host| host.ask(question, stack))
        .unwrap_or_else(|| fault(stack, format!("math.{name} can only be called inside a script invocation")))
}

/// The arguments of a function, by which its errors name them.
struct Given<'a> {
    function: &'static str,
    args: &'a [Value],
}

impl Given<'_> {
    fn wrong(&self, number: usize, text: &str) -> mlua::Error {
        raise(&format!("bad argument #{number} to '{}' ({text})", self.function))
    }

    fn unexpected(&self, index: usize, wanted: &str, missing: &'static str) -> mlua::Error {
        let got = self.args.get(index).map_or(missing, |value| kind_name(Some(value)));
        self.wrong(index + 1, &format!("{wanted} expected, got {got}"))
    }

    /// A number, or a text that reads as one.
    fn number(&self, index: usize, missing: &'static str) -> Result<f64> {
        let number = match self.args.get(index) {
            Some(Value::Integer(value)) => Some(*value as f64),
            Some(Value::Number(value)) => Some(*value),
            Some(Value::String(text)) => text.to_string_lossy().trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.unexpected(index, "number", missing))
    }

    /// A string, or the text of a number.
    fn text(&self, lua: &Lua, index: usize, missing: &'static str) -> Result<mlua::LuaString> {
        let text = match self.args.get(index) {
            Some(value @ (Value::String(_) | Value::Integer(_) | Value::Number(_))) => {
                lua.coerce_string(value.clone())?
            }
            _ => None,
        };
        text.ok_or_else(|| self.unexpected(index, "string", missing))
    }

    /// A number as 32 bits, the way the BitOp library normalizes it: this sum has the rounded number in its last bits, modulo 2^32.
    fn bits(&self, index: usize) -> Result<i32> {
        const SHIFT: f64 = 6_755_399_441_055_744.0;
        Ok((self.number(index, "no value")? + SHIFT).to_bits() as u32 as i32)
    }
}

fn bit_table(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    let set = |name: &'static str, work: fn(&Given<'_>) -> Result<i32>| -> Result<()> {
        let function = lua.create_function(move |_, args: MultiValue| {
            Ok(f64::from(work(&Given { function: name, args: &args.into_vec() })?))
        })?;
        table.raw_set(name, function)
    };
    set("band", |given| fold(given, |a, b| a & b))?;
    set("bor", |given| fold(given, |a, b| a | b))?;
    set("bxor", |given| fold(given, |a, b| a ^ b))?;
    set("tobit", |given| given.bits(0))?;
    set("bnot", |given| Ok(!given.bits(0)?))?;
    set("bswap", |given| Ok(given.bits(0)?.swap_bytes()))?;
    set("lshift", |given| shift(given, |a, n| a << n))?;
    set("rshift", |given| shift(given, |a, n| (a as u32 >> n) as i32))?;
    set("arshift", |given| shift(given, |a, n| a >> n))?;
    set("rol", |given| shift(given, i32::rotate_left))?;
    set("ror", |given| shift(given, i32::rotate_right))?;
    table.raw_set(
        "tohex",
        lua.create_function(|_, args: MultiValue| {
            let given = Given { function: "tohex", args: &args.into_vec() };
            let bits = given.bits(0)?;
            let digits = if given.args.len() > 1 { given.bits(1)? } else { 8 };
            let width = digits.unsigned_abs().min(8) as usize;
            let text = if digits < 0 { format!("{bits:08X}") } else { format!("{bits:08x}") };
            Ok(text[8 - width..].to_owned())
        })?,
    )?;
    Ok(table)
}

fn fold(given: &Given<'_>, step: fn(i32, i32) -> i32) -> Result<i32> {
    let first = given.bits(0)?;
    (1..given.args.len()).try_fold(first, |sum, index| Ok(step(sum, given.bits(index)?)))
}

fn shift(given: &Given<'_>, step: fn(i32, u32) -> i32) -> Result<i32> {
    Ok(step(given.bits(0)?, given.bits(1)? as u32 & 31))
}

/// math.random, the same on every machine: drand48, from its well-known start or from a script's seed.
pub fn random(stack: &mut Stack) -> Outcome {
    let unit = f64::from(STATE.with(next) % RANDOM_MAX) / f64::from(RANDOM_MAX);
    for index in 1..=stack.top().min(2) {
        if stack.number(index).is_none() {
            return bad_argument(stack, index, "random", "number");
        }
    }
    let bound = |stack: &Stack, index: usize| f64::from(stack.number(index).unwrap_or_default() as i32);
    let value = match stack.top() {
        0 => unit,
        1 => {
            let high = bound(stack, 1);
            if high < 1.0 {
                return fault(stack, "bad argument #1 to 'random' (interval is empty)");
            }
            (unit * high).floor() + 1.0
        }
        2 => {
            let (low, high) = (bound(stack, 1), bound(stack, 2));
            if low > high {
                return fault(stack, "bad argument #2 to 'random' (interval is empty)");
            }
            (unit * (high - low + 1.0)).floor() + low
        }
        _ => return fault(stack, "wrong number of arguments"),
    };
    stack.push_number(value);
    Outcome::Return(1)
}

/// math.randomseed.
pub fn random_seed(stack: &mut Stack) -> Outcome {
    let seed = if stack.top() == 0 { None } else { stack.number(1) };
    let Some(seed) = seed else { return bad_argument(stack, 1, "randomseed", "number") };
    STATE.set(u64::from(seed as i64 as i32 as u32) << 16 | 0x330e);
    Outcome::Return(0)
}

thread_local! {
    /// Goes on from script to script, whichever interpreter runs it; this is where drand48 begins when nobody has seeded it.
    static STATE: Cell<u64> = const { Cell::new(0x1234_abcd_330e) };
}

const RANDOM_MAX: u32 = i32::MAX as u32;

fn next(state: &Cell<u64>) -> u32 {
    state.set((state.get().wrapping_mul(0x5_deec_e66d) + 0xb) & ((1 << 48) - 1));
    (state.get() >> 17) as u32
}

/// One item of a `struct` format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Integer {
        size: usize,
        signed: bool,
    },
    Float,
    Double,
    /// `c` with a length; 0 = the length of the string itself (pack) or the number before it (unpack).
    Chars(usize),
    /// `s`: up to a zero byte.
    Zero,
    Padding,
}

/// Reads a format (inf.puc-rio.br/~roberto/struct): items with their alignment and byte order.
struct Format<'a> {
    /// Whose format it is.
    function: &'static str,
    text: &'a [u8],
    at: usize,
    little: bool,
    align: usize,
}

impl<'a> Format<'a> {
    fn new(function: &'static str, text: &'a [u8]) -> Self {
        Format { function, text, at: 0, little: true, align: 1 }
    }

    fn number(&mut self) -> Result<Option<usize>> {
        let start = self.at;
        let mut value: usize = 0;
        while let Some(digit) = self.text.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(usize::from(digit - b'0')))
                .filter(|value| *value <= i32::MAX as usize)
                .ok_or_else(|| raise("integral size overflow"))?;
            self.at += 1;
        }
        Ok((self.at > start).then_some(value))
    }

    /// The next item, or nothing at the end.
    fn next(&mut self) -> Result<Option<Item>> {
        while let Some(code) = self.text.get(self.at).copied() {
            self.at += 1;
            let integer = |size, signed| Some(Item::Integer { size, signed });
            let item = match code {
                b'b' => integer(1, true),
                b'B' => integer(1, false),
                b'h' => integer(2, true),
                b'H' => integer(2, false),
                b'l' => integer(8, true),
                b'L' | b'T' => integer(8, false),
                b'i' | b'I' => {
                    let size = self.number()?.unwrap_or(4);
                    if size > 32 {
                        return Err(raise(&format!("integral size {size} is larger than limit of 32")));
                    }
                    integer(size, code == b'i')
                }
                b'f' => Some(Item::Float),
                b'd' => Some(Item::Double),
                b'c' => Some(Item::Chars(self.number()?.unwrap_or(1))),
                b's' => Some(Item::Zero),
                b'x' => Some(Item::Padding),
                b'>' => {
                    self.little = false;
                    None
                }
                b'<' => {
                    self.little = true;
                    None
                }
                b'!' => {
                    let align = self.number()?.unwrap_or(8);
                    if align == 0 || !align.is_power_of_two() {
                        return Err(raise(&format!("alignment {align} is not a power of 2")));
                    }
                    self.align = align;
                    None
                }
                b' ' => None,
                // `size` has no eye for these.
                other if self.function == "size" && other.is_ascii_alphanumeric() => None,
                other => {
                    let text = format!("invalid format option '{}'", char::from(other));
                    return Err(Given { function: self.function, args: &[] }.wrong(1, &text));
                }
            };
            if item.is_some() {
                return Ok(item);
            }
        }
        Ok(None)
    }

    fn padding(&self, item: Item, offset: usize) -> usize {
        let size = match item {
            Item::Integer { size, .. } => size,
            Item::Float => 4,
            Item::Double => 8,
            Item::Chars(_) | Item::Zero | Item::Padding => return 0,
        };
        let align = size.min(self.align);
        if align <= 1 || !align.is_power_of_two() { 0 } else { (align - (offset & (align - 1))) & (align - 1) }
    }
}

fn struct_table(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    let pack = lua.create_function(|lua, args: MultiValue| {
        let bytes = pack(lua, &Given { function: "pack", args: &args.into_vec() })?;
        lua.create_string(bytes)
    })?;
    table.raw_set("pack", pack)?;
    let unpack = lua
        .create_function(|lua, args: MultiValue| unpack(lua, &Given { function: "unpack", args: &args.into_vec() }))?;
    table.raw_set("unpack", unpack)?;
    let size = lua.create_function(|lua, args: MultiValue| {
        let given = Given { function: "size", args: &args.into_vec() };
        struct_size(&given, &given.text(lua, 0, "no value")?.as_bytes())
    })?;
    table.raw_set("size", size)?;
    Ok(table)
}

fn pack(lua: &Lua, given: &Given<'_>) -> Result<Vec<u8>> {
    let text = given.text(lua, 0, "no value")?;
    let text = text.as_bytes();
    let mut format = Format::new("pack", &text);
    let mut index = 0;
    let mut bytes = Vec::new();
    while let Some(item) = format.next()? {
        bytes.resize(bytes.len() + format.padding(item, bytes.len()), 0);
        if item == Item::Padding {
            bytes.push(0);
            continue;
        }
        index += 1;
        match item {
            Item::Integer { size, .. } => {
                let number = given.number(index, "nil")?;
                let wide = i128::from(number as i64).to_le_bytes();
                let fill = if number < 0.0 { 0xff } else { 0 };
                let mut part: Vec<u8> = (0..size).map(|at| wide.get(at).copied().unwrap_or(fill)).collect();
                if !format.little {
                    part.reverse();
                }
                bytes.extend(part);
            }
            Item::Float => push_ordered(&mut bytes, &(given.number(index, "nil")? as f32).to_le_bytes(), format.little),
            Item::Double => push_ordered(&mut bytes, &given.number(index, "nil")?.to_le_bytes(), format.little),
            Item::Chars(_) | Item::Zero => {
                let text = given.text(lua, index, "nil")?;
                let text = text.as_bytes();
                match item {
                    // The reference blames the one behind.
                    Item::Chars(len) if len > text.len() => return Err(given.wrong(index + 2, "string too short")),
                    Item::Chars(0) => bytes.extend_from_slice(&text),
                    Item::Chars(len) => bytes.extend_from_slice(&text[..len]),
                    _ => {
                        bytes.extend_from_slice(&text);
                        bytes.push(0);
                    }
                }
            }
            Item::Padding => {}
        }
    }
    Ok(bytes)
}

fn push_ordered(bytes: &mut Vec<u8>, little: &[u8], is_little: bool) {
    if is_little { bytes.extend_from_slice(little) } else { bytes.extend(little.iter().rev()) }
}

fn unpack(lua: &Lua, given: &Given<'_>) -> Result<MultiValue> {
    let (text, data) = (given.text(lua, 0, "no value")?, given.text(lua, 1, "no value")?);
    let (text, data) = (text.as_bytes(), data.as_bytes());
    let too_short = || given.wrong(2, "data string too short");
    let mut at = match given.args.get(2) {
        None | Some(Value::Nil) => 0,
        Some(_) => match given.number(2, "no value")? as i64 {
            0 => return Err(given.wrong(3, "offset must be 1 or greater")),
            // Below zero lies behind everything.
            start => usize::try_from(start - 1).unwrap_or(usize::MAX),
        },
    };
    let mut format = Format::new("unpack", &text);
    let mut values: Vec<Value> = Vec::new();
    while let Some(item) = format.next()? {
        at = at.saturating_add(format.padding(item, at));
        let rest = data.get(at..).ok_or_else(too_short)?;
        let mut take = |len: usize| -> Result<&[u8]> {
            at = at.saturating_add(len);
            rest.get(..len).ok_or_else(too_short)
        };
        match item {
            Item::Padding => drop(take(1)?),
            Item::Integer { size, signed } => {
                values.push(Value::Number(integer_of(take(size)?, signed, format.little)))
            }
            Item::Float => values.push(Value::Number(f64::from(f32::from_le_bytes(ordered(take(4)?, format.little))))),
            Item::Double => values.push(Value::Number(f64::from_le_bytes(ordered(take(8)?, format.little)))),
            Item::Chars(len) => {
                let len = match (len, values.last()) {
                    (0, Some(Value::Number(count))) if *count >= 0.0 => {
                        let count = *count as usize;
                        values.pop();
                        count
                    }
                    (0, _) => return Err(raise("format 'c0' needs a previous size")),
                    (len, _) => len,
                };
                values.push(Value::String(lua.create_string(take(len)?)?));
            }
            Item::Zero => {
                let len = rest.iter().position(|byte| *byte == 0).ok_or_else(|| raise("unfinished string in data"))?;
                let text = &take(len + 1)?[..len];
                values.push(Value::String(lua.create_string(text)?));
            }
        }
    }
    values.push(Value::Number(at as f64 + 1.0));
    Ok(MultiValue::from_vec(values))
}

fn ordered<const N: usize>(bytes: &[u8], is_little: bool) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    if !is_little {
        array.reverse();
    }
    array
}

fn integer_of(bytes: &[u8], signed: bool, is_little: bool) -> f64 {
    let byte = |index: usize| if is_little { bytes[index] } else { bytes[bytes.len() - 1 - index] };
    let value = (0..bytes.len().min(8)).fold(0u64, |sum, index| sum | u64::from(byte(index)) << (8 * index));
    if !signed || bytes.is_empty() {
        return value as f64;
    }
    let bits = 64 - 8 * bytes.len().min(8) as u32;
    ((value << bits) as i64 >> bits) as f64
}

fn struct_size(given: &Given<'_>, text: &[u8]) -> Result<usize> {
    let mut format = Format::new("size", text);
    let mut size = 0;
    while let Some(item) = format.next()? {
        size += format.padding(item, size);
        size += match item {
            Item::Integer { size, .. } => size,
            Item::Float => 4,
            Item::Double => 8,
            Item::Chars(0) => return Err(given.wrong(1, "option 'c0' has no fixed size")),
            Item::Zero => return Err(given.wrong(1, "option 's' has no fixed size")),
            Item::Chars(len) => len,
            Item::Padding => 1,
        };
    }
    Ok(size)
}
