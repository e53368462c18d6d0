//! What is known of a value of a script before it runs.

use super::Word;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// None of those that must stay in sight.
    Plain,
    Nil,
    Known(&'a [u8]),
    /// One of the declared keys, or nil.
    Key,
    /// `unpack`, and `ipairs` or `pairs`.
    Unpack,
    Iterate,
    /// What `ipairs(KEYS)` goes on with.
    NextKey,
    /// A function of the script, by its place among all of them, or nil. Who calls it with what is known as long as it is.
    Function(usize),
    Keys,
    Redis,
    Call,
    /// Perhaps one of the last three.
    Unclear,
}

impl<'a> Value<'a> {
    pub fn must_stay_in_sight(self) -> bool {
        matches!(self, Value::Keys | Value::Redis | Value::Call | Value::Unclear)
    }

    /// What is known if it may be either. A function that is lost by that is to be given up by the caller.
    pub fn or(self, other: Value<'a>) -> Value<'a> {
        match (self, other) {
            (one, other) if one == other => one,
            (Value::Nil, known @ (Value::Key | Value::Function(_)))
            | (known @ (Value::Key | Value::Function(_)), Value::Nil) => known,
            (one, other) if one.must_stay_in_sight() || other.must_stay_in_sight() => Value::Unclear,
            _ => Value::Plain,
        }
    }

    pub fn word(self) -> Word<'a> {
        match self {
            Value::Known(text) => Word::Known(text),
            Value::Key => Word::Key,
            _ => Word::Other,
        }
    }
}
