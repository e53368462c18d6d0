//! What a key can hold. No `match` on these enums has a wildcard arm, so a new type shows every place that must know it.

use super::string::StringBlock;

/// The type of a key, as TYPE names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    String = 0,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
        }
    }
}

/// A string on loan: integers are kept as such.
#[derive(Clone, Copy, Debug)]
pub enum StringRef<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

/// A value that belongs to nobody's record: taken out of one key, on its way into another.
pub enum Value {
    Int(i64),
    Bytes(Vec<u8>),
    Block(StringBlock),
}

/// A value on loan.
pub enum ValueRef<'a> {
    String(StringRef<'a>),
}

/// A collection on loan for change. Strings change through `Db`, because they may need a larger record.
pub enum ValueMut<'a> {
    String(StringRef<'a>),
}
