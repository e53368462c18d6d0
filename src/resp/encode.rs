//! Requests as arrays of bulk strings: how the journal keeps commands, and how we talk to others.

use crate::base::number::IntText;

/// Appends a request.
pub fn encode<'a, W>(bytes: &mut Vec<u8>, words: W)
where
    W: IntoIterator<Item = &'a [u8]>,
    W::IntoIter: Clone,
{
    let words = words.into_iter();
    header(bytes, b'*', words.clone().count());
    for word in words {
        header(bytes, b'$', word.len());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
}

fn header(bytes: &mut Vec<u8>, kind: u8, count: usize) {
    bytes.push(kind);
    bytes.extend_from_slice(&IntText::new(count as i64));
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_may_be_words() {
        let mut bytes = b"+OK\r\n".to_vec();
        encode(&mut bytes, [b"SET".as_slice(), b"", b"a\r\nb"]);
        assert_eq!(bytes, b"+OK\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\r\nb\r\n");
    }
}
