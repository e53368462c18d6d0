//! An RDB file that cannot be loaded: which of its keys are damaged. Keys are framed before they are decoded, so a damaged one does
//! not hide those behind it; only damaged framing does.

use crate::engine::limits::Limits;
use crate::rdb::fault::Fault;
use crate::rdb::reader::LoadError;
use crate::rdb::{Item, Reader, value};
use std::io::Read;

/// Bytes read at once.
const PIECE: usize = 128 * 1024;
/// Damaged keys that are named; the rest is only counted.
const NAMED: u64 = 20;

/// What a file holds, good and bad.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub readable: u64,
    pub damaged: u64,
    /// The first damaged ones, each a line for the log.
    pub named: Vec<String>,
    /// Where and why reading ended, if not at the end.
    pub end: Option<LoadError>,
}

impl Findings {
    /// Lines for the log.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.named.clone();
        if let Some(LoadError { offset, fault }) = &self.end {
            lines.push(format!("[offset {offset}] {fault}; nothing behind it can be read"));
        }
        lines.push(format!("{} keys can be read, {} are damaged", self.readable, self.damaged));
        lines
    }
}

/// Reads a whole file, keeping nothing.
pub fn examine(source: &mut dyn Read, limits: &Limits) -> Findings {
    let mut findings = Findings::default();
    let mut reader = Reader::new(true);
    let mut piece = vec![0; PIECE];
    findings.end = loop {
        if reader.is_done() {
            break None;
        }
        match source.read(&mut piece) {
            Ok(0) => break Some(reader.truncated()),
            Ok(len) => reader.feed(&piece[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let fault = Fault::Damaged(error.to_string().into());
                break Some(LoadError { offset: reader.offset(), fault });
            }
        }
        if let Err(error) = findings.take_all(&mut reader, limits) {
            break Some(error);
        }
    };
    findings
}

impl Findings {
    /// Looks at what the reader has whole.
    fn take_all(&mut self, reader: &mut Reader, limits: &Limits) -> Result<(), LoadError> {
        loop {
            let offset = reader.offset();
            match reader.next_item()? {
                None | Some(Item::End) => return Ok(()),
                Some(Item::Key(item)) => match value::decode(item.kind, item.lineage, item.body, limits) {
                    Ok(_) | Err(Fault::Empty) => self.readable += 1,
                    Err(fault) => {
                        self.damaged += 1;
                        if self.damaged <= NAMED {
                            let key = String::from_utf8_lossy(&item.key);
                            self.named.push(format!(
                                "[offset {offset}] key '{key}' of database {}, type {}: {fault}",
                                item.db, item.kind
                            ));
                        }
                    }
                },
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of two strings, a hash that is damaged, and another string; its end is left to the test.
    fn file() -> (Vec<u8>, usize) {
        let mut file = b"REDIS0010".to_vec();
        for key in ["one", "two"] {
            file.extend_from_slice(&[0, 3]);
            file.extend_from_slice(key.as_bytes());
            file.extend_from_slice(b"\x05value");
        }
        let hash = file.len();
        // A hash as a listpack of one field without a value.
        file.extend_from_slice(b"\x10\x04hash\x0a\x0a\0\0\0\x01\0\x81a\x02\xff");
        file.extend_from_slice(b"\x00\x05three\x05value");
        (file, hash)
    }

    #[test]
    fn a_damaged_key_is_named_and_the_rest_counted() {
        let (mut bytes, hash) = file();
        bytes.push(0xff);
        bytes.extend_from_slice(&[0; 8]);
        let findings = examine(&mut &bytes[..], &Limits::default());
        assert_eq!((findings.readable, findings.damaged, &findings.end), (3, 1, &None));
        assert_eq!(
            findings.lines(),
            [
                format!("[offset {hash}] key 'hash' of database 0, type 16: Hash listpack integrity check failed."),
                "3 keys can be read, 1 are damaged".to_owned()
            ]
        );
    }

    #[test]
    fn damaged_framing_ends_it() {
        let (mut bytes, _) = file();
        let end = bytes.len();
        bytes.extend_from_slice(b"\xc8 nonsense");
        let findings = examine(&mut &bytes[..], &Limits::default());
        assert_eq!((findings.readable, findings.damaged), (3, 1));
        let error = findings.end.as_ref().expect("it ends early");
        assert!(error.offset >= end as u64, "{error}");
        assert!(findings.lines()[1].ends_with("nothing behind it can be read"), "{:?}", findings.lines());
    }
}
