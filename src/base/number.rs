//! Numbers as Redis reads and prints them: strict integers, shortest doubles.

/// Parses a canonical decimal i64: no leading `+`, spaces or zeros, no `-0` (Redis's `string2ll`).
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits == b"0" && !negative {
        return Some(0);
    }
    if digits.is_empty() || digits.len() > 19 || !(b'1'..=b'9').contains(&digits[0]) {
        return None;
    }
    let mut value: u64 = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits stay below 2^64: no overflow here.
        value = value * 10 + u64::from(digit);
    }
    if negative { (value <= 1 << 63).then(|| (value as i64).wrapping_neg()) } else { i64::try_from(value).ok() }
}

/// Parses a decimal u64 in the same strict form.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { value.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// Parses a double as Redis does, with C's `strtod`: decimal or hexadecimal, `inf`, no surrounding space, no NaN, nothing that
/// is too large or too small for a double.
#[inline]
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    // Most scores are small whole numbers.
    match if text.len() <= 15 { parse_i64(text) } else { None } {
        Some(whole) => Some(whole as f64),
        None => parse_any_f64(text),
    }
}

fn parse_any_f64(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.trim_start_matches(['+', '-']);
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        let negative = text.starts_with('-');
        return parse_hex(hex)
            .filter(|_| text.len() - digits.len() <= 1)
            .map(|value| if negative { -value } else { value });
    }
    let value: f64 = text.parse().ok()?;
    let spelled_out = digits.starts_with(['i', 'I']);
    let has_digit =
        || digits.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).any(|byte| matches!(byte, b'1'..=b'9'));
    let out_of_range = (value.is_infinite() && !spelled_out) || (value == 0.0 && has_digit());
    (!value.is_nan() && !out_of_range).then_some(value)
}

/// The same without an end: what is too large is infinite, what is too small is zero.
pub fn parse_f64_unbounded(text: &[u8]) -> Option<f64> {
    let beyond = || std::str::from_utf8(text).ok()?.parse().ok().filter(|value: &f64| !value.is_nan());
    parse_f64(text).or_else(beyond)
}

/// The digits of a hexadecimal floating-point number behind its `0x`: `1f`, `1.8`, `1p-3`.
fn parse_hex(text: &str) -> Option<f64> {
    let (mantissa, exponent) = match text.split_once(['p', 'P']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let scale = exponent.checked_sub(4 * fraction.len() as i32)?;
    let value = value * 2f64.powi(scale);
    value.is_finite().then_some(value)
}

/// Decimal text of an integer on the stack.
pub struct IntText {
    digits: [u8; 20],
    start: u8,
}

impl IntText {
    #[inline]
    pub fn new(value: i64) -> Self {
        let mut text = IntText { digits: [0; 20], start: 20 };
        let mut rest = value.unsigned_abs();
        loop {
            text.start -= 1;
            text.digits[usize::from(text.start)] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            text.start -= 1;
            text.digits[usize::from(text.start)] = b'-';
        }
        text
    }
}

impl std::ops::Deref for IntText {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.digits[usize::from(self.start)..]
    }
}

/// Text of a double as Redis ≥ 7.2 prints it: the shortest digits that read back as the same number.
///
/// Whole numbers and short fractions are written out, very large and very small ones with an exponent (`1e+20`, `1.5e-9`).
pub struct DoubleText {
    bytes: [u8; DOUBLE_MAX],
    len: u8,
}

/// Longest text of a double: sign, seventeen digits, seven zeros (or point and exponent).
const DOUBLE_MAX: usize = 32;

impl DoubleText {
    pub fn new(value: f64) -> Self {
        let mut text = DoubleText { bytes: [0; DOUBLE_MAX], len: 0 };
        let whole = value as i64;
        if whole as f64 == value && whole.unsigned_abs() <= 1 << 62 && (whole != 0 || value.is_sign_positive()) {
            text.push(&IntText::new(whole));
        } else if value.is_nan() {
            text.push(b"nan");
        } else if value.is_infinite() {
            text.push(if value > 0.0 { b"inf" } else { b"-inf" });
        } else if value == 0.0 {
            text.push(b"-0");
        } else {
            text.push_shortest(value);
        }
        text
    }

