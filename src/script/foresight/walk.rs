//! The walk through the compiled functions of a script, with what is known of each register.
//!
//! What is known of a value only ever becomes less where two paths meet, so the walk ends. Three values must stay in sight: the
//! table KEYS, the table `redis`, and its `call`. They may move between registers and be used as what they are; wherever else they
//! go (into a table, to a function, into a variable that an inner function shares) the walk ends with "no".

use super::{Word, Words};
use crate::engine::lua::bytecode::{Constant, Instruction, Operand, Operation, Proto};

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    /// None of those that must stay in sight.
    Plain,
    Known(&'a [u8]),
    /// One of the declared keys, or nil.
    Key,
    /// `unpack`, and `ipairs` or `pairs`.
    Unpack,
    Iterate,
    /// What `ipairs(KEYS)` goes on with.
    NextKey,
    Keys,
    Redis,
    Call,
    /// Perhaps one of the last three.
    Unclear,
}

impl<'a> Value<'a> {
    fn must_stay_in_sight(self) -> bool {
        matches!(self, Value::Keys | Value::Redis | Value::Call | Value::Unclear)
    }

    /// What is known if it may be either.
    fn or(self, other: Value<'a>) -> Value<'a> {
        if self == other {
            self
        } else if self.must_stay_in_sight() || other.must_stay_in_sight() {
            Value::Unclear
        } else {
            Value::Plain
        }
    }

    fn word(self) -> Word<'a> {
        match self {
            Value::Known(text) => Word::Known(text),
            Value::Key => Word::Key,
            _ => Word::Other,
        }
    }
}

/// Nobody can tell what the script touches.
struct Unseen;

/// What is known before an instruction.
#[derive(Clone, PartialEq)]
struct State<'a> {
    registers: Vec<Value<'a>>,
    /// Registers whose variable an inner function shares: it may change at any call.
    shared: Vec<bool>,
    /// The last call has left any number of values, from a register on.
    open: Option<(usize, Value<'a>)>,
}

impl<'a> State<'a> {
    /// Nothing is known of what `register` holds from here on, nor of those behind: a call has used them.
    fn forget_from(&mut self, register: usize) {
        self.registers.iter_mut().skip(register).for_each(|value| *value = Value::Plain);
    }

    fn or(&self, other: &State<'a>) -> State<'a> {
        State {
            registers: self.registers.iter().zip(&other.registers).map(|(one, other)| one.or(*other)).collect(),
            shared: self.shared.iter().zip(&other.shared).map(|(one, other)| *one || *other).collect(),
            open: self.open.filter(|open| other.open == Some(*open)),
        }
    }
}

/// Whether every call that the function and those inside it can make is one that `is_harmless` lets pass.
pub fn is_harmless(script: &Proto, is_harmless: &dyn Fn(&Words<'_>) -> bool) -> bool {
    let mut functions = vec![script];
    let mut steps_left = STEPS_MAX;
    while let Some(proto) = functions.pop() {
        let walk = Walk { proto, names: names_of(proto), is_main: std::ptr::eq(proto, script), is_harmless };
        if walk.go(&mut steps_left).is_err() {
            return false;
        }
        functions.extend(&proto.inner);
    }
    true
}

/// Instructions looked at before the answer is no: scripts are short, and most instructions are seen twice.
const STEPS_MAX: usize = 20_000;

/// The constants as words of a command.
fn names_of(proto: &Proto) -> Vec<Option<Vec<u8>>> {
    let text = |constant: &Constant| match constant {
        Constant::Text(text) => Some(text.clone()),
        Constant::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
            Some((*number as i64).to_string().into_bytes())
        }
        Constant::Number(_) | Constant::Nil | Constant::Boolean => None,
    };
    proto.constants.iter().map(text).collect()
}

struct Walk<'a> {
    proto: &'a Proto,
    names: Vec<Option<Vec<u8>>>,
    /// The script itself: what it returns goes to the client.
    is_main: bool,
    is_harmless: &'a dyn Fn(&Words<'_>) -> bool,
}

type Seen<T = ()> = Result<T, Unseen>;

