//! What a directive's value can be, and how each is read and printed with Redis's texts.
//!
//! A `Value` reads the words of a directive into itself, so that a value made of parts (client-output-buffer-limit) keeps the parts
//! that a line does not name.

/// The syntax of a value, for the parser's bounds and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Integer {
        min: i128,
        max: i128,
    },
    /// Bytes, with the units b, k, kb, m, mb, g, gb.
    Memory {
        min: i128,
        max: i128,
    },
    /// Bytes, or a percentage (up to 100) of maxmemory.
    MemoryOrPercent {
        max: i128,
    },
    Octal {
        min: i128,
        max: i128,
    },
    /// One of these words; several of them where the directive takes many arguments.
    Choice(&'static [&'static str]),
    Text,
    /// A syntax of its own.
    Special(&'static str),
}

impl Kind {
    pub const fn integer(min: i64, max: i64) -> Kind {
        Kind::Integer { min: min as i128, max: max as i128 }
    }

    pub const fn memory(min: u64, max: u64) -> Kind {
        Kind::Memory { min: min as i128, max: max as i128 }
    }
}

/// A typed value of `Config`.
pub trait Value: Clone + PartialEq {
    /// Reads the words that follow the directive's name. On an error the value may be half changed: the caller works on a copy.
    fn assign(&mut self, words: &[Vec<u8>], kind: &Kind) -> Result<(), String>;

    /// As CONFIG GET prints it.
    fn print(&self, kind: &Kind) -> Vec<u8>;

    /// As CONFIG REWRITE writes it: the text after the directive's name, one item per line; none for a value that is absent.
    fn rewrite_lines(&self, kind: &Kind) -> Vec<Vec<u8>> {
        vec![self.print(kind)]
    }
}

/// The only word, for directives that take exactly one.
pub(crate) fn only_word(words: &[Vec<u8>]) -> Result<&[u8], String> {
    match words {
        [word] => Ok(word),
        _ => Err(WRONG_NUMBER.into()),
    }
}

pub(crate) const WRONG_NUMBER: &str = "wrong number of arguments";

impl Value for bool {
    fn assign(&mut self, words: &[Vec<u8>], _: &Kind) -> Result<(), String> {
        let word = only_word(words)?;
        *self = match () {
            _ if word.eq_ignore_ascii_case(b"yes") => true,
            _ if word.eq_ignore_ascii_case(b"no") => false,
            _ => return Err("argument must be 'yes' or 'no'".into()),
        };
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        if *self { b"yes".to_vec() } else { b"no".to_vec() }
    }
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Value for $type {
            fn assign(&mut self, words: &[Vec<u8>], kind: &Kind) -> Result<(), String> {
                let number = read_number(only_word(words)?, kind)?;
                // The bounds of a declaration fit its type; this only guards against a wrong declaration.
                *self = <$type>::try_from(number).map_err(|_| "argument is out of range".to_string())?;
                Ok(())
            }

            fn print(&self, kind: &Kind) -> Vec<u8> {
                match kind {
                    Kind::Octal { .. } => format!("{self:o}").into_bytes(),
                    _ => self.to_string().into_bytes(),
                }
            }

            fn rewrite_lines(&self, kind: &Kind) -> Vec<Vec<u8>> {
                match (kind, u64::try_from(*self)) {
                    (Kind::Memory { .. }, Ok(bytes)) => vec![print_memory(bytes).into_bytes()],
                    _ => vec![self.print(kind)],
                }
            }
        }
    )*};
}
numbers!(u16 u32 u64 usize i32 i64);

fn read_number(word: &[u8], kind: &Kind) -> Result<i128, String> {
    let (number, min, max) = match *kind {
        Kind::Memory { min, max } => {
            (read_memory(word).map(i128::from).ok_or("argument must be a memory value")?, min, max)
        }
        Kind::Octal { min, max } => {
            let text = std::str::from_utf8(word).unwrap_or_default();
            let number = i64::from_str_radix(text, 8).map_err(|_| "argument couldn't be parsed as an octal number")?;
            (i128::from(number), min, max)
        }
        Kind::Integer { min, max } => {
            let number = crate::base::number::parse_i64(word).ok_or("argument couldn't be parsed into an integer")?;
            (i128::from(number), min, max)
        }
        _ => return Err("not a number".into()),
    };
    if (min..=max).contains(&number) {
        return Ok(number);
    }
    Err(match kind {
        Kind::Octal { .. } => format!("argument must be between {min:o} and {max:o} inclusive"),
        _ => format!("argument must be between {min} and {max} inclusive"),
    })
}