    fn push(&mut self, bytes: &[u8]) {
        let len = usize::from(self.len);
        self.bytes[len..len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }

    fn push_zeros(&mut self, count: usize) {
        self.push(&b"000000000000000000000000"[..count]);
    }

    /// A number that is neither whole (or too large for that), nor zero, nor special.
    fn push_shortest(&mut self, value: f64) {
        use std::io::Write;
        // Rust's scientific form holds the shortest digits: `d.ddde-9`.
        let mut scientific = [0u8; DOUBLE_MAX];
        let mut rest = &mut scientific[..];
        write!(rest, "{:e}", value.abs()).expect("a double has at most 17 digits");
        let written = DOUBLE_MAX - rest.len();
        let mark = scientific[..written].iter().position(|byte| *byte == b'e').unwrap_or(written);
        let exponent = parse_i64(&scientific[(mark + 1).min(written)..written]).unwrap_or(0) as i32;
        // The digits without their point.
        let (mut digits, mut count) = ([0u8; DOUBLE_MAX], 0);
        for digit in scientific[..mark].iter().filter(|byte| **byte != b'.') {
            digits[count] = *digit;
            count += 1;
        }
        let digits = &digits[..count];
        if value < 0.0 {
            self.push(b"-");
        }
        // `scale` is the power of ten of the last digit.
        let scale = exponent - (count as i32 - 1);
        if scale >= 0 && exponent < count as i32 + 7 {
            self.push(digits);
            self.push_zeros(scale as usize);
        } else if scale < 0 && (scale > -7 || exponent.abs() < 4) {
            let point = count as i32 + scale;
            if point <= 0 {
                self.push(b"0.");
                self.push_zeros(point.unsigned_abs() as usize);
                self.push(digits);
            } else {
                let (whole, fraction) = digits.split_at(point as usize);
                self.push(whole);
                self.push(b".");
                self.push(fraction);
            }
        } else {
            let (first, others) = digits.split_at(1);
            self.push(first);
            if !others.is_empty() {
                self.push(b".");
                self.push(others);
            }
            self.push(if exponent < 0 { b"e-" } else { b"e+" });
            self.push(&IntText::new(i64::from(exponent.abs())));
        }
    }
}

impl std::ops::Deref for DoubleText {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Appends a double as C's `%.{digits}g` does.
pub fn write_general(out: &mut String, value: f64, digits: usize) {
    if !value.is_finite() {
        out.push_str(&String::from_utf8_lossy(&DoubleText::new(value)));
        return;
    }
    if value == 0.0 {
        out.push_str(if value.is_sign_negative() { "-0" } else { "0" });
        return;
    }
    let digits = digits.max(1);
    let scientific = format!("{:.*e}", digits - 1, value);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| -> String {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        out.push_str(&format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs()));
    } else {
        let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
        out.push_str(&trimmed(&format!("{value:.decimals$}")));
    }
}

/// `%.17g`: how a Lua number becomes an argument of a command.
pub fn text_g17(value: f64) -> String {
    let mut text = String::new();
    write_general(&mut text, value, 17);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_strict_and_round_trip() {
        for bad in [
            "",
            "+1",
            "01",
            " 1",
            "1 ",
            "-0",
            "-",
            "9223372036854775808",
            "-9223372036854775809",
            "1e3",
            "99999999999999999999",
        ] {
            assert_eq!(parse_i64(bad.as_bytes()), None, "{bad}");
        }
        for value in [0, 1, -1, 10, -10, i64::MAX, i64::MIN, 1234567890123] {
            assert_eq!(&*IntText::new(value), value.to_string().as_bytes());
            assert_eq!(parse_i64(&IntText::new(value)), Some(value));
        }
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
    }

    #[test]
    fn doubles_are_read_as_strtod_reads_them() {
        for (text, value) in [
            ("1", 1.0),
            ("-1.5", -1.5),
            ("+3", 3.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("0", 0.0),
            ("0e10", 0.0),
            ("inf", f64::INFINITY),
            ("+INF", f64::INFINITY),
            ("-infinity", f64::NEG_INFINITY),
            ("0x10", 16.0),
            ("-0x1.8p1", -3.0),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
        }
        for text in ["", " 1", "1 ", "nan", "-nan", "abc", "1e400", "1e-400", "0x", "--1", "+-1", "1_0", "0xg", "e5"] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_f64_unbounded(b"-1e400"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_f64_unbounded(b"nan"), None);
    }

    #[test]
    fn doubles_are_shortest() {
        for (value, text) in [
            (0.1, "0.1"),
            (3.0, "3"),
            (-3.5, "-3.5"),
            (1e18, "1000000000000000000"),
            (1e20, "1e+20"),
            (1e21, "1e+21"),
            (1.5e-9, "1.5e-9"),
            (0.001, "0.001"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (17179869184.0, "17179869184"),
            (0.0, "0"),
            (-0.0, "-0"),
            (f64::NAN, "nan"),
            (-1.25e-7, "-1.25e-7"),
            (0.00001, "0.00001"),
            (123456.789, "123456.789"),
            (-0.1 - 0.2, "-0.30000000000000004"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN, "-1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (5e-324, "5e-324"),
            (1e300, "1e+300"),
            (-12345678901234567890.0, "-12345678901234567000"),
            (1.2345678901234568e22, "12345678901234568000000"),
        ] {
            assert_eq!(String::from_utf8_lossy(&DoubleText::new(value)), text);
        }
        let mut random = super::super::random::Random::seeded(3);
        for _ in 0..2000 {
            let value = f64::from_bits(random.next_u64());
            let text = DoubleText::new(value);
            assert!(value.is_nan() || parse_f64(&text) == Some(value), "{value:e}");
        }
    }

    #[test]
    fn general_format_is_that_of_c() {
        for (value, digits, text) in [
            (0.1, 17, "0.10000000000000001"),
            (3.0, 17, "3"),
            (1e20, 17, "1e+20"),
            (1e16, 17, "10000000000000000"),
            (0.0001, 14, "0.0001"),
            (0.00001, 14, "1e-05"),
            (3.24159265358979, 14, "3.2415926535898"),
            (-2.5, 14, "-2.5"),
        ] {
            let mut out = String::new();
            write_general(&mut out, value, digits);
            assert_eq!(out, text);
        }
    }
}
