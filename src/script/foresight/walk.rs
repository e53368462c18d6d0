//! The walk through the compiled functions of a script, with what is known of each register.
//!
//! What is known of a value only ever becomes less where two paths meet, so the walk ends. Three values must stay in sight: the
//! table KEYS, the table `redis`, and its `call`. They may move between variables, be passed to functions of the script and be used
//! as what they are; wherever else they go (into a table, to another function) the walk ends with "no".

use super::Words;
use super::facts::{Facts, Function, Variable, functions_of};
use super::value::Value;
use crate::engine::lua::bytecode::{Instruction, Operand, Operation, Proto};

/// Nobody can tell what the script touches.
pub struct Unseen;

pub type Seen<T = ()> = Result<T, Unseen>;

/// What is known before an instruction.
#[derive(Clone, PartialEq)]
struct State<'a> {
    registers: Vec<Value<'a>>,
    /// Registers whose variable an inner function shares: it may change at any call. A bit each.
    shared: [u128; 2],
    /// The last call has left any number of values, from a register on.
    open: Option<(usize, Value<'a>)>,
}

impl<'a> State<'a> {
    /// Nothing is known of what `register` holds from here on, nor of those behind: a call has used them.
    fn forget_from(&mut self, register: usize) {
        self.registers.iter_mut().skip(register).for_each(|value| *value = Value::Plain);
    }

    fn or(&self, other: &State<'a>, facts: &mut Facts<'a>) -> State<'a> {
        State {
            registers: self
                .registers
                .iter()
                .zip(&other.registers)
                .map(|(one, other)| facts.join(*one, *other))
                .collect(),
            shared: [self.shared[0] | other.shared[0], self.shared[1] | other.shared[1]],
            open: self.open.filter(|open| other.open == Some(*open)),
        }
    }

    fn is_shared(&self, register: usize) -> bool {
        self.shared[register / 128] >> (register % 128) & 1 == 1
    }

    /// Nobody shares this register and those behind any more.
    fn unshare_from(&mut self, register: usize) {
        for (index, word) in self.shared.iter_mut().enumerate() {
            let kept = register.saturating_sub(128 * index);
            *word &= if kept < 128 { (1 << kept) - 1 } else { u128::MAX };
        }
    }
}

/// A place in a function, and what is known there.
type Here<'a> = (usize, State<'a>);

/// Whether every call that a script and the functions inside it can make is one that `is_harmless` lets pass.
pub fn is_harmless(script: &Proto, is_harmless: &dyn Fn(&Words<'_>) -> bool) -> bool {
    let functions = functions_of(script);
    let mut facts = Facts::new(&functions);
    let mut steps_left = STEPS_MAX;
    loop {
        for (index, function) in functions.iter().enumerate() {
            // What nobody has called yet is looked at when somebody does.
            if index > 0 && !facts.is_called(index) {
                continue;
            }
            let walk = Walk { function, index, is_harmless };
            if walk.go(&mut facts, &mut steps_left).is_err() {
                return false;
            }
        }
        if !facts.take_changed() {
            return true;
        }
    }
}

/// Instructions looked at before the answer is no: scripts are short, and most instructions are seen a few times.
const STEPS_MAX: usize = 40_000;

struct Walk<'s> {
    function: &'s Function<'s>,
    /// Its place among all; the first is the script itself, and what that returns goes to the client.
    index: usize,
    is_harmless: &'s dyn Fn(&Words<'_>) -> bool,
}

