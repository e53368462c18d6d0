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
}
