//! A command of the debugger's user: a request of the wire protocol, within narrow limits.

/// Words, and bytes of one word.
const WORDS_MAX: usize = 1024;
const WORD_BYTES_MAX: usize = 1024;

/// Not a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub words: Vec<Vec<u8>>,
    /// Bytes that it takes.
    pub len: usize,
}

/// The first request of the input, once all of it is there.
pub fn parse(input: &[u8]) -> Result<Option<Request>, Malformed> {
    let mut at = 0;
    let Some(count) = number(input, &mut at, b'*', WORDS_MAX)? else { return Ok(None) };
    let mut words = Vec::new();
    for _ in 0..count {
        let Some(len) = number(input, &mut at, b'$', WORD_BYTES_MAX)? else { return Ok(None) };
        let Some(word) = input.get(at..at + len) else { return Ok(None) };
        at += len;
        match input.get(at..at + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += 2,
            Some(_) => return Err(Malformed),
        }
        words.push(word.to_vec());
    }
    Ok(Some(Request { words, len: at }))
}

/// A mark and a number from 1 to `max` with its line end.
fn number(input: &[u8], at: &mut usize, mark: u8, max: usize) -> Result<Option<usize>, Malformed> {
    let rest = &input[*at..];
    let Some((first, digits)) = rest.split_first() else { return Ok(None) };
    if *first != mark {
        return Err(Malformed);
    }
    let Some(end) = digits.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let value = crate::base::number::parse_u64(&digits[..end]).and_then(|value| usize::try_from(value).ok());
    *at += end + 3;
    value.filter(|value| (1..=max).contains(value)).map(Some).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_whole_or_not_at_all() {
        let request = b"*2\r\n$5\r\nprint\r\n$3\r\na\0b\r\n";
        for end in 0..request.len() {
            assert_eq!(parse(&request[..end]), Ok(None), "cut at {end}");
        }
        let Request { words, len } = parse(b"*2\r\n$5\r\nprint\r\n$3\r\na\0b\r\n*1\r\n").unwrap().unwrap();
        assert_eq!((words, len), (vec![b"print".to_vec(), b"a\0b".to_vec()], request.len()));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for input in [
            &b"ping\r\n"[..],
            b"*0\r\n",
            b"*x\r\n",
            b"*1025\r\n",
            b"*1\r\n$0\r\n\r\n",
            b"*1\r\n$1025\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n$1\r\nabc",
        ] {
            assert_eq!(parse(input), Err(Malformed), "{}", input.escape_ascii());
        }
    }
}
