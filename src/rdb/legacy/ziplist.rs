//! Ziplist, Redis's packed form until 6.2.
//!
//! ```text
//! total u32 | offset of the last entry u32 | count u16 (65535: count them) | entries | 0xff
//! entry     length of the one before: u8, or 0xfe u32 | encoding | data
//! encoding  00pppppp  01pppppp pppppppp (big-endian)  10000000 u32 (big-endian)     a text of that length
//!           c0 i16   d0 i32   e0 i64   f0 i24   fe i8   f1…fd the numbers 0…12
//! ```

use crate::engine::listpack::Listpack;
use crate::rdb::fault::Fault;
use crate::rdb::source::Source;

const HEADER: usize = 10;
const END: u8 = 0xff;

/// The entries as a listpack; every length is checked against its neighbours.
pub fn to_listpack(blob: &[u8]) -> Result<Listpack, Fault> {
    convert(blob).ok_or(Fault::fixed("Ziplist integrity check failed."))
}

fn convert(blob: &[u8]) -> Option<Listpack> {
    let mut source = Source::new(blob);
    let total = u32::from_le_bytes(source.array().ok()?) as usize;
    let tail = u32::from_le_bytes(source.array().ok()?) as usize;
    let count = u16::from_le_bytes(source.array().ok()?);
    if total != blob.len() || total <= HEADER || blob.last() != Some(&END) {
        return None;
    }
    let mut pack = Listpack::new();
    let (mut seen, mut last, mut before) = (0usize, HEADER, 0usize);
    while source.rest() > 1 {
        let start = source.at();
        if previous_len(&mut source)? != before {
            return None;
        }
        entry(&mut source, &mut pack)?;
        if source.rest() == 0 {
            return None;
        }
        before = source.at() - start;
        last = start;
        seen += 1;
    }
    let counted = count == u16::MAX || usize::from(count) == seen;
    (counted && tail == last).then_some(pack)
}

fn previous_len(source: &mut Source<'_>) -> Option<usize> {
    match source.byte().ok()? {
        254 => Some(u32::from_le_bytes(source.array().ok()?) as usize),
        END => None,
        len => Some(usize::from(len)),
    }
}

fn entry(source: &mut Source<'_>, pack: &mut Listpack) -> Option<()> {
    let encoding = source.byte().ok()?;
    let text_len = match encoding >> 6 {
        0 => usize::from(encoding),
        1 => usize::from(encoding & 0x3f) << 8 | usize::from(source.byte().ok()?),
        2 => u32::from_be_bytes(source.array().ok()?) as usize,
        _ => {
            pack.push_back_int(number(encoding, source)?);
            return Some(());
        }
    };
    pack.push_back(source.take(text_len).ok()?);
    Some(())
}

fn number(encoding: u8, source: &mut Source<'_>) -> Option<i64> {
    Some(match encoding {
        0xc0 => i64::from(i16::from_le_bytes(source.array().ok()?)),
        0xd0 => i64::from(i32::from_le_bytes(source.array().ok()?)),
        0xe0 => i64::from_le_bytes(source.array().ok()?),
        0xf0 => {
            let [low, middle, high] = source.array().ok()?;
            i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8)
        }
        0xfe => i64::from(i8::from_le_bytes(source.array().ok()?)),
        0xf1..=0xfd => i64::from(encoding & 0x0f) - 1,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_texts_and_numbers() {
        // "ab", 3, -2 (i8), 1000 (i16)
        let entries: &[u8] = b"\x00\x02ab\x04\xf4\x02\xfe\xfe\x03\xc0\xe8\x03";
        let mut blob = Vec::new();
        blob.extend((11 + entries.len() as u32).to_le_bytes());
        blob.extend((HEADER as u32 + 9).to_le_bytes());
        blob.extend(4u16.to_le_bytes());
        blob.extend(entries);
        blob.push(END);
        let pack = to_listpack(&blob).expect("sound");
        let texts: Vec<Vec<u8>> = pack.iter().map(|element| element.to_vec()).collect();
        assert_eq!(texts, [b"ab".to_vec(), b"3".to_vec(), b"-2".to_vec(), b"1000".to_vec()]);
        for at in 0..blob.len() {
            // Damage anywhere is either harmless to the structure or refused, and never more.
            for value in [0, 1, 0x7f, 0xfe, 0xff] {
                let mut damaged = blob.clone();
                damaged[at] = value;
                let _ = to_listpack(&damaged);
                let _ = to_listpack(&damaged[..at]);
            }
        }
    }
}
