//! `bit`, `struct` and the random numbers of `math`, as Redis's scripts know them.

use super::api::{bad_argument, fault, guard_all, library_fault as raise};
use crate::engine::lua::{self, Outcome, Question, Stack};
use mlua::{Function, Lua, MultiValue, Result, Table, Value};
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
        .unwrap_or_else(|| fault(stack, &format!("math.{name} can only be called inside a script invocation")))
}

/// A number as 32 bits, the way the BitOp library normalizes it: rounded, then modulo 2^32.
fn to_bits(value: &Value) -> Result<i32> {
    let number = match value {
        Value::Integer(value) => *value as f64,
        Value::Number(value) => *value,
        Value::String(text) => text.to_string_lossy().trim().parse().map_err(|_| not_a_number())?,
        _ => return Err(not_a_number()),
    };
    Ok(number.round_ties_even().rem_euclid(4_294_967_296.0) as u32 as i32)
}

fn not_a_number() -> mlua::Error {
    raise("bad argument (number expected)")
}

fn bit_table(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    let fold = |start: Option<i32>, step: fn(i32, i32) -> i32| -> Result<Function> {
        lua.create_function(move |_, args: MultiValue| {
            let bits = args.iter().map(to_bits).collect::<Result<Vec<i32>>>()?;
            let first = bits.first().copied().or(start).ok_or_else(not_a_number)?;
            Ok(f64::from(bits.iter().skip(1).fold(first, |sum, bits| step(sum, *bits))))
        })
    };
    table.raw_set("band", fold(None, |a, b| a & b)?)?;
    table.raw_set("bor", fold(None, |a, b| a | b)?)?;
    table.raw_set("bxor", fold(None, |a, b| a ^ b)?)?;
    let unary =
        |step: fn(i32) -> i32| lua.create_function(move |_, value: Value| Ok(f64::from(step(to_bits(&value)?))));
    table.raw_set("tobit", unary(|a| a)?)?;
    table.raw_set("bnot", unary(|a| !a)?)?;
    table.raw_set("bswap", unary(i32::swap_bytes)?)?;
    let shift = |step: fn(i32, u32) -> i32| {
        lua.create_function(move |_, (value, by): (Value, Value)| {
            Ok(f64::from(step(to_bits(&value)?, to_bits(&by)? as u32 & 31)))
        })
    };
    table.raw_set("lshift", shift(|a, n| a << n)?)?;
    table.raw_set("rshift", shift(|a, n| (a as u32 >> n) as i32)?)?;
    table.raw_set("arshift", shift(|a, n| a >> n)?)?;
    table.raw_set("rol", shift(i32::rotate_left)?)?;
    table.raw_set("ror", shift(i32::rotate_right)?)?;
    table.raw_set(
        "tohex",
        lua.create_function(|_, (value, digits): (Value, Option<Value>)| {
            let digits = digits.as_ref().map_or(Ok(8), to_bits)?;
            let width = digits.unsigned_abs().min(8) as usize;
            let text =
                if digits < 0 { format!("{:08X}", to_bits(&value)?) } else { format!("{:08x}", to_bits(&value)?) };
            Ok(text[8 - width..].to_owned())
        })?,
    )?;
    Ok(table)
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
    text: &'a [u8],
    at: usize,
    little: bool,
    align: usize,
}

