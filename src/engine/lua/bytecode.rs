//! Compiled functions of Lua 5.1, for who wants to know what a script can do without running it (lua.org, "A No-Frills
//! Introduction to Lua 5.1 VM Instructions").
//!
//! ```text
//!   header (12 bytes) │ function
//!   function: source │ first line, last line │ upvalues, parameters, varargs, registers (a byte each)
//!             │ n instructions │ n constants │ n functions │ lines │ locals │ names of upvalues
//!   instruction, 32 bits from the top:   B (9) │ C (9) │ A (8) │ operation (6)     or  Bx (18) │ A │ operation
//! ```

/// One function, without its names and lines.
pub struct Proto {
    pub registers: usize,
    pub code: Vec<Instruction>,
    pub constants: Vec<Constant>,
    pub inner: Vec<Proto>,
    /// Variables of outer functions that it uses.
    pub upvalues: usize,
    pub parameters: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Nil,
    Boolean,
    Number(f64),
    Text(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction(u32);

/// A place that an instruction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    Register(usize),
    Constant(usize),
}

/// Declares the operations, and their list in the order of Lua's numbers.
macro_rules! operations {
    ($($name:ident)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation { $($name),* }

        impl Operation {
            const ALL: &[Operation] = &[$(Operation::$name),*];
        }
    };
}

operations! {
    Move LoadConstant LoadBoolean LoadNil ReadUpvalue ReadGlobal ReadTable WriteGlobal
    WriteUpvalue WriteTable NewTable Method Add Subtract Multiply Divide
    Modulo Power Negate Not Length Concatenate Jump Equal
    Less LessOrEqual Test TestAndSet Call TailCall Return ForLoop
    ForPrepare ForEach WriteList Close Closure Varargs
}

impl Instruction {
    pub fn operation(self) -> Option<Operation> {
        Operation::ALL.get((self.0 & 0x3f) as usize).copied()
    }

    pub fn a(self) -> usize {
        (self.0 >> 6 & 0xff) as usize
    }

    pub fn b(self) -> usize {
        (self.0 >> 23) as usize
    }

    pub fn c(self) -> usize {
        (self.0 >> 14 & 0x1ff) as usize
    }

    pub fn bx(self) -> usize {
        (self.0 >> 14) as usize
    }

    /// How far a jump goes from the next instruction.
    pub fn offset(self) -> isize {
        self.bx() as isize - 0x1ffff
    }

    pub fn operand_b(self) -> Operand {
        Self::operand(self.b())
    }

    pub fn operand_c(self) -> Operand {
        Self::operand(self.c())
    }

    fn operand(field: usize) -> Operand {
        if field & 0x100 != 0 { Operand::Constant(field & 0xff) } else { Operand::Register(field) }
    }
}

/// Reads what `Function::dump` has written; nothing if it is of another Lua or machine than this one.
pub fn read(bytes: &[u8]) -> Option<Proto> {
    let header = [b"\x1bLua\x51\x00\x01".as_slice(), &[4, 8, 4, 8, 0]].concat();
    let mut reader = Reader { rest: bytes.strip_prefix(header.as_slice())? };
    reader.function(0)
}

struct Reader<'a> {
    rest: &'a [u8],
}

/// Lua's own limit of nested functions is 200 calls of its parser.
const DEPTH_MAX: usize = 250;

impl Reader<'_> {
    fn function(&mut self, depth: usize) -> Option<Proto> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.text()?;
        self.take(8)?;
        let [upvalues, parameters, _varargs, registers] = *self.take(4)? else { return None };
        let code = self.list(4, |reader| reader.int().map(|word| Some(Instruction(word))))?;
        let constants = self.list(1, |reader| {
            Some(Some(match reader.take(1)?[0] {
                0 => Constant::Nil,
                1 => {
                    reader.take(1)?;
                    Constant::Boolean
                }
                3 => Constant::Number(f64::from_le_bytes(reader.take(8)?.try_into().ok()?)),
                4 => Constant::Text(reader.text()?),
                _ => return None,
            }))
        })?;
        let inner = self.list(1, |reader| reader.function(depth + 1).map(Some))?;
        self.list(4, |reader| reader.int().map(|_| None::<()>))?;
        self.list(16, |reader| {
            reader.text()?;
            reader.take(8).map(|_| None::<()>)
        })?;
        self.list(8, |reader| reader.text().map(|_| None::<()>))?;
        let [upvalues, parameters, registers] = [upvalues, parameters, registers].map(usize::from);
        Some(Proto { registers, code, constants, inner, upvalues, parameters })
    }

    /// A count and so many items, of which each has so many bytes at least; what `read` makes nothing of is left out.
    fn list<T>(&mut self, least: usize, mut read: impl FnMut(&mut Self) -> Option<Option<T>>) -> Option<Vec<T>> {
        let count = self.int()? as usize;
        if count > self.rest.len() / least {
            return None;
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.extend(read(self)?);
        }
        Some(items)
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let len = u64::from_le_bytes(self.take(8)?.try_into().ok()?);
        let text = self.take(usize::try_from(len).ok()?)?;
        // The zero at the end is counted; a text that is not there has none.
        Some(text.split_last().map_or_else(Vec::new, |(_, text)| text.to_vec()))
    }

    fn int(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlua::Lua;

    fn compiled(text: &str) -> Vec<u8> {
        Lua::new().load(text).into_function().expect("legal").dump(true)
    }

    #[test]
    fn a_function_with_another_inside() {
        let text = "local key = KEYS[1]\nlocal function f(n) return n .. key end\nif key then return f(12) end";
        let proto = read(&compiled(text)).expect("our own Lua");
        let operations: Vec<_> = proto.code.iter().map(|instruction| instruction.operation().expect("known")).collect();
        use Operation::*;
        assert_eq!(operations[..4], [ReadGlobal, ReadTable, Closure, Move]);
        assert_eq!(operations.last(), Some(&Return));
        assert!(proto.constants.contains(&Constant::Text(b"KEYS".to_vec())));
        assert!(proto.constants.contains(&Constant::Number(12.0)));
        assert_eq!((proto.inner.len(), proto.inner[0].upvalues), (1, 1));
        assert_eq!(proto.code[1].operand_b(), Operand::Register(0));
        assert!(matches!(proto.code[1].operand_c(), Operand::Constant(_)));
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        let bytes = compiled("local a, b = 1, 'x' return function() return a .. b end");
        assert!(read(&bytes).is_some());
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_none(), "{len}");
        }
    }
}