impl<'s> Walk<'s> {
    fn go(&self, facts: &mut Facts<'s>, steps_left: &mut usize) -> Seen {
        let proto = self.function.proto;
        // Lua clears the registers behind the parameters.
        let mut registers: Vec<_> = facts.parameters(self.index).collect();
        registers.resize(proto.registers.max(registers.len()), Value::Nil);
        let start = State { registers, shared: [0; 2], open: None };
        // Only where paths meet is it remembered what was known: every circle has such a place.
        let meets = self.meeting_places();
        let mut known: Vec<Option<State<'_>>> = vec![None; proto.code.len()];
        let mut ahead = vec![(0, start)];
        while let Some(mut here) = ahead.pop() {
            loop {
                let (at, mut state) = here;
                if *meets.get(at).ok_or(Unseen)? {
                    if let Some(before) = &known[at] {
                        state = before.or(&state, facts);
                    }
                    if known[at].as_ref() == Some(&state) {
                        break;
                    }
                    known[at] = Some(state.clone());
                }
                *steps_left = steps_left.checked_sub(1).ok_or(Unseen)?;
                match self.step(at, state, facts, &mut ahead)? {
                    Some(next) => here = next,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Where instructions other than the one before may go on.
    fn meeting_places(&self) -> Vec<bool> {
        use Operation::*;
        let code = &self.function.proto.code;
        let mut meets = vec![false; code.len()];
        for (at, instruction) in code.iter().enumerate() {
            let target = match instruction.operation() {
                Some(Jump | ForLoop | ForPrepare) => self.target(at + 1, *instruction).ok(),
                Some(Equal | Less | LessOrEqual | Test | TestAndSet | ForEach | LoadBoolean) => Some(at + 2),
                _ => None,
            };
            if let Some(meets) = target.and_then(|target| meets.get_mut(target)) {
                *meets = true;
            }
        }
        meets
    }

    /// One instruction: where it goes on and what is known there; if it may also go elsewhere, that comes to what is still ahead.
    fn step(
        &self,
        at: usize,
        mut state: State<'s>,
        facts: &mut Facts<'s>,
        ahead: &mut Vec<Here<'s>>,
    ) -> Seen<Option<Here<'s>>> {
        use Operation::*;
        let instruction = self.function.proto.code[at];
        let (a, b, c) = (instruction.a(), instruction.b(), instruction.c());
        let next = at + 1;
        match instruction.operation().ok_or(Unseen)? {
            Move => {
                let value = self.register(&state, facts, b)?;
                self.set(&mut state, facts, a, value)?;
            }
            LoadConstant => {
                let value = self.constant(instruction.bx())?;
                self.set(&mut state, facts, a, value)?;
            }
            LoadBoolean => {
                self.set(&mut state, facts, a, Value::Plain)?;
                if c != 0 {
                    return Ok(Some((next + 1, state)));
                }
            }
            LoadNil => {
                for register in a..=b {
                    self.set(&mut state, facts, register, Value::Nil)?;
                }
            }
            NewTable => self.set(&mut state, facts, a, Value::Plain)?,
            ReadUpvalue => {
                let value = facts.shared(facts.variable(self.index, b)?).ok_or(Unseen)?;
                self.set(&mut state, facts, a, value)?;
            }
            WriteUpvalue => {
                let value = self.register(&state, facts, a)?;
                facts.share(facts.variable(self.index, b)?, value)?;
            }
            ReadGlobal => {
                let value = self.global(instruction.bx())?;
                self.set(&mut state, facts, a, value)?;
            }
            WriteGlobal => {
                let value = self.register(&state, facts, a)?;
                facts.lose(value)?;
            }
            ReadTable | Method => {
                let table = self.register(&state, facts, b)?;
                let name = self.operand(&state, facts, instruction.operand_c())?;
                let value = read_table(table, name)?;
                if !matches!(table, Value::Keys | Value::Redis) {
                    // A table of the script's own may have a function that gets both.
                    facts.lose(table)?;
                    facts.lose(name)?;
                }
                if instruction.operation() == Some(Method) {
                    self.set(&mut state, facts, a + 1, table)?;
                }
                self.set(&mut state, facts, a, value)?;
            }
            WriteTable => {
                let table = self.register(&state, facts, a)?;
                facts.lose(table)?;
                for operand in [instruction.operand_b(), instruction.operand_c()] {
                    let value = self.operand(&state, facts, operand)?;
                    facts.lose(value)?;
                }
            }
            // The other side may be of a kind whose arithmetic is a function of the script.
            Add | Subtract | Multiply | Divide | Modulo | Power => {
                for operand in [instruction.operand_b(), instruction.operand_c()] {
                    let value = self.operand(&state, facts, operand)?;
                    facts.lose(value)?;
                }
                self.set(&mut state, facts, a, Value::Plain)?;
            }
            Concatenate => {
                for register in b..=c {
                    let value = self.register(&state, facts, register)?;
                    facts.lose(value)?;
                }
                self.set(&mut state, facts, a, Value::Plain)?;
            }
            // At worst errors: none of those that must stay in sight has such a function.
            Negate | Not | Length => self.set(&mut state, facts, a, Value::Plain)?,
            Jump => {
                return Ok(Some((self.target(next, instruction)?, state)));
            }
            Equal | Less | LessOrEqual | Test => ahead.push((next + 1, state.clone())),
            TestAndSet => {
                ahead.push((next + 1, state.clone()));
                let value = self.register(&state, facts, b)?;
                self.set(&mut state, facts, a, value)?;
            }
            Call => self.call(&mut state, facts, instruction, c)?,
            // What it leaves is returned.
            TailCall => self.call(&mut state, facts, instruction, 0)?,
            Return => {
                if self.index > 0 {
                    self.leave(&state, facts, a, b)?;
                }
                return Ok(None);
            }
            ForLoop => {
                let mut inside = state.clone();
                self.set(&mut inside, facts, a, Value::Plain)?;
                self.set(&mut inside, facts, a + 3, Value::Plain)?;
                ahead.push((self.target(next, instruction)?, inside));
            }
            ForPrepare => {
                self.set(&mut state, facts, a, Value::Plain)?;
                return Ok(Some((self.target(next, instruction)?, state)));
            }
            ForEach => {
                let iterator = self.register(&state, facts, a)?;
                let over = self.register(&state, facts, a + 1)?;
                let last = self.register(&state, facts, a + 2)?;
                facts.lose(iterator)?;
                facts.lose(last)?;
                if over == Value::Keys && iterator != Value::NextKey {
                    return Err(Unseen);
                }
                if over != Value::Keys {
                    facts.lose(over)?;
                }
                ahead.push((next + 1, state.clone()));
                for variable in 0..c {
                    let is_key = over == Value::Keys && variable == 1;
                    let value = if is_key { Value::Key } else { Value::Plain };
                    self.set(&mut state, facts, a + 3 + variable, value)?;
                }
                self.set(&mut state, facts, a + 2, Value::Plain)?;
            }
            WriteList => {
                let table = self.register(&state, facts, a)?;
                facts.lose(table)?;
                let count = if b == 0 { 0 } else { b + 1 };
                self.leave(&state, facts, a + 1, count)?;
                state.open = None;
                if c == 0 {
                    // The next instruction is a number.
                    return Ok(Some((next + 1, state)));
                }
            }
            Close => state.unshare_from(a),
            Closure => return self.make_closure(next, instruction, state, facts).map(Some),
            Varargs => {
                if b == 0 {
                    state.forget_from(a);
                    state.open = Some((a, Value::Plain));
                } else {
                    for register in a..a + b - 1 {
                        self.set(&mut state, facts, register, Value::Plain)?;
                    }
                }
            }
        }
        Ok(Some((next, state)))
    }

    /// The instructions behind say which variables it takes along.
    fn make_closure(
        &self,
        next: usize,
        instruction: Instruction,
        mut state: State<'s>,
        facts: &mut Facts<'s>,
    ) -> Seen<Here<'s>> {
        let inner = *self.function.inner.get(instruction.bx()).ok_or(Unseen)?;
        let upvalues = self.function.proto.inner.get(instruction.bx()).ok_or(Unseen)?.upvalues;
        let captures = self.function.proto.code.get(next..next + upvalues).ok_or(Unseen)?;
        for (upvalue, capture) in captures.iter().enumerate() {
            let variable = match capture.operation() {
                Some(Operation::Move) => Variable { function: self.index, register: capture.b() },
                Some(Operation::ReadUpvalue) => facts.variable(self.index, capture.b())?,
                _ => return Err(Unseen),
            };
            if capture.operation() == Some(Operation::Move) {
                let value = self.register(&state, facts, capture.b())?;
                // What a function that knows itself is put into has held before is seen by nobody.
                if capture.b() != instruction.a() {
                    facts.share(variable, value)?;
                }
                state.shared[capture.b() / 128] |= 1 << (capture.b() % 128);
            }
            facts.bind(inner, upvalue, variable)?;
        }
        self.set(&mut state, facts, instruction.a(), Value::Function(inner))?;
        Ok((next + upvalues, state))
    }

    /// A call leaves `results - 1` values, or any number.
    fn call(&self, state: &mut State<'s>, facts: &mut Facts<'s>, instruction: Instruction, results: usize) -> Seen {
        let a = instruction.a();
        let callee = self.register(state, facts, a)?;
        let (args, open) = self.values(state, facts, a + 1, instruction.b())?;
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
            Value::Function(function) => facts.call(function, &args, open)?,
            Value::Unpack if gets_keys => {
                rest.try_for_each(|value| facts.lose(value))?;
                (first, others) = (Value::Key, Value::Key);
            }
            Value::Iterate if gets_keys && results == 4 => (first, others) = (Value::NextKey, Value::Keys),
            Value::Plain
            | Value::Nil
            | Value::Known(_)
            | Value::Key
            | Value::Unpack
            | Value::Iterate
            | Value::NextKey => {
                args.iter().chain(&open).try_for_each(|value| facts.lose(*value))?;
            }
            Value::Keys | Value::Redis | Value::Unclear => return Err(Unseen),
        }
        state.forget_from(a);
        state.open = (results == 0).then_some((a, first));
        for register in a..(a + results).saturating_sub(1) {
            self.set(state, facts, register, if register == a { first } else { others })?;
        }
        if others == Value::Keys {
            // The third is the count.
            self.set(state, facts, a + 2, Value::Plain)?;
        }
        Ok(())
    }

    /// `field - 1` values from a register on; with 0, all that there are up to the end of an open list.
    fn values(
        &self,
        state: &State<'s>,
        facts: &mut Facts<'s>,
        first: usize,
        field: usize,
    ) -> Seen<(Vec<Value<'s>>, Option<Value<'s>>)> {
        let (end, open) = match field.checked_sub(1) {
            Some(count) => (first + count, None),
            None => state.open.map(|(start, value)| (start, Some(value))).ok_or(Unseen)?,
        };
        let fixed = (first..end).map(|register| self.register(state, facts, register)).collect::<Seen<_>>()?;
        Ok((fixed, open))
    }

    /// Such values go where they are not followed any more.
    fn leave(&self, state: &State<'s>, facts: &mut Facts<'s>, first: usize, field: usize) -> Seen {
        let (fixed, open) = self.values(state, facts, first, field)?;
        fixed.into_iter().chain(open).try_for_each(|value| facts.lose(value))
    }

    /// What a register holds; somebody else may have changed one that is shared.
    fn register(&self, state: &State<'s>, facts: &mut Facts<'s>, register: usize) -> Seen<Value<'s>> {
        let value = state.registers.get(register).copied().ok_or(Unseen)?;
        let shared = facts.shared(Variable { function: self.index, register });
        match shared.filter(|_| state.is_shared(register)) {
            Some(shared) => Ok(facts.join(value, shared)),
            None => Ok(value),
        }
    }

    fn set(&self, state: &mut State<'s>, facts: &mut Facts<'s>, register: usize, value: Value<'s>) -> Seen {
        *state.registers.get_mut(register).ok_or(Unseen)? = value;
        if state.is_shared(register) {
            facts.share(Variable { function: self.index, register }, value)?;
        }
        Ok(())
    }

    fn constant(&self, index: usize) -> Seen<Value<'s>> {
        let name = self.function.names.get(index).ok_or(Unseen)?;
        Ok(name.as_deref().map_or(Value::Plain, Value::Known))
    }

    fn operand(&self, state: &State<'s>, facts: &mut Facts<'s>, operand: Operand) -> Seen<Value<'s>> {
        match operand {
            Operand::Register(register) => self.register(state, facts, register),
            Operand::Constant(index) => self.constant(index),
        }
    }

    fn global(&self, index: usize) -> Seen<Value<'s>> {
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
