//! Zipmap, the packed hash of Redis 2.
//!
//! ```text
//! count u8 (254 and above: count them) | (length, field, length, free u8, value, free bytes)* | 0xff
//! length   u8, or 0xfe u32 little-endian
//! ```

use crate::engine::listpack::Listpack;
use crate::rdb::fault::Fault;
use crate::rdb::source::Source;

const BIG: u8 = 254;
const END: u8 = 0xff;

/// Fields and values in turn, as a listpack.
pub fn to_listpack(blob: &[u8]) -> Result<Listpack, Fault> {
    convert(blob).ok_or(Fault::fixed("Zipmap integrity check failed."))
}

fn convert(blob: &[u8]) -> Option<Listpack> {
    let mut source = Source::new(blob);
    let count = source.byte().ok()?;
    let (mut pack, mut seen) = (Listpack::new(), 0usize);
    while let Some(len) = length(&mut source)? {
        pack.push_back(source.take(len).ok()?);
        let len = length(&mut source)??;
        let free = source.byte().ok()?;
        pack.push_back(source.take(len).ok()?);
        source.take(usize::from(free)).ok()?;
        seen += 1;
    }
    let counted = count >= BIG || usize::from(count) == seen;
    // Redis refuses an empty one, while other empty collections are only skipped.
    (counted && seen > 0 && source.rest() == 0).then_some(pack)
}

/// `Some(None)` at the end.
fn length(source: &mut Source<'_>) -> Option<Option<usize>> {
    Some(match source.byte().ok()? {
        END => None,
        // A length that one byte could hold is not written in five.
        BIG => {
            Some(u32::from_le_bytes(source.array().ok()?) as usize).filter(|len| *len >= usize::from(BIG)).map(Some)?
        }
        len => Some(usize::from(len)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pairs() {
        let pack = to_listpack(b"\x02\x03foo\x03\x00bar\x05hello\x05\x02worldxx\xff").expect("sound");
        let texts: Vec<Vec<u8>> = pack.iter().map(|element| element.to_vec()).collect();
        assert_eq!(texts.concat(), b"foobarhelloworld");
        assert!(to_listpack(b"\x02\x03foo\x03\x00bar").is_err());
        assert!(to_listpack(b"\x01\x03foo\xff").is_err());
        assert!(to_listpack(b"\0\xff").is_err(), "empty");
        assert!(to_listpack(b"\x01\x01k\xfe\x04\0\0\0\0val1\xff").is_err(), "a short length in five bytes");
    }
}