/// A count of bytes with an optional unit; Redis takes an empty number for 0 and a number too big for u64 as u64's largest.
pub fn read_memory(word: &[u8]) -> Option<u64> {
    let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = word.split_at(digits);
    let unit: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    if digits >= 128 {
        return None;
    }
    let number =
        number.iter().fold(0u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    number.checked_mul(unit)
}

/// A count of bytes in the biggest unit that divides it.
pub fn print_memory(bytes: u64) -> String {
    for (unit, name) in [(1u64 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")] {
        if bytes != 0 && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

impl Value for String {
    fn assign(&mut self, words: &[Vec<u8>], _: &Kind) -> Result<(), String> {
        *self = read_text(only_word(words)?)?;
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn rewrite_lines(&self, _: &Kind) -> Vec<Vec<u8>> {
        vec![crate::base::quoting::quote(self.as_bytes())]
    }
}

pub(crate) fn read_text(word: &[u8]) -> Result<String, String> {
    String::from_utf8(word.to_vec()).map_err(|_| "argument must be valid UTF-8".into())
}

/// A text that may be absent: the empty text means absent.
impl Value for Option<String> {
    fn assign(&mut self, words: &[Vec<u8>], _: &Kind) -> Result<(), String> {
        let text = read_text(only_word(words)?)?;
        *self = (!text.is_empty()).then_some(text);
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        self.as_deref().unwrap_or_default().as_bytes().to_vec()
    }

    fn rewrite_lines(&self, _: &Kind) -> Vec<Vec<u8>> {
        self.iter().map(|text| crate::base::quoting::quote(text.as_bytes())).collect()
    }
}

/// A password may be any bytes.
impl Value for Option<Vec<u8>> {
    fn assign(&mut self, words: &[Vec<u8>], _: &Kind) -> Result<(), String> {
        let bytes = only_word(words)?;
        *self = (!bytes.is_empty()).then(|| bytes.to_vec());
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        self.clone().unwrap_or_default()
    }

    fn rewrite_lines(&self, _: &Kind) -> Vec<Vec<u8>> {
        self.iter().map(|bytes| crate::base::quoting::quote(bytes)).collect()
    }
}

/// The error for a word that is none of a directive's words.
pub(crate) fn not_among(words: &[&str]) -> String {
    format!("argument(s) must be one of the following: {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned<T: Value + Default>(kind: Kind, word: &str) -> Result<T, String> {
        let mut value = T::default();
        value.assign(&[word.as_bytes().to_vec()], &kind).map(|()| value)
    }

    #[test]
    fn memory_units_and_odd_forms() {
        for (word, expected) in [
            ("100", Some(100)),
            ("1k", Some(1000)),
            ("1KB", Some(1024)),
            ("2mb", Some(2 << 20)),
            ("3m", Some(3_000_000)),
            ("1Gb", Some(1 << 30)),
            ("1g", Some(1_000_000_000)),
            ("7b", Some(7)),
            ("", Some(0)),
            ("-1", None),
            ("1tb", None),
            ("1.5gb", None),
        ] {
            assert_eq!(read_memory(word.as_bytes()), expected, "{word}");
        }
        assert_eq!(print_memory(100 << 20), "100mb");
        assert_eq!(print_memory(0), "0");
        assert_eq!(print_memory(1025), "1025");
    }

    #[test]
    fn errors_have_the_texts_of_redis() {
        let text = |result: Result<u32, String>| result.unwrap_err();
        assert_eq!(text(assigned(Kind::integer(1, 100), "0")), "argument must be between 1 and 100 inclusive");
        assert_eq!(text(assigned(Kind::integer(1, 100), "x")), "argument couldn't be parsed into an integer");
        assert_eq!(text(assigned(Kind::memory(1, 10), "x")), "argument must be a memory value");
        let octal = Kind::Octal { min: 0, max: 0o777 };
        assert_eq!(text(assigned(octal, "1000")), "argument must be between 0 and 777 inclusive");
        assert_eq!(text(assigned(octal, "9")), "argument couldn't be parsed as an octal number");
        assert_eq!(assigned::<u32>(octal, "755").map(|mode| mode.print(&octal)), Ok(b"755".to_vec()));
        assert_eq!(assigned::<bool>(Kind::Bool, "maybe"), Err("argument must be 'yes' or 'no'".into()));
        assert_eq!(assigned::<bool>(Kind::Bool, "YES"), Ok(true));
    }
}
