//! What can be wrong with bytes from outside.

use std::borrow::Cow;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes end too early; at least this many more are needed.
    Truncated(usize),
    /// The bytes contradict the format.
    Damaged(Cow<'static, str>),
    /// A collection without elements: no server writes one, loaders skip it.
    Empty,
}

impl Fault {
    pub const fn fixed(what: &'static str) -> Self {
        Fault::Damaged(Cow::Borrowed(what))
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Truncated(_) => f.write_str("unexpected end of data"),
            Fault::Damaged(what) => f.write_str(what),
            Fault::Empty => f.write_str("a collection without elements"),
        }
    }
}