impl Walk<'_> {
    fn go(&self, steps_left: &mut usize) -> Seen {
        let size = self.proto.registers;
        let start = State { registers: vec![Value::Plain; size], shared: vec![false; size], open: None };
        let mut known: Vec<Option<State<'_>>> = vec![None; self.proto.code.len()];
        let mut ahead = vec![(0, start)];
        while let Some((at, state)) = ahead.pop() {
            let before = known.get_mut(at).ok_or(Unseen)?;
            let joined = before.as_ref().map_or_else(|| state.clone(), |before| before.or(&state));
            if before.as_ref() == Some(&joined) {
                continue;
            }
            *steps_left = steps_left.checked_sub(1).ok_or(Unseen)?;
            *before = Some(joined.clone());
            self.step(at, joined, &mut ahead)?;
        }
        Ok(())
    }

    /// One instruction: what is known behind it, for each place where it may go on.
    fn step<'a>(&'a self, at: usize, mut state: State<'a>, ahead: &mut Vec<(usize, State<'a>)>) -> Seen {
        use Operation::*;
        let instruction = self.proto.code[at];
        let (a, b, c) = (instruction.a(), instruction.b(), instruction.c());
        let next = at + 1;
        match instruction.operation().ok_or(Unseen)? {
            Move => {
                let value = self.register(&state, b)?;
                set(&mut state, a, value)?;
            }
            LoadConstant => {
                let value = self.constant(instruction.bx())?;
                set(&mut state, a, value)?;
            }
            LoadBoolean => {
                set(&mut state, a, Value::Plain)?;
                if c != 0 {
                    ahead.push((next + 1, state));
                    return Ok(());
                }
            }
            LoadNil => {
                for register in a..=b {
                    set(&mut state, register, Value::Plain)?;
                }
            }
            // Nothing that must stay in sight gets into a variable of an outer function.
            ReadUpvalue | NewTable => set(&mut state, a, Value::Plain)?,
            ReadGlobal => {
                let value = self.global(instruction.bx())?;
                set(&mut state, a, value)?;
            }
            ReadTable | Method => {
                let table = self.register(&state, b)?;
                let value = read_table(table, self.operand(&state, instruction.operand_c())?)?;
                if instruction.operation() == Some(Method) {
                    set(&mut state, a + 1, table)?;
                }
                set(&mut state, a, value)?;
            }
            WriteGlobal | WriteUpvalue => stay(self.register(&state, a)?)?,
            WriteTable => {
                stay(self.register(&state, a)?)?;
                stay(self.operand(&state, instruction.operand_b())?)?;
                stay(self.operand(&state, instruction.operand_c())?)?;
            }
            // At worst errors: none of the three has such a metamethod.
            Add | Subtract | Multiply | Divide | Modulo | Power | Negate | Not | Length | Concatenate => {
                set(&mut state, a, Value::Plain)?;
            }
            Jump => {
                ahead.push((self.target(next, instruction)?, state));
                return Ok(());
            }
            Equal | Less | LessOrEqual | Test => ahead.push((next + 1, state.clone())),
            TestAndSet => {
                ahead.push((next + 1, state.clone()));
                let value = self.register(&state, b)?;
                set(&mut state, a, value)?;
            }
            Call => self.call(&mut state, instruction, c)?,
            // What it leaves is returned.
            TailCall => self.call(&mut state, instruction, 0)?,
            Return => {
                if !self.is_main {
                    self.leave(&state, a, b)?;
                }
                return Ok(());
            }
            ForLoop => {
                let mut inside = state.clone();
                set(&mut inside, a, Value::Plain)?;
                set(&mut inside, a + 3, Value::Plain)?;
                ahead.push((self.target(next, instruction)?, inside));
            }
            ForPrepare => {
                set(&mut state, a, Value::Plain)?;
                ahead.push((self.target(next, instruction)?, state));
                return Ok(());
            }
            ForEach => {
                let iterator = self.register(&state, a)?;
                let over = self.register(&state, a + 1)?;
                stay(iterator)?;
                if over == Value::Keys && iterator != Value::NextKey {
                    return Err(Unseen);
                }
                if over != Value::Keys {
                    stay(over)?;
                }
                ahead.push((next + 1, state.clone()));
                for variable in 0..c {
                    let is_key = over == Value::Keys && variable == 1;
                    set(&mut state, a + 3 + variable, if is_key { Value::Key } else { Value::Plain })?;
                }
                set(&mut state, a + 2, Value::Plain)?;
            }
            WriteList => {
                stay(self.register(&state, a)?)?;
                let count = if b == 0 { 0 } else { b + 1 };
                self.leave(&state, a + 1, count)?;
                state.open = None;
                if c == 0 {
                    // The next instruction is a number.
                    ahead.push((next + 1, state));
                    return Ok(());
                }
            }
            Close => state.shared.iter_mut().skip(a).for_each(|shared| *shared = false),
            Closure => {
                let inner = self.proto.inner.get(instruction.bx()).ok_or(Unseen)?;
                for capture in self.proto.code.get(next..next + inner.upvalues).ok_or(Unseen)? {
                    if capture.operation() == Some(Move) {
                        stay(self.register(&state, capture.b())?)?;
                        state.registers[capture.b()] = Value::Plain;
                        state.shared[capture.b()] = true;
                    }
                }
                set(&mut state, a, Value::Plain)?;
                ahead.push((next + inner.upvalues, state));
                return Ok(());
            }
            Varargs => {
                if b == 0 {
                    state.forget_from(a);
                    state.open = Some((a, Value::Plain));
                } else {
                    for register in a..a + b - 1 {
                        set(&mut state, register, Value::Plain)?;
                    }
                }
            }
        }
        ahead.push((next, state));
        Ok(())
    }

    /// A call leaves `results - 1` values, or any number.
    fn call<'a>(&'a self, state: &mut State<'a>, instruction: Instruction, results: usize) -> Seen {
        let a = instruction.a();
        let callee = self.register(state, a)?;
        let (args, open) = self.values(state, a + 1, instruction.b())?;
        let gets_keys = args.first() == Some(&Value::Keys);
        let mut rest = args.get(1..).unwrap_or_default().iter().chain(&open).copied();
        let (mut first, mut others) = (Value::Plain, Value::Plain);
        match callee {
            Value::Call => {
                let words = Words { fixed: args.iter().map(|arg| arg.word()).collect(), open: open.map(Value::word) };
                if !(self.is_harmless)(&words) {
                    return Err(Unseen);
                }
            }
            Value::Unpack if gets_keys => {
                rest.try_for_each(stay)?;
                (first, others) = (Value::Key, Value::Key);
            }
            Value::Iterate if gets_keys && results == 4 => (first, others) = (Value::NextKey, Value::Keys),
            Value::Plain | Value::Known(_) | Value::Key | Value::Unpack | Value::Iterate | Value::NextKey => {
                args.iter().chain(&open).copied().try_for_each(stay)?;
            }
            Value::Keys | Value::Redis | Value::Unclear => return Err(Unseen),
        }
        state.forget_from(a);
        state.open = (results == 0).then_some((a, first));
        for register in a..(a + results).saturating_sub(1) {
            set(state, register, if register == a { first } else { others })?;
        }
        if others == Value::Keys {
            // The third is the count.
            set(state, a + 2, Value::Plain)?;
        }
        Ok(())
    }

    /// `field - 1` values from a register on; with 0, all that there are up to the end of an open list.
    fn values<'a>(&self, state: &State<'a>, first: usize, field: usize) -> Seen<(Vec<Value<'a>>, Option<Value<'a>>)> {
        let (end, open) = match field.checked_sub(1) {
            Some(count) => (first + count, None),
            None => state.open.map(|(start, value)| (start, Some(value))).ok_or(Unseen)?,
        };
        Ok((state.registers.get(first..end).ok_or(Unseen)?.to_vec(), open))
    }

    /// Such values go where they are not followed any more.
    fn leave(&self, state: &State<'_>, first: usize, field: usize) -> Seen {
        let (fixed, open) = self.values(state, first, field)?;
        fixed.into_iter().chain(open).try_for_each(stay)
    }

    fn register<'a>(&self, state: &State<'a>, register: usize) -> Seen<Value<'a>> {
        state.registers.get(register).copied().ok_or(Unseen)
    }

    fn constant(&self, index: usize) -> Seen<Value<'_>> {
        let name = self.names.get(index).ok_or(Unseen)?;
        Ok(name.as_deref().map_or(Value::Plain, Value::Known))
    }

    fn operand<'a>(&'a self, state: &State<'a>, operand: Operand) -> Seen<Value<'a>> {
        match operand {
            Operand::Register(register) => self.register(state, register),
            Operand::Constant(index) => self.constant(index),
        }
    }

    fn global(&self, index: usize) -> Seen<Value<'_>> {
        let Value::Known(name) = self.constant(index)? else { return Err(Unseen) };
        match name {
            b"KEYS" => Ok(Value::Keys),
            b"redis" => Ok(Value::Redis),
            b"unpack" => Ok(Value::Unpack),
            b"ipairs" | b"pairs" => Ok(Value::Iterate),
            name if PLAIN_GLOBALS.iter().any(|plain| plain.as_bytes() == name) => Ok(Value::Plain),
            // Environments and code made at run time, and names that nobody has set.
            _ => Err(Unseen),
        }
    }

    fn target(&self, next: usize, instruction: Instruction) -> Seen<usize> {
        next.checked_add_signed(instruction.offset()).ok_or(Unseen)
    }
}