impl<'a> Format<'a> {
    fn new(text: &'a [u8]) -> Self {
        Format { text, at: 0, little: true, align: 1 }
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
                    if size == 0 || size > 32 {
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
                b'<' | b'=' => {
                    self.little = true;
                    None
                }
                b'!' => {
                    let align = self.number()?.unwrap_or(8);
                    if align == 0 || !align.is_power_of_two() {
                        return Err(raise("alignment is not a power of 2"));
                    }
                    self.align = align;
                    None
                }
                b' ' => None,
                other => return Err(raise(&format!("invalid format option '{}'", char::from(other)))),
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
    table.raw_set("pack", lua.create_function(|lua, args: MultiValue| lua.create_string(pack(&args.into_vec())?))?)?;
    table.raw_set("unpack", lua.create_function(|lua, args: MultiValue| unpack(lua, &args.into_vec()))?)?;
    table.raw_set("size", lua.create_function(|_, format: mlua::LuaString| struct_size(&format.as_bytes()))?)?;
    Ok(table)
}

fn pack(args: &[Value]) -> Result<Vec<u8>> {
    let Some(Value::String(text)) = args.first() else {
        return Err(raise("bad argument #1 to 'pack' (string expected)"));
    };
    let text = text.as_bytes();
    let mut format = Format::new(&text);
    let mut values = args[1..].iter();
    let mut bytes = Vec::new();
    while let Some(item) = format.next()? {
        bytes.resize(bytes.len() + format.padding(item, bytes.len()), 0);
        if item == Item::Padding {
            bytes.push(0);
            continue;
        }
        let value = values.next().ok_or_else(|| raise("bad argument to 'pack' (no value)"))?;
        match item {
            Item::Integer { size, .. } => {
                let number = number_of(value)?;
                let wide = i128::from(number as i64).to_le_bytes();
                let fill = if number < 0.0 { 0xff } else { 0 };
                let mut part: Vec<u8> = (0..size).map(|index| wide.get(index).copied().unwrap_or(fill)).collect();
                if !format.little {
                    part.reverse();
                }
                bytes.extend(part);
            }
            Item::Float => push_ordered(&mut bytes, &(number_of(value)? as f32).to_le_bytes(), format.little),
            Item::Double => push_ordered(&mut bytes, &number_of(value)?.to_le_bytes(), format.little),
            Item::Chars(_) | Item::Zero => {
                let Value::String(text) = value else { return Err(raise("bad argument to 'pack' (string expected)")) };
                let text = text.as_bytes();
                match item {
                    Item::Chars(len) if len > text.len() => return Err(raise("string too short")),
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

fn unpack(lua: &Lua, args: &[Value]) -> Result<MultiValue> {
    let (Some(Value::String(text)), Some(Value::String(data))) = (args.first(), args.get(1)) else {
        return Err(raise("bad argument to 'unpack' (string expected)"));
    };
    let (text, data) = (text.as_bytes(), data.as_bytes());
    let mut at = match args.get(2) {
        None => 0,
        Some(value) => {
            let start = number_of(value)?;
            if start < 1.0 {
                return Err(raise("offset must be 1 or greater"));
            }
            start as usize - 1
        }
    };
    let mut format = Format::new(&text);
    let mut values: Vec<Value> = Vec::new();
    while let Some(item) = format.next()? {
        at = at.saturating_add(format.padding(item, at));
        let rest = data.get(at..).ok_or_else(|| raise("data string too short"))?;
        let mut take = |len: usize| -> Result<&[u8]> {
            at += len;
            rest.get(..len).ok_or_else(|| raise("data string too short"))
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
    if !signed {
        return value as f64;
    }
    let bits = 64 - 8 * bytes.len().min(8) as u32;
    ((value << bits) as i64 >> bits) as f64
}

fn struct_size(text: &[u8]) -> Result<usize> {
    let mut format = Format::new(text);
    let mut size = 0;
    while let Some(item) = format.next()? {
        size += format.padding(item, size);
        size += match item {
            Item::Integer { size, .. } => size,
            Item::Float => 4,
            Item::Double => 8,
            Item::Chars(0) | Item::Zero => return Err(raise("variable-size format in 'size'")),
            Item::Chars(len) => len,
            Item::Padding => 1,
        };
    }
    Ok(size)
}

fn number_of(value: &Value) -> Result<f64> {
    match value {
        Value::Integer(value) => Ok(*value as f64),
        Value::Number(value) => Ok(*value),
        Value::String(text) => text.to_string_lossy().trim().parse().map_err(|_| not_a_number()),
        _ => Err(not_a_number()),
    }
}
