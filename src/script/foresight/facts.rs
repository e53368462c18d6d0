//! What is known of the functions of a script: who calls them with what, and what their shared variables hold.
//!
//! ```text
//!   local key = KEYS[1]                              variable: a key
//!   local function get(k) return redis.call('get', k) end
//!   get(key) get(KEYS[2])                            parameter k: a key, whoever calls it
//!   local f = ARGV[1] and get or print               out of sight: anybody may call `get`, with anything
//! ```
//! A fact only ever becomes weaker while the walk goes on, and each function is walked again until none does. A variable that
//! functions share has one fact for all times and all its lives: it may change whenever anybody is called.

use super::value::Value;
use super::walk::{Seen, Unseen};
use crate::engine::lua::bytecode::{Constant, Proto};

/// A function as it is written: one, however often a closure is made of it.
pub struct Function<'s> {
    pub proto: &'s Proto,
    /// Its constants as words of a command.
    pub names: Vec<Option<Vec<u8>>>,
    /// Those written inside it, by their place among all functions.
    pub inner: Vec<usize>,
}

/// All functions of a script, itself first.
pub fn functions_of(script: &Proto) -> Vec<Function<'_>> {
    let mut functions = vec![Function { proto: script, names: names_of(script), inner: Vec::new() }];
    let mut at = 0;
    while at < functions.len() {
        for proto in &functions[at].proto.inner {
            let place = functions.len();
            functions[at].inner.push(place);
            functions.push(Function { proto, names: names_of(proto), inner: Vec::new() });
        }
        at += 1;
    }
    functions
}

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

/// A local variable that inner functions use: a register of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    pub function: usize,
    pub register: usize,
}

pub struct Facts<'s> {
    functions: Vec<FunctionFacts<'s>>,
    has_changed: bool,
}

/// Nothing is known yet of what is `None`: it was not come upon.
struct FunctionFacts<'s> {
    is_called: bool,
    parameters: Vec<Option<Value<'s>>>,
    /// By register.
    shared: Vec<Option<Value<'s>>>,
    /// By upvalue, whose variable that is.
    upvalues: Vec<Option<Variable>>,
}

impl<'s> Facts<'s> {
    pub fn new(functions: &[Function<'s>]) -> Self {
        let of = |function: &Function<'_>| FunctionFacts {
            is_called: false,
            parameters: vec![None; function.proto.parameters],
            shared: vec![None; function.proto.registers],
            upvalues: vec![None; function.proto.upvalues],
        };
        Facts { functions: functions.iter().map(of).collect(), has_changed: false }
    }

    /// Whether something was learned since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    pub fn is_called(&self, function: usize) -> bool {
        self.functions[function].is_called
    }

    pub fn parameters(&self, function: usize) -> impl Iterator<Item = Value<'s>> {
        self.functions[function].parameters.iter().map(|value| value.unwrap_or(Value::Plain))
    }

    /// What is known if a value may be either.
    pub fn join(&mut self, one: Value<'s>, other: Value<'s>) -> Value<'s> {
        let joined = one.or(other);
        for value in [one, other] {
            if let Value::Function(function) = value
                && joined != value
            {
                self.give_up(function);
            }
        }
        joined
    }

    /// A value goes where it is not followed any more.
    pub fn lose(&mut self, value: Value<'s>) -> Seen {
        match value {
            Value::Function(function) => self.give_up(function),
            value if value.must_stay_in_sight() => return Err(Unseen),
            _ => {}
        }
        Ok(())
    }

    /// From now on anybody may call it, with anything that need not stay in sight.
    fn give_up(&mut self, function: usize) {
        let count = self.functions[function].parameters.len();
        self.note_call(function);
        (0..count).for_each(|index| self.pass(function, index, Value::Plain));
    }

    fn note_call(&mut self, function: usize) {
        self.has_changed |= !std::mem::replace(&mut self.functions[function].is_called, true);
    }

    fn pass(&mut self, function: usize, index: usize, value: Value<'s>) {
        let before = self.functions[function].parameters[index];
        let after = before.map_or(value, |before| self.join(before, value));
        self.functions[function].parameters[index] = Some(after);
        self.has_changed |= before != Some(after);
    }

    /// A call whose arguments are known; behind them any number more of one kind, if there is one.
    pub fn call(&mut self, function: usize, args: &[Value<'s>], open: Option<Value<'s>>) -> Seen {
        self.note_call(function);
        let count = self.functions[function].parameters.len();
        for index in 0..count {
            let rest = open.map_or(Value::Nil, |open| self.join(open, Value::Nil));
            self.pass(function, index, args.get(index).copied().unwrap_or(rest));
        }
        // Those it knows as `...`.
        args.iter().skip(count).chain(&open).try_for_each(|value| self.lose(*value))
    }

    /// What a shared variable may hold.
    pub fn shared(&self, variable: Variable) -> Option<Value<'s>> {
        self.functions[variable.function].shared.get(variable.register).copied().flatten()
    }

    /// A shared variable may hold this, too.
    pub fn share(&mut self, variable: Variable, value: Value<'s>) -> Seen {
        let before = self.shared(variable);
        let after = before.map_or(value, |before| self.join(before, value));
        *self.functions[variable.function].shared.get_mut(variable.register).ok_or(Unseen)? = Some(after);
        self.has_changed |= before != Some(after);
        Ok(())
    }

    /// The variable behind an upvalue, once a closure was made.
    pub fn variable(&self, function: usize, upvalue: usize) -> Seen<Variable> {
        self.functions[function].upvalues.get(upvalue).copied().flatten().ok_or(Unseen)
    }

    pub fn bind(&mut self, function: usize, upvalue: usize, variable: Variable) -> Seen {
        // There is one place in a script where a function becomes a closure.
        match self.functions[function].upvalues.get_mut(upvalue) {
            Some(bound) if bound.is_none_or(|bound| bound == variable) => *bound = Some(variable),
            _ => return Err(Unseen),
        }
        Ok(())
    }
}