const PLAIN_GLOBALS: &[&str] = &[
    "ARGV",
    "_VERSION",
    "assert",
    "bit",
    "cjson",
    "cmsgpack",
    "collectgarbage",
    "coroutine",
    "error",
    "gcinfo",
    "getmetatable",
    "math",
    "next",
    "os",
    "pcall",
    "rawequal",
    "rawget",
    "rawset",
    "select",
    "setmetatable",
    "string",
    "struct",
    "table",
    "tonumber",
    "tostring",
    "type",
    "xpcall",
];

/// What a table holds under a name.
fn read_table<'a>(table: Value<'a>, name: Value<'a>) -> Seen<Value<'a>> {
    match table {
        Value::Keys => Ok(Value::Key),
        Value::Redis => match name {
            Value::Known(b"call" | b"pcall") => Ok(Value::Call),
            Value::Known(_) => Ok(Value::Plain),
            _ => Err(Unseen),
        },
        Value::Unclear => Err(Unseen),
        // `call` is no table: an error.
        _ => Ok(Value::Plain),
    }
}

fn set<'a>(state: &mut State<'a>, register: usize, value: Value<'a>) -> Seen {
    let shared = *state.shared.get(register).ok_or(Unseen)?;
    if shared {
        stay(value)?;
    }
    state.registers[register] = if shared { Value::Plain } else { value };
    Ok(())
}

/// A value goes where it is not followed any more.
fn stay(value: Value<'_>) -> Seen {
    if value.must_stay_in_sight() { Err(Unseen) } else { Ok(()) }
}
